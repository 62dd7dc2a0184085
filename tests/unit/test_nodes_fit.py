"""Why something does not fit where, quorum, and who fetches which image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.engine.model import LABEL_APP, Node, Service, Snapshot, Task, TaskState
from hunqi.nodes.errors import AgentUnreachableError
from hunqi.nodes.fit import explain, keeps_quorum_without, quorum_warnings
from hunqi.nodes.listing import describe
from hunqi.nodes.model import AgentStatus, NodeRecord
from hunqi.nodes.spread import NodeImages, assign
from hunqi.nodes.wire import ImageAnswer

GIB = 2**30


def node(name: str, **more: Any) -> Node:
    made = Node(
        id=f"id-{name}",
        version=1,
        hostname=name,
        role="manager",
        availability="active",
        state="ready",
        address="10.0.0.1",
        labels={},
        is_leader=False,
        reachable=True,
        nano_cpus=2 * 10**9,
        memory_bytes=4 * GIB,
        engine_version="20.10",
        platform="linux/x86_64",
        spec={},
    )
    return replace(made, **more)


def spec(**template: Any) -> dict[str, Any]:
    return {"TaskTemplate": template}


def reserve(memory: int = 0, cpus: float = 0) -> dict[str, Any]:
    return {"Reservations": {"MemoryBytes": memory, "NanoCPUs": int(cpus * 10**9)}}


def service(name: str, spec_: Mapping[str, Any]) -> Service:
    labels = {LABEL_APP: "shop"}
    return Service(id=f"id-{name}", version=1, name=name, labels=labels, spec=spec_, created_at="", updated_at="")


def task(of: Service, on: Node, number: int = 1, state: TaskState = TaskState.RUNNING) -> Task:
    return Task(
        id=f"{of.name}.{number}.{on.hostname}",
        service_id=of.id,
        node_id=on.id,
        slot=number,
        state=state,
        desired_state=TaskState.RUNNING,
        message="",
        error="",
        exit_code=None,
        container_id=None,
        pid=None,
        addresses={},
        image="",
        created_at="",
        updated_at="",
    )


def snapshot(nodes: Iterable[Node], tasks: Iterable[tuple[Service, Task]] = ()) -> Snapshot:
    services = {of.name: of for of, _ in tasks}
    held: dict[str, tuple[Task, ...]] = {}
    for of, each in tasks:
        held[of.id] = (*held.get(of.id, ()), each)
    return Snapshot(
        services=services,
        tasks=held,
        nodes={each.id: each for each in nodes},
        networks={},
        secrets={},
        configs={},
        taken_at=0.0,
    )


def test_memory_that_is_reserved_already_counts() -> None:
    one, two = node("one"), node("two")
    db = service("shop_db-r1", spec(Resources=reserve(3 * GIB)))
    seen = snapshot([one, two], [(db, task(db, one)), (db, task(db, two, state=TaskState.SHUTDOWN))])
    why = explain(spec(Resources=reserve(2 * GIB)), seen)
    assert why == {"one": "it needs 2.00 GiB of memory reserved, one has 1.00 GiB free", "two": ""}


@pytest.mark.parametrize(
    ("template", "more", "said"),
    [
        ({"Resources": reserve(0, 3)}, {}, "it needs 3 cpus reserved, one has 2 free"),
        ({"Placement": {"Constraints": ["node.labels.disk==ssd"]}}, {}, "it must run where node.labels.disk==ssd"),
        ({"Placement": {"Constraints": ["node.role != manager"]}}, {}, "node.role of one is manager"),
        ({"Placement": {"Constraints": ["node.hostname==two"]}}, {}, "node.hostname of one is one"),
        (
            {"Placement": {"Platforms": [{"OS": "linux", "Architecture": "arm64"}]}},
            {},
            "linux/arm64, one is linux/amd64",
        ),
        ({}, {"availability": "drain"}, "one is drained"),
        ({}, {"availability": "pause"}, "one is paused"),
        ({}, {"state": "down"}, "one is down"),
    ],
)
def test_every_filter_of_swarm_has_its_sentence(template: dict[str, Any], more: dict[str, Any], said: str) -> None:
    assert said in explain(spec(**template), snapshot([node("one", **more)]))["one"]


@pytest.mark.parametrize(
    "template",
    [
        {"Resources": reserve(4 * GIB, 2)},
        {"Placement": {"Constraints": ["node.labels.disk==ssd", "node.labels.zone!=b", "node.id==id-one"]}},
        {"Placement": {"Constraints": ["engine.labels.x==y"]}},
        {
            "Placement": {
                "Platforms": [{"OS": "linux", "Architecture": "x86_64"}, {"OS": "linux", "Architecture": "arm64"}]
            }
        },
        {"Placement": {"Platforms": [{"OS": "linux"}]}},
        {"Placement": None, "Resources": None},
        {},
    ],
)
def test_what_fits_has_none(template: dict[str, Any]) -> None:
    assert explain(spec(**template), snapshot([node("one", labels={"disk": "SSD"})]))["one"] == ""


def test_no_more_than_so_many_on_a_node() -> None:
    one = node("one")
    web = service("web", spec(Placement={"MaxReplicas": 1}))
    why = explain(web.spec, snapshot([one], [(web, task(web, one))]), service_id=web.id)
    assert "no more than 1 may be on a node" in why["one"]


@pytest.mark.parametrize(
    ("managers", "reachable", "said"),
    [
        (1, 1, ""),
        (3, 3, ""),
        (5, 5, ""),
        (2, 2, "worse than one"),
        (4, 4, "odd"),
        (7, 7, "slow"),
        (3, 2, "loss of one more"),
    ],
)
def test_the_number_of_managers_is_judged(managers: int, reachable: int, said: str) -> None:
    nodes = [node(f"n{at}", reachable=at < reachable) for at in range(managers)]
    found = quorum_warnings([*nodes, node("w", role="worker")])
    assert (not found) if not said else any(said in each for each in found)


def test_quorum_without_a_manager() -> None:
    three = [node(name) for name in ("a", "b", "c")]
    assert keeps_quorum_without(three, "id-a")
    assert not keeps_quorum_without([*three[:2], node("c", reachable=False)], "id-a")
    assert not keeps_quorum_without(three[:2], "id-a")
    assert keeps_quorum_without([*three, node("w", role="worker")], "id-w")


def test_a_list_of_nodes_says_what_runs_where_and_what_is_wrong() -> None:
    one, two, three = node("one"), node("two", role="worker"), node("three", role="worker", state="down")
    web = service("shop_web-r1", spec(Resources=reserve(GIB, 0.5)))
    seen = snapshot([three, two, one], [(web, task(web, two, 1)), (web, task(web, two, 2))])
    records = {each.id: NodeRecord(node=each.id, name=each.hostname, address="x:1") for each in (one, two)}
    status = AgentStatus(node=one.id, version="1", table=1, roster=1, gateway=True)
    view = describe(seen, records, status=lambda each: status if each == one.id else None)
    assert [(each.name, each.agent) for each in view.nodes] == [("one", "up"), ("three", "none"), ("two", "silent")]
    assert view.nodes[2].services == {"shop/shop_web-r1": 2}
    assert view.nodes[2].reserved_memory_bytes == 2 * GIB
    assert any("down" in each for each in view.nodes[1].warnings)


@given(
    st.lists(st.sampled_from("abcdef"), unique=True, min_size=1),
    st.dictionaries(st.sampled_from(["i1", "i2", "i3"]), st.sets(st.sampled_from("abcdef"))),
    st.integers(1, 6),
)
def test_after_its_orders_every_image_is_on_enough_nodes(
    nodes: list[str], holders: dict[str, set[str]], copies: int
) -> None:
    holders = {image: held & set(nodes) for image, held in holders.items()}
    enough = min(copies, len(nodes))
    orders = assign(nodes, holders, copies=enough)
    for image, held in holders.items():
        fetching = {node for node, images in orders.items() if image in images}
        assert not fetching & held
        assert len(fetching | held) == max(enough, len(held))


class MemoryAgents:
    """Nodes' mirrors in memory."""

    def __init__(self, held: dict[str, set[str]], *, dead: Iterable[str] = (), missing: Iterable[str] = ()) -> None:
        self.whole = held
        self.dead = set(dead)
        self.missing = set(missing)
        self.calls: list[tuple[str, str]] = []
        self.pins: dict[str, Mapping[str, str]] = {}

    def _reach(self, what: str, node: str) -> None:
        self.calls.append((what, node))
        if node in self.dead:
            raise AgentUnreachableError(node, "no answer in time")

    async def held(self, node: str, images: Iterable[str]) -> ImageAnswer:
        self._reach("held", node)
        return ImageAnswer(done=tuple(each for each in images if each in self.whole[node]))

    async def warm(self, node: str, images: Iterable[str]) -> ImageAnswer:
        self._reach("warm", node)
        failures = {each: "no source has it" for each in images if each in self.missing}
        self.whole[node] |= set(images) - self.missing
        return ImageAnswer(done=tuple(each for each in images if each not in failures), failures=failures)

    async def set_pins(self, node: str, pins: Mapping[str, str]) -> ImageAnswer:
        self._reach("pins", node)
        self.pins[node] = pins
        return ImageAnswer()

    async def prune(self, node: str, keep: Iterable[str]) -> ImageAnswer:
        self._reach("prune", node)
        assert set(keep) == set(self.pins[node]), "what is kept is known before anything is removed"
        return ImageAnswer()


async def test_images_are_fetched_where_they_are_lacking_and_nowhere_else() -> None:
    agents = MemoryAgents({"a": {"i1", "i2"}, "b": {"i1"}, "c": set()})
    images = NodeImages(agents, lambda: ["a", "b", "c"])
    assert await images.spread(["i1", "i2"], copies=2) == []
    assert sum("i2" in held for held in agents.whole.values()) == 2
    assert sum("i1" in held for held in agents.whole.values()) == 2
    agents.calls.clear()
    assert await images.spread(["i1", "i2"], copies=2) == []
    assert {what for what, _ in agents.calls} == {"held"}


async def test_on_one_node_one_is_enough() -> None:
    agents = MemoryAgents({"a": set()})
    assert await NodeImages(agents, lambda: ["a"]).spread(["i1"], copies=2) == []


async def test_what_is_lacking_is_said_with_its_reason() -> None:
    agents = MemoryAgents({"a": {"i1"}, "b": set(), "c": set()}, missing=["i2"], dead=["b", "c"])
    said = await NodeImages(agents, lambda: ["a", "b", "c"]).spread(["i1", "i2"], copies=2)
    assert len(said) == 2
    assert said[0].startswith("i1 is on 1 of 2 nodes: node ")
    assert "does not answer" in said[0]


async def test_pins_are_told_before_anything_is_removed() -> None:
    agents = MemoryAgents({"a": set(), "b": set()}, dead=["b"])
    images = NodeImages(agents, lambda: ["a", "b"])
    await images.pin({"shop": ["i1"], "blog": ["i1", "i2"]})
    await images._round(images._pins or {})
    assert agents.pins == {"a": {"i1": "app shop", "i2": "app blog"}}
    assert ("prune", "a") in agents.calls
    assert ("prune", "b") not in agents.calls
