"""Every route with every role, and anonymous: what each gets is the table's word, not the route's."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute

from hunqi.api.access import SOCKET_ACTION
from hunqi.api.app import build_api
from hunqi.identity.model import Actor, ActorKind, AppRef, Role, Scope, TeamRef
from hunqi.identity.policy import TABLE, Action, Decision, Least, decide
from support_api import BLOG, SHOP, World, make_token, run_world

ROLES = ("anonymous", "stranger", "viewer", "developer", "owner", "admin")
RANK = {"stranger": -1, "viewer": 0, "developer": 1, "owner": 2, "admin": 3}
BODIES: dict[str, Any] = {
    "POST /v1/setup": {"token": "hqs_x", "name": "eve", "password": "long enough 1"},
    "POST /v1/login": {"name": "eve", "password": "long enough 1"},
    "PUT /v1/me/password": {"present": "wrong", "password": "long enough 1"},
    "POST /v1/tokens": {"name": "made-by-the-walk"},
    "POST /v1/users": {"name": "made-by-the-walk"},
    "PATCH /v1/users/{user}": {"disabled": False},
    "POST /v1/teams": {"name": "made-by-the-walk"},
    "PATCH /v1/teams/{team}": {"quota": {}},
    "PUT /v1/teams/{team}/members/{user}": {"role": "viewer"},
    "PUT /v1/apps/{app}/grants/{user}": {"role": "viewer"},
    "POST /v1/apps/{app}/check": {"files": {"a": ""}, "entry": ["a"]},
    "POST /v1/apps/{app}/deploys": {"files": {"a": ""}, "entry": ["a"]},
    "POST /v1/apps/{app}/rollback": {"revision": 1},
    "POST /v1/apps/{app}/scale": {"replicas": {"web": 1}},
    "POST /v1/apps/{app}/maintenance": {"text": None},
    "POST /v1/apps/{app}/runs": {"service": "web"},
    "PUT /v1/apps/{app}/secrets/{name}": {"value": "x"},
    "PUT /v1/apps/{app}/env": {"values": {"A": "1"}},
    "PUT /v1/apps/{app}/env/{name}": {"value": "1"},
    "POST /v1/apps/{app}/routes": {"service": "web", "spec": {"port": 80, "hosts": ["a.example.com"]}},
    "POST /v1/apps/{app}/hooks": {"url": "https://example.com/in"},
    "POST /v1/hooks": {"url": "https://example.com/in"},
    "PUT /v1/apps/{app}/services/{service}/autoscale": {"off": True},
    "PUT /v1/metric-sources/{source}": {"url": "http://127.0.0.1:1"},
    "PATCH /v1/nodes/{node}": {},
    "POST /v1/join-tokens": {},
    "POST /v1/join": {
        "secret": "wrong", "name": "n", "host": "h", "agent_port": 1, "agent_request": "a", "mirror_request": "m",
    },
    "POST /v1/certificates": {"chain_pem": "a", "key_pem": "b"},
}  # fmt: skip
PARTS = {
    "user": "viewer",
    "team": "sellers",
    "node": "one",
    "name": "A",
    "number": "1",
    "other": "2",
    "source": "prom",
    "measure": "rps",
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with run_world(tmp_path) as running:
        yield running


class _Nothing:
    def __getattr__(self, name: str) -> _Nothing:
        return self


def the_api() -> FastAPI:
    nothing: Any = _Nothing()
    return build_api(nothing, nothing, nothing, nothing)


@functools.cache
def declared() -> list[tuple[str, str, Action]]:
    described = the_api().openapi()["paths"]
    return [
        (method.upper(), path, Action(operation["x-hunqi-action"]))
        for path, operations in described.items()
        for method, operation in operations.items()
    ] + [("GET", "/v1/openapi.json", Action.SCHEMA)]


def test_every_route_declares_its_action_and_has_the_guard() -> None:
    api = the_api()
    walked = 0
    for route in _flat(api):
        guards = [each.dependency.__qualname__ for each in route.dependencies]
        assert any(name.startswith("GuardedRouter.") and name.endswith("guard") for name in guards), route.path
        if isinstance(route, APIRoute):
            assert Action((route.openapi_extra or {})["x-hunqi-action"]) in TABLE, route.path
        else:
            assert isinstance(route, APIWebSocketRoute)
            assert getattr(route.endpoint, SOCKET_ACTION) in TABLE
        walked += 1
    assert walked == len(declared()) + 2  # and the two WebSockets
    assert api.docs_url is None


def _flat(api: FastAPI) -> list[APIRoute | APIWebSocketRoute]:
    found: list[Any] = []
    waiting: list[Any] = list(api.routes)
    while waiting:
        each = waiting.pop(0)
        inner = getattr(each, "original_router", None) or getattr(each, "router", None)
        if inner is not None and not isinstance(each, (APIRoute, APIWebSocketRoute)):
            waiting = [*inner.routes, *waiting]
        else:
            found.append(each)
    return found


def test_the_table_is_total() -> None:
    assert set(TABLE) == set(Action)
    used = {action for _, _, action in declared()} | {Action.APP_ENTER, Action.APP_CREATE}
    assert used == set(Action), "an action that no route takes is not one"


def _expected(who: str, action: Action) -> set[int]:
    """Return what may come; what is not refused is anything but 401, 403 and (hidden) 404."""
    least = TABLE[action]
    if least is Least.ANYBODY:
        return set()
    if who == "anonymous":
        return {401}
    if least is Least.KNOWN or who == "admin":
        return set()
    if least is Least.ADMIN:
        return {403}
    if who == "stranger":
        return {404}
    return set() if RANK[who] >= Role(least).rank else {403}


@pytest.mark.parametrize("who", ROLES)
async def test_every_route_answers_every_role_as_the_table_says(world: World, who: str) -> None:
    headers = {} if who == "anonymous" else {"Authorization": f"Bearer {world.tokens[who]}"}
    order = sorted(declared(), key=lambda each: (each[0] == "DELETE", each[1] == "/v1/apps/{app}", each))
    async with aiohttp.ClientSession(headers=headers) as session:
        for method, template, action in order:
            path = re.sub(r"{(\w+)}", lambda match: PARTS.get(match[1], "x"), template.replace("{app}", SHOP))
            path += {"/v1/apps/{app}/files": "?path=/a", "/v1/events": "?after=0&follow=false"}.get(template, "")
            body = BODIES.get(f"{method} {template}", {} if method == "POST" else None)
            async with session.request(method, world.url + path, json=body) as answer:
                text = await answer.text()
            refused = _expected(who, action)
            where = f"{who}: {method} {path} → {answer.status} {text[:300]}"
            if refused:
                assert answer.status in refused, where
                assert answer.content_type == "application/problem+json", where
            else:
                codes = {"auth.required", "auth.denied", "app.not-found", "team.not-found"}
                assert not any(f'"code":"{code}"' in text for code in codes), where
                assert answer.status != 422, where
                assert answer.status < 500, where
    if who in {"anonymous", "stranger", "viewer"}:
        assert world.rooms.acts == []
    if who == "anonymous":
        assert world.rooms.submissions == []


@pytest.mark.parametrize("who", ["stranger", "viewer"])
async def test_what_is_hidden_is_answered_like_what_is_not_there(world: World, who: str) -> None:
    """Nobody learns from an answer whether another team has an app."""
    hidden = SHOP if who == "stranger" else BLOG
    headers = {"Authorization": f"Bearer {world.tokens[who]}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for method, template, _ in declared():
            if "{app}" not in template:
                continue
            body = BODIES.get(f"{method} {template}", {} if method == "POST" else None)
            if who == "stranger" and template in {"/v1/apps/{app}/check", "/v1/apps/{app}/deploys"}:
                continue  # an owner of a team may make an app of a name that is not there
            answers: list[tuple[int, str]] = []
            for app in (hidden, "absent-app"):
                path = re.sub(r"{(\w+)}", lambda match: PARTS.get(match[1], "x"), template.replace("{app}", app))
                path += "?path=/a" if template.endswith("/files") else ""
                async with session.request(method, world.url + path, json=body) as answer:
                    answers.append((answer.status, (await answer.text()).replace(app, "APP")))
            assert answers[0] == answers[1], f"{method} {template}"
            assert answers[0][0] == 404, f"{method} {template}"


@pytest.mark.parametrize("path", ["exec", "forward?port=80"])
@pytest.mark.parametrize("who", ROLES)
async def test_sockets_are_guarded_too(world: World, who: str, path: str) -> None:
    headers = {} if who == "anonymous" else {"Authorization": f"Bearer {world.tokens[who]}"}
    wanted = {"anonymous": 401, "stranger": 404, "viewer": 403}.get(who)
    async with aiohttp.ClientSession(headers=headers) as session:
        url = f"{world.url}/v1/apps/{SHOP}/{path}"
        if wanted is None:
            async with session.ws_connect(url) as socket:
                assert not socket.closed
        else:
            with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
                await session.ws_connect(url)
            assert raised.value.status == wanted
    assert world.rooms.open_streams == 0


@pytest.mark.parametrize(
    ("scopes", "may", "may_not"),
    [
        (("viewer",), ["GET /v1/apps/shop"], ["POST /v1/apps/shop/stop", "GET /v1/users"]),
        (("developer",), ["POST /v1/apps/shop/stop"], ["DELETE /v1/apps/shop"]),
        (("owner", "app:blog"), ["POST /v1/apps/blog/stop"], ["GET /v1/apps/shop", "GET /v1/users"]),
        ((), ["POST /v1/apps/shop/stop"], ["GET /v1/users", "POST /v1/backup"]),
        (("admin",), ["GET /v1/users", "POST /v1/backup"], []),
    ],
)
async def test_a_token_has_no_more_than_its_scope(
    world: World, scopes: tuple[str, ...], may: list[str], may_not: list[str]
) -> None:
    await make_token(world, "admin", scopes, key="scoped")
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {world.tokens['scoped']}"}) as session:
        for wish, refused in [*((each, False) for each in may), *((each, True) for each in may_not)]:
            method, _, path = wish.partition(" ")
            async with session.request(method, world.url + path, json={} if method == "POST" else None) as answer:
                assert (answer.status in {403, 404}) is refused, f"{wish}: {answer.status}"


async def test_a_token_makes_none_that_has_more_than_itself(world: World) -> None:
    await make_token(world, "admin", ("viewer",), key="scoped")
    await make_token(world, "owner", (), key="all")
    for key, scopes, kind in [
        ("scoped", ["admin"], "personal"),
        ("scoped", ["developer"], "personal"),
        ("scoped", ["viewer", "app:shop"], "machine"),
        ("all", ["admin"], "machine"),
        ("all", ["admin"], "personal"),
        ("all", ["app:blog"], "machine"),
        ("all", ["app:not-there"], "machine"),
        ("all", [f"team:{world.teams['writers']}"], "machine"),
        ("all", [], "machine"),
        ("developer", ["app:shop"], "machine"),
        ("all", ["nonsense"], "personal"),
    ]:
        headers = {"Authorization": f"Bearer {world.tokens[key]}"}
        body = {"name": "more", "scopes": scopes, "kind": kind}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{world.url}/v1/tokens", json=body) as answer,
        ):
            assert answer.status == 422, (key, scopes, kind)
            assert (await answer.json())["code"] == "token.scope"


async def test_a_machine_token_dies_with_its_app(world: World) -> None:
    async with world.client("owner") as owner:
        made = await owner.people.create_token("ci", ["developer", "app:shop"], kind="machine")
        world.tokens["ci"] = made["secret"]
        async with world.client("ci") as machine:
            assert (await machine.apps.show(SHOP))["name"] == SHOP
            assert [app["name"] async for app in machine.apps.all()] == [SHOP]
            await machine.lifecycle.stop(SHOP)
            assert world.rooms.acts[-1][2] == "machine:ci"
        await owner.apps.remove(SHOP)
    await world.rooms.make_app(SHOP, world.teams["writers"])
    headers = {"Authorization": f"Bearer {world.tokens['ci']}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{world.url}/v1/apps/shop") as answer:
        assert answer.status == 401


def test_decisions_are_monotone_in_roles_and_narrowed_by_scopes() -> None:
    app, team = AppRef(name="shop", team="t1"), TeamRef(id="t1")
    for action, least in TABLE.items():
        if not isinstance(least, Role):
            continue
        allowed = [
            decide(Actor(kind=ActorKind.USER, teams={"t1": role}), action, app) is Decision.ALLOW for role in Role
        ]
        assert allowed == sorted(allowed)
        by_grant = Actor(kind=ActorKind.USER, grants={"shop": Role.OWNER}, scope=Scope(role=Role.OWNER))
        assert decide(by_grant, action, app) is Decision.ALLOW
        assert decide(by_grant, action, AppRef(name="blog", team="t1")) is Decision.HIDDEN
        assert decide(by_grant, action, None) is Decision.HIDDEN
        elsewhere = Actor(kind=ActorKind.USER, teams={"t1": Role.OWNER}, scope=Scope(apps=frozenset({"blog"})))
        assert decide(elsewhere, action, app) is Decision.HIDDEN
        assert decide(elsewhere, action, team) is Decision.HIDDEN
