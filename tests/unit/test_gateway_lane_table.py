"""Lanes, from what an app is to serve to Envoy's words."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.apps.lanes import KeyKind, LaneKey, LaneMatch
from hunqi.apps.model import AppSpec, Match, Protocol, RouteSpec, ServiceSpec
from hunqi.apps.serving import Backend, Lane, Serving, Share
from hunqi.gateway.envoy import without
from hunqi.gateway.hold import Holds
from hunqi.gateway.lanes import sound_lane, user_number
from hunqi.gateway.model import AppLane, Edge, Place, RouteTable, Target
from hunqi.gateway.page import rows_of
from hunqi.gateway.render import Renderer, render
from hunqi.gateway.table import assemble, build_part, build_table, tls_hosts
from hunqi.kit.codec import dumps, loads
from support_gateway import service, serving, snapshot, task

OLD, NEW = "shop_web-r1:8080", "shop_web-r2:8080"
BETA = LaneMatch(headers=(Match(name="x-beta", kind="present"),))


def released(*services: ServiceSpec, weight: int = 500, **changes: object) -> Serving:
    """The shop with ``web`` and ``api``, and a lane in which ``services`` (``web`` by default) are new ones."""
    fresh = services or (service(),)
    stable = serving(services=[service(), service("api", port=9000)])
    spec = AppSpec(name="shop", services={**stable.spec.services, **{each.name: each for each in fresh}})
    own = {each.name: f"shop_{each.name}-r2" for each in fresh}
    lane = Lane(
        name="r2",
        salt="s",
        spec=spec,
        shares={name: (Share(backend=own[name]),) if name in own else stable.shares[name] for name in spec.services},
        weight=weight,
    )
    backends = [Backend(name=own[each.name], service=each.name, revision=2, spec=each) for each in fresh]
    return replace(stable, backends=(*stable.backends, *backends), lane=replace(lane, **changes))  # type: ignore[arg-type]


def built(offer: Serving, edge: Edge | None = None) -> RouteTable:
    tasks = {each.name: [task(1, backend=each.name)] for each in offer.backends}
    return build_table([offer], snapshot(tasks), edge or Edge(), version=1)


def by_lane(table: RouteTable, host: str) -> dict[str, tuple[Target, ...]]:
    return {each.lane: each.targets for each in table.routes if host in each.spec.hosts}


@given(st.text(max_size=50), st.binary(max_size=300))
def test_a_number_is_below_ten_thousand_and_the_same_at_all_times(salt: str, value: bytes) -> None:
    assert 0 <= user_number(salt, value) < 10_000
    assert user_number(salt, value) == user_number(salt, value)


def uneven(cells: list[int], count: int) -> float:
    """Return chi-squared of ``cells``, each of which is as likely."""
    mean = len(cells) / count
    found = Counter(cells)
    return sum((found[each] - mean) ** 2 / mean for each in range(count))


@pytest.mark.parametrize("form", ["user-{}", "{:032x}"])
def test_numbers_are_even_also_of_ids_that_are_alike(form: str) -> None:
    """By chi-squared, below its 99.99 % point; those by two salts must not go along with one another either."""
    users = [form.format(number).encode() for number in range(50_000)]
    numbers = [user_number("shop-7", each) for each in users]
    others = [user_number("shop-8", each) for each in users]
    assert uneven([each // 10 for each in numbers], 1000) < 1170
    both = [one * 32 // 10_000 * 32 + other * 32 // 10_000 for one, other in zip(numbers, others, strict=True)]
    assert uneven(both, 1024) < 1200


def test_known_numbers_stay_what_they_are() -> None:
    """Another hash would send users of a rollout back."""
    assert [user_number("spring", each) for each in (b"u1", b"u2", b"", b"x" * 9000)] == [3528, 8715, 292, 3130]


def test_a_lane_adds_its_routes_and_leaves_the_others_alone() -> None:
    offer = released(service(routes=(RouteSpec(port=8080, hosts=("web.test", "beta.test")),)))
    table = built(offer)
    assert by_lane(table, "web.test") == {"": (Target(cluster=OLD),), "r2": (Target(cluster=NEW),)}
    assert by_lane(table, "beta.test") == {"r2": (Target(cluster=NEW),)}
    shared = (Target(cluster="shop_api-r1:9000"),)
    assert by_lane(table, "api.test") == {"": shared, "r2": shared}
    assert "beta.test" in tls_hosts(table)
    assert table.lanes == (AppLane(app="shop", name="r2", salt="s", weight=500),)
    assert loads(RouteTable, dumps(table)) == table
    stable = built(replace(offer, lane=None, backends=offer.backends[:2]))
    assert [each for each in table.routes if not each.lane] == list(stable.routes)


def test_a_port_that_only_the_new_revision_has_is_a_cluster_of_its_tasks() -> None:
    table = built(released(service(port=8888)))
    assert by_lane(table, "web.test")["r2"] == (Target(cluster="shop_web-r2:8888"),)
    assert table.clusters["shop_web-r2:8888"].hold_s == 30.0


def test_a_lane_into_which_nobody_can_come_has_no_routes_but_is_there_inside() -> None:
    table = built(released(weight=0))
    assert table.lanes == ()
    assert {each.lane for each in table.routes} == {""}
    assert {each.lane for each in table.internal if each.host == "web"} == {"", "r2"}
    assert built(released(weight=0, matches=(BETA,))).lanes[0].matches == (BETA,)


def test_inside_only_services_of_the_lane_have_two_ways() -> None:
    table = built(released(service(), service("mail", port=25)))
    ways = {(each.host, each.lane): each.targets[0].cluster for each in table.internal}
    assert ways == {
        ("web", ""): OLD,
        ("web", "r2"): NEW,
        ("api", ""): "shop_api-r1:9000",
        # Only the new revision has it: whoever asks for it means that one.
        ("mail", ""): "shop_mail-r2:25",
    }
    assert {alias for join in table.networks for alias in join.aliases} == {"api", "mail", "web"}


def test_copies_go_only_to_tasks_of_the_lane() -> None:
    table = built(released(mirror=2500))
    mirrors = {each.service: each.mirror for each in table.routes if not each.lane}
    assert mirrors["api"] is None
    assert mirrors["web"] is not None
    assert (mirrors["web"].share, mirrors["web"].targets) == (2500, (Target(cluster=NEW),))
    assert not any(each.mirror for each in table.routes if each.lane)
    cold = without(table, {NEW})
    assert not any(each.mirror and each.mirror.targets for each in cold.routes)
    assert "request_mirror_policies" in json.dumps(render(table, Place(node="n1")))
    assert "request_mirror_policies" not in json.dumps(render(cold, Place(node="n1")))


def test_connections_and_datagrams_stay_with_the_stable_revision() -> None:
    ports = (
        RouteSpec(port=1, protocol=Protocol.TCP, tcp_port=20001),
        RouteSpec(port=2, protocol=Protocol.UDP, tcp_port=20002),
    )
    table = built(released(service(routes=ports)))
    assert not [each for each in table.routes if each.lane and each.service == "web"]


def test_other_weights_change_one_file_and_no_listener() -> None:
    renderer = Renderer(Place(node="n1"))
    offer = released(matches=(BETA,))
    before = renderer.render(built(offer))
    after = renderer.render(built(released(weight=5000, matches=(BETA,))))
    assert {path for path in before if after[path] != before[path]} == {"rds/public.json"}
    none = renderer.render(built(replace(offer, lane=None)))
    assert after["lds.json"] is none["lds.json"] is before["lds.json"]


def test_hosts_without_a_lane_are_as_they_would_be_without_any() -> None:
    offers = [released(), serving("blog", services=[service("log")])]
    tasks = snapshot({}, apps=("shop", "blog"))

    def hosts(some: list[Serving]) -> dict[str, object]:
        (public,) = render(build_table(some, tasks, Edge()), Place(node="n1"))["rds/public.json"]
        return {each["name"]: each for each in public["virtual_hosts"]}

    plain = hosts([replace(offers[0], lane=None), offers[1]])
    mixed = hosts(offers)
    assert [name for name in plain if mixed[name] != plain[name]] == ["api.test", "web.test"]
    assert "Lua" not in json.dumps(plain)


def test_another_apps_place_is_not_taken_by_a_lane() -> None:
    shop = released(service(routes=(RouteSpec(port=8080, hosts=("log.test",)),)))
    blog = serving("zblog", services=[service("log")])
    parts = [build_part(each, snapshot({}, apps=("shop", "zblog"))) for each in (shop, blog)]
    table, problems = assemble(parts, Edge(), (), version=1)
    assert [(each.app, each.lane) for each in table.routes if "log.test" in each.spec.hosts] == [("zblog", "")]
    assert "zblog's log has the same place" in problems["shop"][0]


WRONG = [
    LaneMatch(headers=(Match(name="x a"),)),
    LaneMatch(headers=(Match(name="x-hunqi-lane", value="r2"),)),
    LaneMatch(cookies=(Match(name="a", kind="regex", value="(?=x)"),)),
    LaneMatch(query=(Match(name="a", kind="like", value="b"),)),
    LaneMatch(sources=("10.0.0.0/33",)),
    LaneMatch(users=0),
]


@pytest.mark.parametrize("match", WRONG)
def test_a_match_that_cannot_be_tried_chooses_nobody_and_is_named(match: LaneMatch) -> None:
    offer = released(matches=(BETA, match))
    table, problems = assemble([build_part(offer, snapshot({}))], Edge(), (), version=1)
    assert table.lanes[0].matches == (BETA,)
    assert len(problems["shop"]) == 1
    only = released(weight=0, matches=(match,))
    table, problems = assemble([build_part(only, snapshot({}))], Edge(), (), version=1)
    assert (table.lanes, {each.lane for each in table.routes}) == ((), {""})


def test_a_key_that_cannot_be_one_leaves_the_lane_empty() -> None:
    lane = AppLane(app="shop", name="r2", salt="s", weight=1, key=LaneKey(kind=KeyKind.COOKIE, name="a;b"))
    assert sound_lane(lane) == (None, ["nobody is sent to r2: 'a;b' is no name of a cookie"])


def test_the_page_says_who_goes_to_the_lane() -> None:
    rows = {each.to for each in rows_of(built(released()), frozenset("*")) if "web.test" in each.url}
    assert rows == {(OLD,), (f"{NEW} (lane r2: 5 % of users)",)}


async def test_requests_wait_for_tasks_of_their_own_lane() -> None:
    holds = Holds(max_held=10)
    table = built(released())
    await holds.update(table)
    await holds.found_healthy({NEW, "shop_api-r1:9000"})
    assert await holds.wait(NEW) == NEW
    assert await holds.wait("shop/web:8080@r2") == NEW
    assert await holds.wait("shop/api:9000@r2") == "shop_api-r1:9000"
    await holds.found_healthy({OLD})
    assert await holds.wait(OLD) == OLD
    # After an abort those of the lane go where all others do.
    await holds.update(built(replace(released(), lane=None)))
    assert await holds.wait("shop/web:8080@r2") == OLD
    assert await holds.wait(NEW) == OLD
