"""Sessions of browsers, logins that are guessed at, keys of idempotency, limits."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import insert, select, update

from hunqi.api.app import ApiSettings
from hunqi.state.tables import IDEMPOTENCY, SESSIONS, TOKENS
from support_api import PASSWORD, SHOP, World, run_world

ADMIN = {"name": "admin", "password": PASSWORD}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with run_world(tmp_path) as running:
        yield running


@pytest.fixture
async def browser(world: World) -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(world.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def test_a_session_changes_things_only_with_its_csrf_token(world: World, browser: aiohttp.ClientSession) -> None:
    async with browser.post("/v1/login", json=ADMIN) as answer:
        cookie, csrf = answer.headers["Set-Cookie"], (await answer.json())["csrf"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    async with browser.get("/v1/me") as answer:
        assert (await answer.json())["csrf"] == csrf
    for headers in ({}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": ""}):
        async with browser.post("/v1/teams", json={"name": "new"}, headers=headers) as answer:
            assert answer.status == 403
            assert (await answer.json())["code"] == "auth.csrf"
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        await browser.ws_connect(f"/v1/apps/{SHOP}/exec")
    assert raised.value.status == 403
    async with browser.ws_connect(f"/v1/apps/{SHOP}/exec?csrf={csrf}") as socket:
        assert not socket.closed
    async with browser.post("/v1/teams", json={"name": "new"}, headers={"X-CSRF-Token": csrf}) as answer:
        assert answer.status == 201
    async with browser.post("/v1/logout", headers={"X-CSRF-Token": csrf}) as answer:
        assert answer.status == 204
    async with browser.get("/v1/me") as answer:
        assert answer.status == 401


async def test_no_secret_lies_in_the_database(world: World, browser: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with browser.post("/v1/login", json=ADMIN) as answer:
        cookie = answer.cookies["hunqi_session"].value
    held = b"".join(path.read_bytes() for path in tmp_path.glob("control.db*"))
    for secret in (cookie, PASSWORD, world.setup_token, *world.tokens.values()):
        assert secret.encode() not in held
    for found in (world.tokens["admin"], cookie):
        assert found not in repr(world.directory)


async def test_a_session_and_a_token_end_in_time(world: World, browser: aiohttp.ClientSession) -> None:
    async with browser.post("/v1/login", json=ADMIN):
        pass
    async with world.directory.database.begin() as connection:
        await connection.execute(update(SESSIONS).values(expires_at="2020-01-01T00:00:00.000Z"))
        await connection.execute(update(TOKENS).values(expires_at="2020-01-01T00:00:00.000Z"))
    async with browser.get("/v1/me") as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    async with browser.get("/v1/me", headers={"Authorization": f"Bearer {world.tokens['admin']}"}) as answer:
        assert answer.status == 401


async def test_a_disabled_user_is_out_at_once(world: World, browser: aiohttp.ClientSession) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['viewer']}"}
    async with world.client("admin") as admin:
        await admin.people.change_user("viewer", {"disabled": True})
        async with browser.get("/v1/me", headers=headers) as answer:
            assert answer.status == 401
        await admin.people.change_user("viewer", {"disabled": False})
        async with browser.get("/v1/me", headers=headers) as answer:
            assert answer.status == 200


async def test_the_last_administrator_stays(world: World, browser: aiohttp.ClientSession) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['admin']}"}
    for body in ({"admin": False}, {"disabled": True}):
        async with browser.patch("/v1/users/admin", json=body, headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (409, "user.last-admin")
    async with browser.delete("/v1/users/admin", headers=headers) as answer:
        assert answer.status == 409


async def test_a_new_password_ends_sessions_and_needs_the_present_one(
    world: World, browser: aiohttp.ClientSession
) -> None:
    async with browser.post("/v1/login", json=ADMIN) as answer:
        headers = {"X-CSRF-Token": (await answer.json())["csrf"]}
    wrong = {"present": "wrong", "password": "another password"}
    async with browser.put("/v1/me/password", json=wrong, headers=headers) as answer:
        assert (await answer.json())["code"] == "auth.login"
    right = {"present": PASSWORD, "password": "another password"}
    async with browser.put("/v1/me/password", json=right, headers=headers) as answer:
        assert answer.status == 204
    async with browser.get("/v1/me") as answer:
        assert answer.status == 401
    async with browser.post("/v1/login", json={"name": "admin", "password": "another password"}) as answer:
        assert answer.status == 200


async def test_guessing_is_stopped_and_says_when_to_come_back(world: World, browser: aiohttp.ClientSession) -> None:
    said: list[Any] = []
    for name in ("admin", "nobody"):
        for _ in range(6):
            async with browser.post("/v1/login", json={"name": name, "password": "wrong password"}) as answer:
                said.append((answer.status, (await answer.json())["code"], answer.headers.get("Retry-After")))
    # A user that is there and one that is not are told the same.
    assert [each[:2] for each in said[:6]] == [each[:2] for each in said[6:]]
    assert said[4][0] == 401
    assert said[5][:2] == (429, "auth.too-many-attempts")
    assert 0 < int(str(said[5][2])) <= 900
    async with browser.post("/v1/login", json=ADMIN) as answer:
        assert answer.status == 429  # the right one too: else the limit would be no limit


async def test_the_cookie_is_secure_where_it_is_asked_for(tmp_path: Path) -> None:
    async with (
        run_world(tmp_path, settings=ApiSettings(secure_cookies=True)) as world,
        aiohttp.ClientSession(world.url) as browser,
        browser.post("/v1/login", json=ADMIN) as answer,
    ):
        assert "; Secure" in answer.headers["Set-Cookie"]


async def test_no_answer_is_for_other_sites(world: World, browser: aiohttp.ClientSession) -> None:
    headers = {"Origin": "https://evil.example.com", "Access-Control-Request-Method": "POST"}
    async with browser.options("/v1/apps", headers=headers) as answer:
        assert answer.status == 405
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    async with browser.get("/health", headers=headers) as answer:
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_a_post_with_a_key_is_done_once(world: World, browser: aiohttp.ClientSession) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['developer']}", "Idempotency-Key": "one"}
    answers: list[tuple[int, Any, bool]] = []
    for body in ({"revision": 1}, {"revision": 1}, {"revision": 2}):
        async with browser.post(f"/v1/apps/{SHOP}/rollback", json=body, headers=headers) as answer:
            answers.append((answer.status, await answer.json(), "Idempotency-Replayed" in answer.headers))
    assert answers[0][:2] == answers[1][:2]
    assert (answers[0][2], answers[1][2]) == (False, True)
    assert answers[2][1]["code"] == "api.idempotency-key"
    assert len(world.rooms.deploys[SHOP]) == 1
    other = headers | {"Authorization": f"Bearer {world.tokens['owner']}"}
    async with browser.post(f"/v1/apps/{SHOP}/rollback", json={"revision": 1}, headers=other) as answer:
        assert "Idempotency-Replayed" not in answer.headers  # keys are one's own


async def test_a_request_in_flight_keeps_its_key_and_a_failed_one_gives_it_back(
    world: World, browser: aiohttp.ClientSession
) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['developer']}", "Idempotency-Key": "two"}
    async with browser.post(f"/v1/apps/{SHOP}/scale", json={"replicas": {"nothing": 1}}, headers=headers) as answer:
        assert answer.status == 404
    async with world.directory.database.read() as connection:
        assert (await connection.execute(select(IDEMPOTENCY))).all() == []
    async with asyncio.TaskGroup() as tasks:

        async def post() -> tuple[int, str]:
            async with browser.post(f"/v1/apps/{SHOP}/rollback", json={"revision": 1}, headers=headers) as answer:
                return answer.status, str((await answer.json()).get("code"))

        both = [tasks.create_task(post()) for _ in range(5)]
    assert {each.result() for each in both} <= {(202, "None"), (409, "api.idempotency-busy")}
    assert len(world.rooms.deploys[SHOP]) == 1
    row = {"key": "three", "actor": "developer", "request_hash": "x", "created_at": "2999-01-01T00:00:00.000Z"}
    async with world.directory.database.begin() as connection:
        await connection.execute(insert(IDEMPOTENCY).values(**row))
    headers["Idempotency-Key"] = "three"
    async with browser.post(f"/v1/apps/{SHOP}/rollback", json={"revision": 1}, headers=headers) as answer:
        assert (await answer.json())["code"] == "api.idempotency-key"


async def test_answers_that_show_a_secret_are_not_kept(world: World, browser: aiohttp.ClientSession) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['admin']}", "Idempotency-Key": "four"}
    async with browser.post("/v1/tokens", json={"name": "new"}, headers=headers) as answer:
        assert answer.status == 201
    async with browser.post("/v1/join-tokens", json={}, headers=headers) as answer:
        assert answer.status == 201
    async with world.directory.database.read() as connection:
        assert (await connection.execute(select(IDEMPOTENCY))).all() == []


async def test_bodies_have_limits(world: World, browser: aiohttp.ClientSession) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['developer']}"}
    big = b"x" * (3 * 1024 * 1024)

    async def chunks() -> AsyncGenerator[bytes]:
        yield big

    for data in (io.BytesIO(big), chunks()):
        async with browser.post(f"/v1/apps/{SHOP}/stop", data=data, headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (413, "api.body-too-large")
    body = {"files": {"compose.yaml": "x" * (3 * 1024 * 1024)}, "entry": ["compose.yaml"]}
    sent = io.BytesIO(json.dumps(body).encode())
    headers |= {"Content-Type": "application/json"}
    async with browser.post(f"/v1/apps/{SHOP}/check", data=sent, headers=headers) as answer:
        assert answer.status == 200


async def test_what_cannot_be_understood_is_named_and_never_repeated(
    world: World, browser: aiohttp.ClientSession
) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['developer']}"}
    for body in ({"value": ["hidden-value"]}, {"value": "hidden-value", "base64": "hidden-value"}, "hidden-value"):
        async with browser.put(f"/v1/apps/{SHOP}/secrets/db", json=body, headers=headers) as answer:
            text = await answer.text()
        assert answer.status == 422
        assert "hidden-value" not in text
        assert json.loads(text)["problems"]
    async with browser.post("/v1/login", json={"name": "admin", "password": "x", "more": "hidden-value"}) as answer:
        assert (await answer.json())["problems"][0]["where"] == "body.more"
    async with browser.get("/v1/nothing") as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "api.no-such-path")
    async with browser.put("/v1/login", json={}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (405, "api.method")
        assert answer.headers["Allow"] == "POST"
    async with browser.get("/v1/apps?cursor=!!", headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (422, "api.cursor")
    for header in ("Basic YTpi", "Bearer", "Bearer hq_wrong", "Bearer " + "x" * 5000, "Bearer hqs_x", "nonsense"):
        async with browser.get("/v1/me", headers={"Authorization": header}) as answer:
            assert answer.status == 401


@pytest.mark.parametrize(
    "name", ["..%2f..%2fetc", "%00", "a%0d%0aX: y", "'; DROP TABLE apps; --", "%F0%9F%98%80", "." * 63]
)
async def test_hostile_names_are_just_names_that_are_not_there(
    world: World, browser: aiohttp.ClientSession, name: str
) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['admin']}"}
    for path in ("/v1/apps/{}", "/v1/apps/{}/tasks", "/v1/users/{}", "/v1/teams/{}", "/v1/nodes/{}"):
        async with browser.get(path.format(name), headers=headers) as answer:
            assert answer.status in {404, 422}, path
            assert answer.content_type == "application/problem+json"
            assert "X" not in answer.headers
    async with browser.put(f"/v1/apps/{SHOP}/secrets/{name}", json={"value": "x"}, headers=headers) as answer:
        assert answer.status in {404, 422}
    assert world.rooms.secrets == {}


async def test_hostile_routes_are_refused(world: World, browser: aiohttp.ClientSession) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['developer']}"}
    good = {"port": 80, "hosts": ["a.example.com"]}
    hostile: list[dict[str, Any]] = [
        {"hosts": ["a\nb"]}, {"hosts": ["*"]}, {"hosts": ["a..b"]}, {"hosts": []}, {"port": 0}, {"port": 65536},
        {"path": "no-slash"}, {"path": "/a?b"}, {"path": "/a\r\nb"}, {"redirect": "javascript:alert(1)"},
        {"request_headers": {"a\r\nb": "c"}}, {"request_headers": {"a": "b\r\nc: d"}}, {"allow": ["10.0.0.0/99"]},
        {"basic_auth": ["ann:plain"]}, {"headers": [{"name": "x", "kind": "regex", "value": "("}]},
        {"timeout_s": -1}, {"retries": 1000}, {"unknown": 1}, {"protocol": "tcp"}, {"tls": "none"},
    ]  # fmt: skip
    for change in hostile:
        body = {"service": "web", "spec": good | change}
        async with browser.post(f"/v1/apps/{SHOP}/routes", json=body, headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (422, "api.invalid"), change
    assert world.rooms.routes == {}
