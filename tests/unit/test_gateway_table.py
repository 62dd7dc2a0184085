"""From what apps are to serve and what runs, to the table."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hunqi.apps.model import Protocol, RouteSpec
from hunqi.apps.serving import Serving, Share
from hunqi.engine.model import Snapshot, TaskState
from hunqi.gateway.model import Edge, EndpointState, Place, RouteTable
from hunqi.gateway.render import Renderer, render
from hunqi.gateway.table import assemble, build_part, build_table
from hunqi.kit.codec import dumps, loads
from support_gateway import service, serving, snapshot, task


def test_tasks_become_endpoints_at_their_own_addresses() -> None:
    gone = task(3, state=TaskState.SHUTDOWN, desired_state=TaskState.SHUTDOWN)
    starting = task(4, state=TaskState.STARTING)
    tasks = [task(1), task(2), gone, starting]
    table = build_table([serving()], snapshot({"shop_web-r1": tasks}), Edge())
    cluster = table.clusters["shop_web-r1:8080"]
    assert [each.address for each in cluster.endpoints] == [
        tasks[0].addresses["net-shop_default"],
        tasks[1].addresses["net-shop_default"],
    ]
    assert {each.state for each in cluster.endpoints} == {EndpointState.SERVING}
    assert (cluster.app, cluster.service, cluster.revision, cluster.hold_s) == ("shop", "web", 1, 30.0)


def test_what_is_to_stop_drains_by_whoever_said_so() -> None:
    surplus = task(2, desired_state=TaskState.REMOVE)
    tasks = {"shop_web-r1": [task(1), surplus]}
    offer = serving()
    states = _states(build_table([offer], snapshot(tasks), Edge()))
    assert list(states.values()) == [EndpointState.SERVING, EndpointState.DRAINING]
    whole = replace(offer, draining=frozenset({"shop_web-r1"}))
    assert set(_states(build_table([whole], snapshot(tasks), Edge())).values()) == {EndpointState.DRAINING}


def test_an_address_that_two_tasks_have_belongs_to_the_one_that_serves() -> None:
    old = task(1, desired_state=TaskState.SHUTDOWN)
    new = replace(task(2), addresses=old.addresses)
    for order in ([old, new], [new, old]):
        table = build_table([serving()], snapshot({"shop_web-r1": order}), Edge())
        (endpoint,) = table.clusters["shop_web-r1:8080"].endpoints
        assert (endpoint.task, endpoint.state) == (new.id, EndpointState.SERVING)


def test_weights_go_to_the_backends_of_the_shares() -> None:
    first, second = serving(), serving(revision=2)
    both = replace(
        first,
        backends=first.backends + second.backends,
        shares={"web": (Share(backend="shop_web-r1", weight=90), Share(backend="shop_web-r2", weight=10))},
    )
    table = build_table([both], snapshot({"shop_web-r1": [task(1)], "shop_web-r2": []}), Edge())
    weights = {each.cluster: each.weight for each in table.routes[0].targets}
    assert weights == {"shop_web-r1:8080": 90, "shop_web-r2:8080": 10}
    assert table.internal[0].targets == table.routes[0].targets


def test_a_name_inside_belongs_to_the_subnets_of_its_app() -> None:
    offers = [serving("shop"), serving("blog")]
    table = build_table(offers, snapshot({}, apps=("shop", "blog")), Edge())
    subnets = {each.app: each.subnets for each in table.internal}
    assert subnets["shop"] != subnets["blog"]
    assert all(len(each) == 1 for each in subnets.values())
    assert [(each.network, each.aliases) for each in table.networks] == [
        ("blog_default", ("web",)),
        ("shop_default", ("web",)),
    ]


def test_a_route_that_cannot_be_served_is_named_and_harms_no_other() -> None:
    bad = RouteSpec(port=8080, hosts=("web.test",), request_headers={"Host": "x"})
    port = RouteSpec(port=1, protocol=Protocol.TCP, tcp_port=80)
    taken = RouteSpec(port=8080, hosts=("web.test",))
    first = serving("blog", services=[service(routes=(bad, port, taken))])
    parts = [build_part(each, snapshot({})) for each in (first, serving("shop"))]
    table, problems = assemble(parts, Edge(), (), version=1)
    assert [(each.app, each.spec) for each in table.routes] == [("blog", taken)]
    assert len(problems["blog"]) == 2
    assert "blog's web has the same place" in problems["shop"][0]


def test_two_listeners_never_want_one_port() -> None:
    """Envoy would refuse all of them."""
    port = RouteSpec(port=9, protocol=Protocol.TCP, tcp_port=20005)
    specs = [service("a", routes=(port,), internal_ports=(20005, 61080, 8080))]
    parts = [build_part(serving("shop", services=specs), snapshot({}))]
    table, problems = assemble(parts, Edge(), (), version=1)
    assert [each.port for each in table.internal] == [8080]
    assert len(problems["shop"]) == 2
    place = Place(node="n1")
    (listeners,) = (render(table, place)["lds.json"],)
    taken = [each["address"]["socket_address"]["port_value"] for each in listeners if "address" in each]
    assert len(taken) == len(set(taken))


@given(st.randoms(use_true_random=False), st.integers(0, 6), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_the_order_of_what_is_given_does_not_matter(chance: random.Random, apps: int, tasks: int) -> None:
    offers, running = _world(apps, tasks, chance)
    table = build_table(offers, _snapshot(running, apps), Edge(), version=3)
    chance.shuffle(offers)
    for each in running.values():
        chance.shuffle(each)
    again = build_table(offers, _snapshot(running, apps), Edge(), version=3)
    assert dumps(table) == dumps(again)
    assert loads(RouteTable, dumps(table)) == again
    place = Place(node="n1")
    assert render(table, place) == render(again, place)


@given(st.randoms(use_true_random=False), st.integers(1, 6), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_target_is_a_cluster_and_every_endpoint_a_running_task(
    chance: random.Random, apps: int, tasks: int
) -> None:
    offers, running = _world(apps, tasks, chance)
    table = build_table(offers, _snapshot(running, apps), Edge())
    targets = [target for route in (*table.routes, *table.internal) for target in route.targets]
    assert {each.cluster for each in targets} <= table.clusters.keys()
    alive = {each.id for some in running.values() for each in some if each.state is TaskState.RUNNING}
    serving_ones = {each.id for some in running.values() for each in some if each.serving}
    for cluster in table.clusters.values():
        assert {each.task for each in cluster.endpoints} <= alive
        taking = {each.task for each in cluster.endpoints if each.state is EndpointState.SERVING}
        assert taking <= serving_ones
        assert len({each.address for each in cluster.endpoints}) == len(cluster.endpoints)


@given(
    st.lists(st.tuples(st.randoms(use_true_random=False), st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=5)
)
@settings(max_examples=40, deadline=None)
def test_what_was_rendered_before_shows_in_nothing_that_is_rendered_now(
    worlds: list[tuple[random.Random, int, int]],
) -> None:
    place = Place(node="n1")
    renderer = Renderer(place)
    for chance, apps, tasks in worlds:
        offers, running = _world(apps, tasks, chance)
        for edge in (Edge(), Edge(https_port=8443, acme_challenge="10.0.0.1:9")):
            table = build_table(offers, _snapshot(running, apps), edge)
            table = replace(table, challenges={"token": str(apps)} if tasks else {})
            first = renderer.render(table)
            assert first == Renderer(place).render(table)
            again = renderer.render(loads(RouteTable, dumps(table)))
            assert all(again[path] is first[path] for path in first | again)


def test_text_that_is_no_unicode_keeps_no_other_route_out() -> None:
    table = big_table(2, 1, 1)
    text = "back at noon \ud83c"
    table = replace(table, routes=(replace(table.routes[0], maintenance=text), *table.routes[1:]))
    files = Renderer(Place(node="n1")).render(table)
    (public,) = (json.loads(each) for each in files["rds/public.json"])
    assert {"s0.app0.test", "s0.app1.test"} <= {host["name"] for host in public["virtual_hosts"]}
    assert text in json.dumps(public, ensure_ascii=False)
    "".join(each for texts in files.values() for each in texts).encode()


def test_two_hundred_apps_are_rendered_in_no_time() -> None:
    """Encoding included, and several times what it takes: for a slow machine that does other things too."""
    table = big_table(200, 5, 3)
    place = Place(node="n1")
    took: list[float] = []
    for _ in range(5):
        began = time.process_time()
        Renderer(place).render(table)
        took.append(time.process_time() - began)
    assert min(took) < 0.2, f"{min(took) * 1000:.0f} ms"


def big_table(apps: int, services: int, tasks: int) -> RouteTable:
    names = [f"app{number}" for number in range(apps)]
    specs = [service(f"s{number}", port=8000 + number) for number in range(services)]
    offers: list[Serving] = []
    for app in names:
        own = [
            replace(each, routes=(RouteSpec(port=each.internal_ports[0], hosts=(f"{each.name}.{app}.test",)),))
            for each in specs
        ]
        offers.append(serving(app, services=own))
    running = {
        f"{app}_{each.name}-r1": [task(number, app, f"{app}_{each.name}-r1") for number in range(1, tasks + 1)]
        for app in names
        for each in specs
    }
    return build_table(offers, snapshot(running, names), Edge(), version=1)


def _states(table: RouteTable) -> dict[str, EndpointState]:
    return {each.task: each.state for each in table.clusters["shop_web-r1:8080"].endpoints}


def _world(apps: int, tasks: int, chance: random.Random) -> tuple[list[Serving], dict[str, list]]:
    states = [TaskState.RUNNING, TaskState.RUNNING, TaskState.STARTING, TaskState.SHUTDOWN]
    wishes = [TaskState.RUNNING, TaskState.RUNNING, TaskState.SHUTDOWN, TaskState.REMOVE]
    offers = [serving(f"a{number}", services=[service(f"w{number}")]) for number in range(apps)]
    running = {
        offer.backends[0].name: [
            task(
                number,
                offer.app,
                offer.backends[0].name,
                state=chance.choice(states),
                desired_state=chance.choice(wishes),
            )
            for number in range(tasks)
        ]
        for offer in offers
    }
    return offers, running


def _snapshot(running: dict[str, list], apps: int) -> Snapshot:
    return snapshot(running, [f"a{number}" for number in range(apps)])
