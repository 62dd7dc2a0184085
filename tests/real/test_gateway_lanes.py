"""Two revisions at once: who goes where, on the real Envoy."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from hunqi.apps.lanes import KeyKind, LaneKey, LaneMatch
from hunqi.apps.model import Match, Protocol, RateLimit
from hunqi.gateway.lanes import user_number
from hunqi.gateway.model import InternalRoute, Mirror, Target
from testbed.gateway import Backend, Gateway, backend, cluster, free_port, gateway, holding, route, table
from testbed.lanes import EDGE, NEW, Canned, ask, canned, counted, lane, new, split

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("gateway")]

_SURE = 4.5
"""Standard deviations: a fair split is further off once in 150,000 times."""


@pytest.fixture
async def envoy_at(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path, EDGE) as running:
        yield running


@pytest.fixture
async def pair(envoy_at: Gateway) -> AsyncIterator[tuple[Canned, Canned]]:
    """The tasks of both revisions, healthy, the old one with all traffic (table 1)."""
    async with canned("old", "new") as (old, fresh):
        await envoy_at.apply(split(old, fresh, None, version=1))
        await envoy_at.healthy(1)
        await envoy_at.healthy(1, name=NEW)
        yield old, fresh


async def test_requests_of_nobody_known_are_split_by_weight_and_keep_what_they_are_given(
    envoy_at: Gateway, pair: tuple[Canned, Canned]
) -> None:
    for version, weight in enumerate((100, 500, 1000, 5000), 2):
        await envoy_at.apply(split(*pair, lane(weight), version=version))
        said = await ask(envoy_at.place.http_port, [""] * 3000)
        share = weight / 10_000
        off = abs(counted(said)["new"] - 3000 * share) / math.sqrt(3000 * share * (1 - share))
        assert off < _SURE
        # The very first request already goes by the id that is issued with its answer.
        assert [each.task == "new" for each in said] == [
            user_number("spring", each.cookie.encode()) < weight for each in said
        ]
        assert len({each.cookie for each in said}) == 3000


async def test_users_only_ever_move_to_the_new_revision(envoy_at: Gateway, pair: tuple[Canned, Canned]) -> None:
    await envoy_at.apply(split(*pair, lane(100), version=2))
    issued = [each.cookie for each in await ask(envoy_at.place.http_port, [""] * 1000)]
    users = [*issued, *(f"user-{number}" for number in range(1000)), "x" * 9000, "käse", 'a"b', *"abcdefgh"]
    heads = [f"cookie: a=1; hunqi-user={each}; z=2\r\n" for each in users]
    moved: set[str] = set()
    for version, weight in enumerate((100, 500, 1000, 5000, 10_000), 3):
        await envoy_at.apply(split(*pair, lane(weight), version=version))
        said = await ask(envoy_at.place.http_port, heads)
        now = {user for user, each in zip(users, said, strict=True) if each.task == "new"}
        assert now >= moved
        assert now == {each for each in users if user_number("spring", each.encode()) < weight}
        assert not any(each.cookie for each in said)
        moved = now
    assert len(moved) == len(users)


async def test_an_abort_and_other_weights_cut_nothing_and_act_at_once(
    envoy_at: Gateway, pair: tuple[Canned, Canned]
) -> None:
    async with backend("socket") as task, aiohttp.ClientSession() as client:
        steady = replace(route("socket.test", Target(cluster="sock:1")), app="sock")
        sock = cluster(task, name="sock:1", app="sock")

        def wanted(weight: int | None, version: int):
            made = split(*pair, lane(weight) if weight is not None else None, version=version)
            return replace(made, clusters={**made.clusters, sock.name: sock}, routes=(*made.routes, steady))

        await envoy_at.apply(wanted(None, 2))
        await envoy_at.healthy(1, name=sock.name)
        async with client.ws_connect(envoy_at.url("/socket"), headers={"host": "socket.test"}) as channel:
            listeners = (envoy_at.folder / "lds.json").read_bytes()
            for version, weight in enumerate((1, 5000, 10_000), 3):
                await envoy_at.apply(wanted(weight, version))
            assert counted(await ask(envoy_at.place.http_port, [""] * 100)) == {"new": 100}
            began = time.monotonic()
            await envoy_at.envoy.apply(wanted(None, 6))
            async with asyncio.timeout(2.0):
                while "new" in counted(await ask(envoy_at.place.http_port, [""] * 16)):
                    pass
            assert time.monotonic() - began < 2.0
            assert counted(await ask(envoy_at.place.http_port, [""] * 500)) == {"old": 500}
            assert (envoy_at.folder / "lds.json").read_bytes() == listeners
            await channel.send_str("still there")
            assert await channel.receive_str() == "socket: still there"


MATCHES = {
    "header": (LaneMatch(headers=(Match(name="x-team", value="blue"),)), "x-team: blue", "x-team: blues"),
    "header by prefix": (LaneMatch(headers=(Match(name="x-v", kind="prefix", value="2."),)), "x-v: 2.1", "x-v: 12."),
    "header by regex": (LaneMatch(headers=(Match(name="x-v", kind="regex", value="[ab]+"),)), "x-v: ab", "x-v: abc"),
    "header there": (LaneMatch(headers=(Match(name="x-beta", kind="present"),)), "x-beta: 0", "x-alpha: 1"),
    "cookie": (LaneMatch(cookies=(Match(name="beta", value="1"),)), "cookie: a=b; beta=1", "cookie: xbeta=1"),
    "cookie there": (LaneMatch(cookies=(Match(name="t", kind="present"),)), "cookie: t=0", "cookie: tt=t"),
    "network": (LaneMatch(sources=("10.1.0.0/16",)), "x-forwarded-for: 10.1.2.3", "x-forwarded-for: 10.2.0.1"),
    "address": (LaneMatch(sources=("10.1.2.3",)), "x-forwarded-for: 10.1.2.3", "x-forwarded-for: 10.1.2.4"),
    "odd length": (LaneMatch(sources=("10.1.4.0/23",)), "x-forwarded-for: 10.1.5.9", "x-forwarded-for: 10.1.6.1"),
    "network of IPv6": (
        LaneMatch(sources=("2001:db8:0:f0::/60",)),
        "x-forwarded-for: 2001:db8:0:ff::1",
        "x-forwarded-for: 2001:db8:0:100::1",
    ),
    "the proxy itself": (LaneMatch(sources=("127.0.0.0/8",)), "x-a: 1", "x-forwarded-for: 10.0.0.1"),
    "both of two": (
        LaneMatch(headers=(Match(name="x-a", value="1"),), cookies=(Match(name="b", value="2"),)),
        "x-a: 1\r\ncookie: b=2",
        "x-a: 1\r\ncookie: b=3",
    ),
    "users": (LaneMatch(users=5000), "cookie: hunqi-user=u1", "cookie: hunqi-user=u2"),
    "users of a team": (
        LaneMatch(users=5000, headers=(Match(name="x-team", value="blue"),)),
        "x-team: blue\r\ncookie: hunqi-user=u1",
        "x-team: blue\r\ncookie: hunqi-user=u2",
    ),
}


async def test_matches_choose_whatever_the_weight(envoy_at: Gateway, pair: tuple[Canned, Canned]) -> None:
    for version, (kind, (match, yes, no)) in enumerate(MATCHES.items(), 2):
        await envoy_at.apply(split(*pair, lane(0, match), version=version))
        said = await ask(envoy_at.place.http_port, [f"{yes}\r\n", f"{no}\r\n", ""], path="/x?y=1")
        got = [each.task for each in said[:2]]
        assert got == ["new", "old"], kind
    await envoy_at.apply(split(*pair, lane(0, LaneMatch(query=(Match(name="beta", value="1"),))), version=100))
    asked = ["/?beta=1", "/?a=b&beta=1", "/?beta=2", "/?xbeta=1", "/beta=1"]
    found = [(await ask(envoy_at.place.http_port, [""], path=path))[0].task for path in asked]
    assert found == ["new", "new", "old", "old", "old"]
    both = lane(0, *(match for match, _, _ in (MATCHES["header"], MATCHES["cookie"], MATCHES["network"])))
    await envoy_at.apply(split(*pair, both, version=101))
    heads = ["x-team: blue\r\n", "cookie: beta=1\r\n", "x-forwarded-for: 10.1.9.9\r\n", "x-team: red\r\n"]
    assert [each.task for each in await ask(envoy_at.place.http_port, heads)] == ["new", "new", "new", "old"]


async def test_users_are_known_by_the_cookie_or_header_that_is_named(
    envoy_at: Gateway, pair: tuple[Canned, Canned]
) -> None:
    by_header = LaneKey(kind=KeyKind.HEADER, name="X-Account")
    await envoy_at.apply(split(*pair, lane(5000, key=by_header), version=2))
    said = await ask(envoy_at.place.http_port, [f"x-account: {number}\r\n" for number in range(300)])
    assert [each.task == "new" for each in said] == [
        user_number("spring", str(number).encode()) < 5000 for number in range(300)
    ]
    said = await ask(envoy_at.place.http_port, ["cookie: hunqi-user=u2\r\n"] * 300)
    assert not any(each.cookie for each in said)
    assert 150 - _SURE * math.sqrt(75) < counted(said)["new"] < 150 + _SURE * math.sqrt(75)
    await envoy_at.apply(split(*pair, lane(5000, key=LaneKey(name="who")), version=3))
    # Sent in several headers, in any place, next to names that only look like it; empty is none.
    odd = ["who=u1", "a=1; who=u1", "xwho=u2; who=u1", "a=who=u2; who=u1", 'a="b"; who=u1;', "a\r\ncookie: who=u1"]
    said = await ask(envoy_at.place.http_port, [f"cookie: {each}\r\n" for each in odd])
    assert user_number("spring", b"u1") < 5000 <= user_number("spring", b"u2")
    assert counted(said) == {"new": len(odd)}
    assert not any(each.cookie for each in said)
    assert (await ask(envoy_at.place.http_port, ["cookie: who=; a=b\r\n"]))[0].cookie


async def test_the_cookie_is_kept_from_scripts_and_over_https_from_http(
    envoy_at: Gateway, pair: tuple[Canned, Canned]
) -> None:
    await envoy_at.apply(split(*pair, lane(5000), version=2))
    async with aiohttp.ClientSession() as client:
        for scheme, last in (("http", "SameSite=Lax"), ("https", "Secure")):
            head = {"host": "shop.test", "x-forwarded-proto": scheme}
            async with client.get(envoy_at.url(), headers=head) as answer:
                name, _, rest = answer.headers["set-cookie"].partition("=")
                user, *attributes = rest.split("; ")
                assert (name, len(user), attributes[-1]) == ("hunqi-user", 32, last)
                assert {"Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=31536000"} <= set(attributes)
    await envoy_at.apply(split(*pair, None, version=3))
    assert not (await ask(envoy_at.place.http_port, [""]))[0].cookie


async def test_nobody_can_ask_for_a_lane_from_outside(envoy_at: Gateway, pair: tuple[Canned, Canned]) -> None:
    team = LaneMatch(headers=(Match(name="x-team", value="blue"),), users=1)
    await envoy_at.apply(split(*pair, lane(5000, team), version=2))
    pair[0].heads.clear()
    forged = "x-hunqi-lane: r2\r\nx-hunqi-in-shop: r2\r\nx-hunqi-ask: ;shop/0;\r\nx-hunqi-mirror: 1\r\n"
    said = await ask(envoy_at.place.http_port, [f"cookie: hunqi-user=u2\r\n{forged}"] * 20)
    assert counted(said) == {"old": 20}
    assert not [head for head in pair[0].heads if "x-hunqi" in head.lower()]
    said = await ask(envoy_at.place.http_port, [f"cookie: hunqi-user=u1\r\n{forged}"] * 20)
    assert counted(said) == {"new": 20}
    assert pair[1].named("x-hunqi-lane") == ["r2"] * 20
    assert not [head for head in pair[1].heads if "x-hunqi-in" in head or "x-hunqi-ask" in head]
    await _until(lambda: len(_forwarded(envoy_at)) == 40)
    logged = Counter((each.get("lane"), each["revision"]) for each in _forwarded(envoy_at))
    assert logged == {(None, "1"): 20, ("r2", "2"): 20}


def _forwarded(at: Gateway) -> list[dict[str, object]]:
    return [each for each in at.log() if each["status"] == 200]


def login(name: str, password: str) -> str:
    return "authorization: Basic " + base64.b64encode(f"{name}:{password}".encode()).decode() + "\r\n"


async def test_the_lane_has_the_routes_of_its_own_revision(envoy_at: Gateway, pair: tuple[Canned, Canned]) -> None:
    old, fresh = pair
    digest = base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
    locked = {"basic_auth": (f"ada:{{SHA}}{digest}",)}
    made = split(old, fresh, lane(5000), version=2)
    others = Target(cluster="shop_web-r1:8080")
    routes = (
        *(route(path="/shop"), route(path="/gone"), route(path="/shut", **locked)),
        *(new(path="/shop"), new(path="/fresh"), new(path="/admin", **locked), new(path="/shut")),
        new(path="/few", rate_limit=RateLimit(requests=1, per_s=3600.0)),
        new(path="/near", allow=("10.9.0.0/16",)),
        new(path="/small", body_limit_bytes=10),
        # Another app at the same host, without a lane: its places are its own, in whichever lane a user of the shop is.
        replace(route("shop.test", others, path="/blog"), app="blog", service="b"),
    )
    await envoy_at.apply(replace(made, routes=routes))

    async def asked(path: str, user: str, *more: str) -> str | int:
        (said,) = await ask(envoy_at.place.http_port, [f"cookie: hunqi-user={user}\r\n{''.join(more)}"], path=path)
        return said.task if said.status == 200 else said.status

    paths = ["/shop", "/gone", "/fresh", "/blog", "/nothing", "/admin", "/shut", "/near"]
    assert [await asked(path, "u2") for path in paths] == ["old", "old", 404, "old", 404, 404, 401, 404]
    assert [await asked(path, "u1") for path in paths] == ["new", "old", "new", "old", 404, 401, "new", 403]
    assert await asked("/admin", "u1", login("ada", "secret")) == "new"
    assert await asked("/shut", "u2", login("ada", "secret")) == "old"
    assert [await asked("/few", "u1") for _ in range(2)] == ["new", 429]
    assert await asked("/near", "u1", "x-forwarded-for: 10.9.1.1\r\n") == "new"
    async with aiohttp.ClientSession() as client:
        for size, status in ((10, 200), (11, 413)):
            head = {"host": "shop.test", "cookie": "hunqi-user=u1"}
            async with client.post(envoy_at.url("/small"), data=b"x" * size, headers=head) as answer:
                assert answer.status == status


async def test_two_apps_at_one_host_each_have_a_lane(envoy_at: Gateway, pair: tuple[Canned, Canned]) -> None:
    old, fresh = pair
    team = LaneMatch(headers=(Match(name="x-team", value="blue"),))
    tester = LaneMatch(cookies=(Match(name="tester", value="1"),))
    shop, blog = lane(0, team), replace(lane(0, tester, salt="other"), app="blog")
    made = split(old, fresh, shop, version=2)
    blogs = [replace(each, app="blog", service="b") for each in (route(path="/blog"), new(path="/blog"))]
    await envoy_at.apply(replace(made, routes=(*made.routes, *blogs), lanes=(shop, blog)))
    heads = ["", "x-team: blue\r\n", "cookie: tester=1\r\n", "x-team: blue\r\ncookie: tester=1\r\n"]
    said = {path: await ask(envoy_at.place.http_port, heads, path=path) for path in ("/", "/blog")}
    assert [each.task for each in said["/"]] == ["old", "new", "old", "new"]
    assert [each.task for each in said["/blog"]] == ["old", "old", "new", "new"]
    # One id for both, two numbers.
    both = (replace(shop, weight=5000), replace(blog, weight=5000))
    await envoy_at.apply(replace(made, routes=(*made.routes, *blogs), lanes=both, version=3))
    heads = [f"cookie: hunqi-user={number}\r\n" for number in range(400)]
    found = {path: await ask(envoy_at.place.http_port, heads, path=path) for path in ("/", "/blog")}
    pairs = {(a.task, b.task) for a, b in zip(found["/"], found["/blog"], strict=True)}
    assert len(pairs) == 4
    assert [each.task == "new" for each in found["/blog"]] == [
        user_number("other", str(number).encode()) < 5000 for number in range(400)
    ]


async def test_copies_go_to_the_lane_and_their_answers_nowhere(envoy_at: Gateway, pair: tuple[Canned, Canned]) -> None:
    old, fresh = pair
    made = split(old, fresh, None, version=2)
    mirror = Mirror(lane="r2", share=5000, targets=(Target(cluster=NEW),))
    await envoy_at.apply(replace(made, routes=(replace(route(), mirror=mirror),)))
    said = await ask(envoy_at.place.http_port, ["x-mark: a\r\n"] * 1000)
    assert counted(said) == {"old": 1000}
    async with asyncio.timeout(5):
        while len(fresh.heads) < 500 - _SURE * math.sqrt(250):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    assert len(fresh.heads) < 500 + _SURE * math.sqrt(250)
    copies = len(fresh.heads)
    assert fresh.named("host") == ["shop.test"] * copies
    assert fresh.named("x-hunqi-lane") == ["r2"] * copies
    assert fresh.named("x-hunqi-mirror") == ["1"] * copies
    whole = replace(route(), mirror=replace(mirror, share=10_000))
    await envoy_at.apply(replace(made, routes=(whole, new()), lanes=(lane(5000),), version=3))
    fresh.heads.clear()
    async with aiohttp.ClientSession() as client:
        for user in ("u2", "u1"):
            head = {"host": "shop.test", "cookie": f"hunqi-user={user}"}
            async with client.post(envoy_at.url(), data=b"x", headers=head) as answer:
                assert await answer.text() == ("new" if user == "u1" else "old")
    await ask(envoy_at.place.http_port, ["cookie: hunqi-user=u1\r\n"] * 50)
    await asyncio.sleep(0.2)
    # Nothing is copied that may change something, and nothing that is in the lane already.
    assert len(fresh.heads) == 51
    await fresh.stop()
    async with holding(envoy_at, made) as holds:
        await envoy_at.healthy(0, name=NEW)
        assert counted(await ask(envoy_at.place.http_port, ["cookie: hunqi-user=u2\r\n"] * 50)) == {"old": 50}
        await asyncio.sleep(0.2)
        assert holds.held == 0


async def test_inside_an_app_the_header_leads_to_the_lane(envoy_at: Gateway, pair: tuple[Canned, Canned]) -> None:
    port = free_port()
    stable = InternalRoute(
        app="shop",
        service="web",
        host="web",
        port=port,
        subnets=("127.0.0.0/8",),
        protocol=Protocol.HTTP1,
        targets=(Target(cluster="shop_web-r1:8080"),),
    )
    inside = replace(stable, lane="r2", targets=(Target(cluster=NEW),))
    made = split(*pair, lane(1), version=2)
    await envoy_at.apply(replace(made, internal=(stable, inside)))
    async with aiohttp.ClientSession() as client:
        found: list[str] = []
        for said in ("", "r2", "r1", "r22", "R2"):
            head = {"host": f"web:{port}"} | ({"x-hunqi-lane": said} if said else {})
            async with client.get(f"http://127.0.0.1:{port}/", headers=head) as answer:
                found.append(await answer.text())
    assert found == ["old", "new", "old", "old", "old"]
    assert pair[1].named("x-hunqi-lane") == ["r2"]


async def test_requests_of_a_lane_wait_for_their_own_tasks_and_after_an_abort_for_none(envoy_at: Gateway) -> None:
    async with backend("old") as old, backend("new", healthy=False) as fresh, aiohttp.ClientSession() as client:
        made = split(old, fresh, lane(5000), version=2)
        await envoy_at.apply(made)
        await envoy_at.healthy(1)
        async with holding(envoy_at, made) as holds, asyncio.TaskGroup() as group:
            waiting = [group.create_task(_post(client, envoy_at)) for _ in range(3)]
            await _until(lambda: holds.held == 3)
            assert (await _post(client, envoy_at, "u2"))["task"] == "old"
            fresh.healthy = True
            assert [(await each)["task"] for each in waiting] == ["new"] * 3
            fresh.healthy = False
            await envoy_at.healthy(0, name=NEW)
            waiting = [group.create_task(_post(client, envoy_at)) for _ in range(3)]
            await _until(lambda: holds.held == 3)
            aborted = table(cluster(old, hold_s=5.0), routes=(route(),), version=3)
            await holds.update(aborted)
            await envoy_at.apply(aborted)
            assert [(await each)["task"] for each in waiting] == ["old"] * 3
        assert _waited(fresh) == 3


def _waited(task: Backend) -> int:
    return len([each for each in task.requests if each == "POST /upload"])


async def _post(client: aiohttp.ClientSession, at: Gateway, user: str = "u1") -> dict[str, object]:
    head = {"host": "shop.test", "cookie": f"hunqi-user={user}"}
    async with client.post(at.url("/upload"), data=b"x" * 1000, headers=head) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
