"""Calls between processes: nothing is lost that must not be, and a lost end is noticed at once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hunqi.errors import UserError
from hunqi.kit.rpc import Call, Payload, RpcCaller, RpcClient, RpcError, RpcServer, RpcUnavailableError, Session


class NoSuchThingError(UserError):
    code = "test.no_such_thing"


async def echo(_session: Session, _call: Call, payload: Payload) -> Payload:
    return payload


async def fail(_session: Session, _call: Call, _payload: Payload) -> Payload:
    raise NoSuchThingError("there is none")


async def count(_session: Session, call: Call, payload: Payload) -> Payload:
    for number in range(payload["to"]):
        await call.emit({"number": number})
    return {"done": True}


async def flood(session: Session, _call: Call, payload: Payload) -> Payload:
    for number in range(payload["to"]):
        session.notify("n", "same", {"number": number})
    return {}


@contextlib.asynccontextmanager
async def serving(path: Path) -> AsyncIterator[RpcServer]:
    server = RpcServer(path, {"echo": echo, "fail": fail, "count": count, "flood": flood})
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run())
        while not path.exists():
            await asyncio.sleep(0.005)
        yield server
        task.cancel()


@contextlib.asynccontextmanager
async def connected(client: RpcClient) -> AsyncIterator[RpcClient]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(client.run())
        yield client
        task.cancel()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    deep = tmp_path / ("a-folder-with-a-rather-long-name" * 4)
    deep.mkdir()
    return deep / "s.sock"


async def test_a_call_is_answered_even_at_a_path_longer_than_a_unix_address(path: Path) -> None:
    async with serving(path), connected(RpcClient(path)) as client:
        assert await client.call("echo", {"a": 1}) == {"a": 1}
        assert path.stat().st_mode & 0o777 == 0o600


async def test_an_error_keeps_its_code(path: Path) -> None:
    async with serving(path), connected(RpcClient(path)) as client:
        with pytest.raises(RpcError, match="there is none") as caught:
            await client.call("fail", {})
        assert caught.value.remote_code == "test.no_such_thing"
        with pytest.raises(RpcError, match="no such call"):
            await client.call("nothing", {})


async def test_of_notices_the_latest_wins(path: Path) -> None:
    seen: list[int] = []
    client = RpcClient(path, on_notice=lambda _topic, p: seen.append(p["number"]))
    async with serving(path), connected(client):
        await client.call("flood", {"to": 10_000})
        await client.call("echo", {})
    assert seen[-1] == 9_999
    assert len(seen) < 100


async def test_a_client_notices_the_lost_server_and_finds_the_next(path: Path) -> None:
    async with connected(RpcClient(path)) as client:
        async with serving(path):
            assert await client.call("echo", {"a": 1}) == {"a": 1}
        with pytest.raises(RpcUnavailableError):
            await client.call("echo", {"a": 2}, timeout_s=0.1)
        async with serving(path):
            assert await client.call("echo", {"a": 3}, timeout_s=5) == {"a": 3}


async def test_the_blocking_caller_gets_every_event(path: Path) -> None:
    events: list[Payload] = []
    result: list[Payload] = []

    def run() -> None:
        result.append(RpcCaller(path).call("count", {"to": 1000}, on_event=events.append, timeout_s=10))

    async with serving(path):
        thread = threading.Thread(target=run)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.01)
        thread.join()
    assert [event["number"] for event in events] == list(range(1000))
    assert result == [{"done": True}]


def test_without_an_instance_the_caller_says_where_it_looked(path: Path) -> None:
    with pytest.raises(RpcUnavailableError, match=r"s\.sock"):
        RpcCaller(path).call("echo", {})
