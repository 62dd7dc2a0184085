"""The whole interface under generated requests, sound and not: no 5xx, each error a problem, nothing of another team.

The server runs in a thread of its own, since the generator's client blocks.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from hunqi.api.app import build_api
from support_api import BLOG, SHOP, World, run_world

BOUNDED = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
UNENDING = {("GET", "/v1/events"), ("GET", "/v1/apps/{app}/logs"), ("GET", "/v1/apps/{app}/requests")}
"""Streams that may be followed for ever: asked with follow=false."""
MARK = "MARK-OF-SHOP"


class _Nothing:
    def __getattr__(self, name: str) -> _Nothing:
        return self


@schemathesis.serializer("application/x-tar")
def _tar(_context: Any, value: Any) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")


_nothing: Any = _Nothing()
DESCRIPTION: dict[str, Any] = build_api(_nothing, _nothing, _nothing, _nothing).openapi()
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
OPERATIONS = {f"{each.ok().method.upper()} {each.ok().path}": each.ok() for each in SCHEMA.get_all_operations()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One that only strangers come to."""
    with _in_a_thread(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


@pytest.fixture(scope="module")
def ruled_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One in which the administrator removes and gives away what it likes."""
    with _in_a_thread(tmp_path_factory.mktemp("ruled")) as running:
        yield running


class _in_a_thread:  # noqa: N801  (reads as the context manager that it is)
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ready = threading.Event()
        self._world: World | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        async with run_world(self._directory) as world:
            self._world, self._loop, self._stop = world, asyncio.get_running_loop(), asyncio.Event()
            world.rooms.environment[SHOP] = {"KEY": MARK}
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> World:
        self._thread.start()
        assert self._ready.wait(60)
        assert self._world is not None
        return self._world

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


def _check(answer: requests.Response, said: str) -> None:
    assert answer.status_code < 500, f"{said} → {answer.status_code} {answer.text[:500]}"
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json", said
        problem = answer.json()
        assert problem["status"] == answer.status_code, said
        assert problem["code"], said
        assert problem["detail"], said


def _call(case: Any, world: World, who: str, session: requests.Session) -> requests.Response | None:
    name = (case.method.upper(), case.path)
    if name in UNENDING:
        case.query = {**(case.query or {}), "follow": "false"}
    try:
        prepared = requests.Request(**case.as_transport_kwargs(base_url=world.url)).prepare()
    except (requests.RequestException, ValueError):
        return None  # no client can send it
    prepared.headers["Authorization"] = f"Bearer {world.tokens[who]}"
    prepared.headers.pop("Cookie", None)
    with session.send(prepared, timeout=30, stream=True, allow_redirects=False) as answer:
        answer._content = answer.raw.read(1024 * 1024)
        return answer


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_no_generated_request_breaks_the_interface(ruled_world: World, session: requests.Session, name: str) -> None:
    """As the administrator, who gets to all that there is; each operation as described, and otherwise."""
    operation = OPERATIONS[name]
    modes = [operation.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]

    @BOUNDED
    @given(st.one_of(modes))
    def run(case: Any) -> None:
        if "app" in (case.path_parameters or {}) and len(str(case.path_parameters["app"])) % 2:
            case.path_parameters["app"] = SHOP
        answer = _call(case, ruled_world, "admin", session)
        if answer is not None:
            _check(answer, f"{name}: {case.body!r} {case.query!r}")

    run()


@pytest.mark.parametrize("name", sorted(name for name in OPERATIONS if "{app}" in name))
def test_no_generated_request_of_a_stranger_shows_or_changes_an_app(
    world: World, session: requests.Session, name: str
) -> None:
    before = (list(world.rooms.acts), dict(world.rooms.secrets), dict(world.rooms.routes))

    @BOUNDED
    @given(OPERATIONS[name].as_strategy())
    def run(case: Any) -> None:
        case.path_parameters = {**(case.path_parameters or {}), "app": SHOP}
        answer = _call(case, world, "stranger", session)
        if answer is None:
            return
        _check(answer, name)
        assert answer.status_code in {404, 422}, f"{name} → {answer.status_code}"
        assert MARK not in answer.text
        assert "secretsecret" not in answer.text

    run()
    assert (list(world.rooms.acts), dict(world.rooms.secrets), dict(world.rooms.routes)) == before


def test_lists_of_a_stranger_name_nothing_of_another_team(world: World, session: requests.Session) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['stranger']}"}
    for path in ("/v1/apps", "/v1/teams", "/v1/tokens", "/v1/nodes", "/v1/events?after=0&follow=false"):
        with session.get(world.url + path, headers=headers, timeout=30) as answer:
            assert answer.status_code == 200
            assert "sellers" not in answer.text, path
            assert world.teams["sellers"] not in answer.text, path
            assert f'"{SHOP}"' not in answer.text, path
    assert json.dumps(BLOG) in session.get(world.url + "/v1/apps", headers=headers, timeout=30).text
