"""What a check says to people, and the order of a deploy."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hunqi.apps.compose.compile import compile_project
from hunqi.apps.compose.explain import demand, explain
from hunqi.apps.compose.graph import cycle, waves
from hunqi.apps.compose.project import Project

COMPOSE = """
services:
  web:
    image: shop/web:1
    runtime: runsc
    depends_on: {db: {condition: service_healthy}, migrate: {condition: service_completed_successfully}}
    deploy: {replicas: 3, resources: {reservations: {cpus: "0.5", memory: 100m}}}
    x-hunqi:
      routes:
        - {host: shop.example.com, port: 80}
        - {host: old.example.com, redirect: "https://shop.example.com/"}
  migrate: {image: "shop/web:1", restart: "no", depends_on: {db: {condition: service_healthy}}}
  nightly: {image: "shop/web:1", x-hunqi: {schedule: "0 3 * * *"}}
  agent: {image: "shop/agent:1", deploy: {mode: global}}
  db:
    image: postgres:15
    ports: ["20000:5432", "20001:5432/udp"]
    volumes: [data:/var/lib/postgresql/data, /etc/ssl:/etc/ssl:ro]
    deploy: {resources: {reservations: {memory: 1g}}}
volumes: {data: }
"""


def test_a_check_says_what_will_happen() -> None:
    compiled = compile_project(Project(name="shop", files={"compose.yaml": COMPOSE}, entry=("compose.yaml",)))

    assert explain(compiled) == (
        "ignored: compose.yaml:5: services.web.runtime: tasks run under the engine's default runtime",
        "changed: compose.yaml:12: services.migrate: it runs as a job, since others wait for it to complete",
        "privilege: compose.yaml:18: services.db.volumes[1]: mounts /etc/ssl of the node it runs on",
        "needs: 1.5 CPUs and 1.29 GiB reserved",
        "needs: 3 CPUs and 1.59 GiB while both revisions run",
        "needs: the volume data on the node that holds it, for db",
        "deploy 1: nightly, a job at 0 3 * * *, stop-first",
        "deploy 1: agent, a task on each node, stop-first",
        "deploy 1: db, 1 task, stop-first",
        "deploy 2: migrate, a job, stop-first, after db healthy",
        "deploy 3: web, 3 tasks, start-first, after db healthy, migrate complete",
        "route: shop.example.com/ → web:80",
        "route: old.example.com/ is redirected to https://shop.example.com/",
        "route: TCP port 20000 → db:5432",
        "route: UDP port 20001 → db:5432",
    )
    assert demand(compiled.spec).memory_bytes == (300 + 1024) * 2**20


names = st.sampled_from("abcdefg")
graphs = st.dictionaries(names, st.lists(names, max_size=3), max_size=7)


@given(graphs)
def test_waves_come_after_what_they_depend_on_unless_there_is_a_circle(edges: dict[str, list[str]]) -> None:
    found = cycle(edges)
    if found:
        assert found[0] == found[-1]
        assert all(after in edges[before] for before, after in pairwise(found))
        return
    order = waves(edges)
    place = {name: index for index, wave in enumerate(order) for name in wave}

    assert sorted(place) == sorted(edges)
    assert all(place[other] < place[name] for name, others in edges.items() for other in others if other in edges)
