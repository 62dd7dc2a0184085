"""What Envoy would refuse never reaches it; where something does, what served before serves on, and it is said."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hunqi.apps.lanes import KeyKind, LaneKey, LaneMatch
from hunqi.apps.model import Cors, Match, Protocol, RateLimit, RouteSpec
from hunqi.gateway.envoy import Envoy
from hunqi.gateway.faults import sound_routes
from hunqi.gateway.files import ResourceFiles
from hunqi.gateway.lanes import sound_lane
from hunqi.gateway.model import AppLane, Certificate, Edge, InternalRoute, Route, RouteTable, Target
from hunqi.gateway.render import Renderer, render
from testbed.authority import Authority
from testbed.gateway import Gateway, backend, cluster, free_port, gateway, route, table

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("gateway")]

TEXTS = [
    "",
    "a",
    "x-a",
    "*",
    "%",
    "%REQ(x)%",
    "a b",
    "é",
    "\n",
    "\0",
    "a" * 300,
    '"',
    "\\",
    "\\1",
    "//",
    "{}",
    "[::]",
    "host",
    "-",
]
REGEXES = [
    "a+",
    "(a|b)*c",
    "(?i)x",
    "(?=x)a",
    r"(a)\1",
    "a++",
    "[",
    "a{2,5}",
    "a{5000}",
    "(?P<n>x)",
    "",
    "\\d+",
    r"\p{Greek}",
    "(?<n>x)",
]
HOSTS = [
    "a.test",
    "*.a.test",
    "*",
    "a_b.test",
    "a..b",
    "A.Test",
    "a.test:80",
    "-a.test",
    "xn--e1a.test",
    "a.*.test",
    "1.2.3.4",
    "",
]
PATHS = [
    "/",
    "=/",
    "/a",
    "=/a/b",
    "/a/",
    "//",
    "/a//b",
    "/%2e",
    "/a;b",
    "/é",
    "a",
    "/a?b",
    "/a#b",
    "/a b",
    "/*",
    "/{x}",
    "/a:b",
]
NETWORKS = ["10.0.0.0/8", "1.2.3.4", "::1", "fe80::/10", "10.0.0.1/8", "10.0.0.0/40", "x", "0.0.0.0/0"]


@pytest.fixture
async def envoy_at(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path) as running:
        yield running


def nasty(chance: random.Random, number: int) -> Route:
    """A route with a few odd values, each of which a user could have written."""
    pick = chance.choice
    some = chance.random

    def texts() -> dict[str, str]:
        return {pick(TEXTS) or "x": pick(TEXTS) for _ in range(chance.randrange(2))} if some() < 0.4 else {}

    odd: dict[str, Any] = {
        "tls": pick(["off", "auto", "auto", "passthrough"]),
        "hosts": tuple(pick(HOSTS) if some() < 0.5 else f"h{number}.test" for _ in range(chance.randrange(3))),
        "path": pick(PATHS),
        "headers": (Match(name=pick(["x-a", *TEXTS]), kind="regex", value=pick(REGEXES)),) if some() < 0.4 else (),
        "protocol": pick([Protocol.HTTP1, Protocol.HTTP1, Protocol.HTTP2, Protocol.TCP, Protocol.UDP]),
        "strip_prefix": some() < 0.3,
        "replace_prefix": pick([None, None, *PATHS]),
        "host_rewrite": pick([None, None, *HOSTS]),
        "redirect": pick(
            [None, None, None, "https", "https://a.test/x?y", "http://[::1]:8080/", "ftp://x", "https://", "//x"]
        ),
        "redirect_code": pick([301, 302, 307, 308, 200]),
        "cors": Cors(origins=(pick(["*", "https://*.a.test", "(", *TEXTS]),), headers=(pick(TEXTS),))
        if some() < 0.3
        else None,
        "body_limit_bytes": pick([None, None, 0, 1, 2**32 - 1, 2**40]),
        "rate_limit": RateLimit(requests=pick([0, 1, 7, 10**9]), per_s=pick([0.0, 0.001, 1.0, 3600.0]))
        if some() < 0.3
        else None,
        "basic_auth": (pick(["a:{SHA}" + "A" * 27 + "=", "a:b", ":", "", "a:{SHA}x"]),) if some() < 0.3 else (),
        "allow": (pick(NETWORKS),) if some() < 0.3 else (),
        "request_headers": texts(),
        "response_headers": texts(),
        "timeout_s": pick([0.0, 0.5, 60.0, 1e7]),
        "idle_timeout_s": pick([0.0, 300.0]),
        "retries": pick([0, 2, 100]),
        "tcp_port": pick([None, None, 443, 20_500 + number, 80]),
    }
    plain = RouteSpec(port=8080, hosts=(f"h{number}.test",))
    spec = replace(plain, **{name: odd[name] for name in chance.sample(sorted(odd), chance.randrange(1, 4))})
    targets = (Target(cluster="shop_web-r1:8080"),) if some() < 0.9 else ()
    return Route(
        app=f"app{number % 7}", service=f"s{number}", spec=spec, targets=targets, maintenance=pick([None, None, "x%y"])
    )


def nasty_lane(chance: random.Random, app: str) -> AppLane:
    """A lane with conditions that a user could have written."""
    pick = chance.choice

    def some() -> tuple[Match, ...]:
        kinds = ("exact", "prefix", "regex", "present", "odd")
        return tuple(
            Match(name=pick(["x-a", *TEXTS]), kind=pick(kinds), value=pick([*TEXTS, *REGEXES]))
            for _ in range(pick([0, 0, 1, 2]))
        )

    matches = tuple(
        LaneMatch(
            headers=some(),
            cookies=some(),
            query=some(),
            sources=tuple(pick(NETWORKS) for _ in range(pick([0, 0, 1]))),
            users=pick([0, 1, 10_000, 10_001]),
        )
        for _ in range(12)
    )
    key = LaneKey(kind=pick(list(KeyKind)), name=pick(["a", "b", *TEXTS]))
    return AppLane(app=app, name="r2", salt=pick(TEXTS), weight=pick([0, 1, 10_000]), matches=matches, key=key)


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_that_is_found_sound_is_refused_by_envoy(envoy_at: Gateway, seed: int) -> None:
    chance = random.Random(seed)
    edge = Edge(tcp_ports=(20_500, 32_000))
    made = [nasty(chance, number) for number in range(400)]
    made += [replace(each, lane="r2") for each in made[:200]]
    routes, problems = sound_routes(made, edge)
    lanes = [found for app in range(7) if (found := sound_lane(nasty_lane(chance, f"app{app}"))[0])]
    routes = [each for each in routes if not each.lane or each.app in {lane.app for lane in lanes}]
    assert any(each.lane for each in routes)
    assert len(routes) > 100
    assert problems
    async with backend() as task:
        # Ports are taken by others now and then; the point here is what Envoy says of words.
        few = [each for each in routes if each.spec.tcp_port in {None, 443}]
        wanted = table(cluster(task, hold_s=1.0), routes=tuple(few), edge=edge, version=2, lanes=tuple(lanes))
        await envoy_at.apply(wanted)


async def test_certificates_and_chains_that_overlap_are_not_refused(envoy_at: Gateway, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")

    def given(*hosts: str) -> Certificate:
        issued = authority.issue(hosts=hosts or ("x.test",))
        return Certificate(hosts=hosts, chain_pem=issued.cert_file.read_text(), key_pem=issued.key_file.read_text())

    certificates = (given("a.test"), given("a.test", "b.test"), given("A.test"), given(), given(), given("*.a.test"))
    port = free_port()
    inside = InternalRoute(
        app="a", service="w", host="w", port=port, subnets=("127.3.0.0/16",), protocol=Protocol.HTTP1, targets=()
    )
    internal = tuple(
        replace(inside, protocol=protocol, app=app) for protocol in (Protocol.TCP, Protocol.HTTP1) for app in ("a", "b")
    )
    sni = RouteSpec(port=1, hosts=("a.test", "*.b.test"), protocol=Protocol.TCP, tls="passthrough")
    routes = tuple(Route(app=app, service="s", spec=sni, targets=()) for app in ("a", "b"))
    await envoy_at.apply(table(certificates=certificates, internal=internal, routes=routes, version=2))


async def test_a_refused_table_is_said_and_the_last_one_serves_on(envoy_at: Gateway) -> None:
    async with backend() as task, aiohttp.ClientSession() as client:
        good = table(cluster(task), routes=(route(),), version=2)
        await envoy_at.apply(good)
        await envoy_at.healthy(1)
        poison = replace(route("evil.test", request_headers={":path": "/x"}), app="evil")
        await envoy_at.envoy.apply(replace(good, routes=(route(), poison), version=3))
        report = await refused(envoy_at.envoy)
        assert "refused" in report.problem
        assert report.version == 2
        async with client.get(envoy_at.url(), headers={"host": "shop.test"}) as answer:
            assert answer.status == 200
        await envoy_at.apply(replace(good, version=4))
        assert (await envoy_at.envoy.observe()).problem == ""


async def refused(envoy: Envoy):
    async with asyncio.timeout(10):
        while not (report := await envoy.observe()).problem:
            await asyncio.sleep(0.02)
    return report


@pytest.mark.parametrize("written", range(8))
async def test_an_agent_killed_between_any_two_files_goes_on_from_there(envoy_at: Gateway, written: int) -> None:
    """Only the first files of a new table were written; another agent takes over, and nobody notices."""
    async with backend("old") as old, backend("new") as new, aiohttp.ClientSession() as client:
        before = table(cluster(old, hold_s=5.0), routes=(route(),), version=2)
        await envoy_at.apply(before)
        await envoy_at.healthy(1)
        name = "shop_web-r2:8080"
        after = table(
            cluster(new, name=name, hold_s=5.0), routes=(route("shop.test", Target(cluster=name)),), version=3
        )
        await load_while(client, envoy_at, half_write(envoy_at, before, after, written))
        again = Envoy(envoy_at.folder, envoy_at.place, envoy_at.admin)
        await load_while(client, envoy_at, settle(again, after))
        async with client.get(envoy_at.url(), headers={"host": "shop.test"}) as answer:
            assert (await answer.json())["task"] == "new"
        assert {each.name for each in (envoy_at.folder / "eds").glob("*.json")} == {
            path.removeprefix("eds/") for path in render(after, envoy_at.place) if path.startswith("eds/")
        }


async def half_write(at: Gateway, before: RouteTable, after: RouteTable, written: int) -> None:
    files = ResourceFiles(at.folder)
    wanted = Renderer(at.place).render(after)
    before_it = Renderer(at.place).render(before)["cds.json"]
    clusters = (*wanted["cds.json"], *(each for each in before_it if each not in wanted["cds.json"]))
    order = [path for path in wanted if path.startswith("eds/")] + ["cds.json"]
    order += [path for path in wanted if path.startswith("rds/")] + ["lds.json"]
    for path in order[:written]:
        files.write(path, clusters if path == "cds.json" else wanted[path])
        await asyncio.sleep(0.15)


async def settle(envoy: Envoy, wanted: RouteTable) -> None:
    await envoy.apply(wanted)
    async with asyncio.timeout(10):
        while (await envoy.observe()).version != wanted.version or not envoy.settled:
            await asyncio.sleep(0.02)


async def load_while(client: aiohttp.ClientSession, at: Gateway, work) -> None:
    """Do ``work`` under requests, none of which may fail."""
    statuses: list[int] = []
    done = asyncio.Event()

    async def ask() -> None:
        while not done.is_set():
            async with client.get(at.url(), headers={"host": "shop.test"}) as answer:
                await answer.read()
                statuses.append(answer.status)

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask()) for _ in range(4)]
        await work
        await asyncio.sleep(0.1)
        done.set()
    assert len(asking) == 4
    assert set(statuses) == {200}
