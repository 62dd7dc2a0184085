"""A daemon that misbehaves: every fault becomes an error of the engine's own, in time, and leaves nothing open."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest

from hunqi.engine.client import Docker
from hunqi.engine.errors import (
    ConflictError,
    EngineFailedError,
    EngineRefusedError,
    EngineUnreachableError,
    InUseError,
    NotFoundError,
    NotManagerError,
    UnsupportedError,
)
from hunqi.engine.model import RegistryAuth

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


def whole(status: int, body: bytes, *, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def said(status: int, message: str) -> bytes:
    return whole(status, json.dumps({"message": message}).encode(), headers="Content-Type: application/json\r\n")


@contextlib.asynccontextmanager
async def daemon(directory: Path, answer: Answer | bytes, *, version: str = "1.41") -> AsyncGenerator[Docker]:
    """Give a client of a daemon that pings well and answers everything else so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if " /_ping" in head:
                    writer.write(whole(200, b"OK", headers=f"Api-Version: {version}\r\n"))
                elif isinstance(answer, bytes):
                    writer.write(answer)
                    if not answer.startswith(b"HTTP/1.1 2"):
                        return
                else:
                    await answer(head, writer)
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    path = directory / "d.sock"
    server = await asyncio.start_unix_server(serve, path)
    try:
        async with Docker(str(path), call_timeout_s=0.5) as docker:
            yield docker
    finally:
        server.close()


async def cut(_head: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[{")
    await writer.drain()


async def silent(_head: str, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5.0)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (cut, EngineUnreachableError),
        (silent, EngineUnreachableError),
        (b"nonsense\r\n\r\n", EngineUnreachableError),
        (whole(200, b"{"), EngineFailedError),
        (whole(200, b'{"no": "list"}'), EngineFailedError),
        (whole(500, b"<html>"), EngineFailedError),
        (said(500, "rpc error: code = Unknown desc = update out of sequence"), ConflictError),
        (said(503, "This node is not a swarm manager."), NotManagerError),
        (said(500, "rpc error: code = Unknown desc = The swarm does not have a leader."), NotManagerError),
        (said(500, "rpc error: code = DeadlineExceeded desc = context deadline exceeded"), NotManagerError),
        (said(400, "rpc error: secret 'x' is in use by the following service: web"), InUseError),
        (said(409, "name conflicts with an existing object"), ConflictError),
        (said(400, "invalid"), EngineRefusedError),
        (said(403, "forbidden"), EngineRefusedError),
        (said(404, "no such"), NotFoundError),
        (said(500, "network shop_default not found"), NotFoundError),
    ],
)
async def test_a_bad_answer_is_an_error_of_its_kind(
    tmp_path: Path, answer: Answer | bytes, error: type[Exception]
) -> None:
    async with daemon(tmp_path, answer) as docker:
        with pytest.raises(error):
            await docker.services.list()


async def test_a_message_of_docker_is_passed_on_but_no_login_is(tmp_path: Path) -> None:
    heads: list[str] = []

    async def refuse(head: str, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        writer.write(said(400, "the mount is invalid"))

    login = RegistryAuth(username="robot", password="very-secret")
    async with daemon(tmp_path, refuse) as docker:
        with pytest.raises(EngineRefusedError, match="the mount is invalid") as caught:
            await docker.services.create({"Name": "web"}, registry_auth=login)
    assert "very-secret" not in str(caught.value) + repr(login)
    assert "x-registry-auth:" in heads[0].lower()
    assert "very-secret" not in heads[0]


@pytest.mark.parametrize(
    ("version", "spoken"), [("1.41", "1.41"), ("1.47", "1.47"), ("1.54", "1.54"), ("1.99", "1.54")]
)
async def test_the_version_is_the_daemons_as_far_as_we_know_it(tmp_path: Path, version: str, spoken: str) -> None:
    targets: list[str] = []

    async def note(head: str, writer: asyncio.StreamWriter) -> None:
        targets.append(head.split(" ")[1])
        writer.write(whole(200, b"[]"))

    async with daemon(tmp_path, note, version=version) as docker:
        await docker.services.list({"a": "b", "c": ""})
    assert targets == [f"/v{spoken}/services?filters=%7B%22label%22%3A+%5B%22a%3Db%22%2C+%22c%22%5D%7D"]


@pytest.mark.parametrize("version", ["1.40", "1.24", "", "new"])
async def test_a_daemon_that_is_too_old_or_says_nothing_is_named(tmp_path: Path, version: str) -> None:
    with pytest.raises(UnsupportedError, match="Docker"):
        async with daemon(tmp_path, b"", version=version):
            pass


async def test_names_cannot_leave_their_place_in_a_path(tmp_path: Path) -> None:
    targets: list[str] = []

    async def note(head: str, writer: asyncio.StreamWriter) -> None:
        targets.append(head.split(" ")[1])
        writer.write(said(404, "no such"))

    for name in ("../networks/x", "a/b", "a?force=1", "a b\r\nHost: x", "a#b", "é%2e"):
        async with daemon(tmp_path, note) as docker:
            with pytest.raises(NotFoundError):
                await docker.services.inspect(name)
    assert all(target.startswith("/v1.41/services/") for target in targets)
    assert all(target.count("/") == 3 and "?" not in target and "#" not in target for target in targets)
    async with daemon(tmp_path, note) as docker:
        for name in ("", ".", ".."):
            with pytest.raises(EngineRefusedError):
                await docker.services.remove(name)


async def test_a_stream_of_events_that_is_cut_says_so(tmp_path: Path) -> None:
    async def some(_head: str, writer: asyncio.StreamWriter) -> None:
        line = json.dumps({"Type": "service", "Action": "create", "Actor": {"ID": "x", "Attributes": {}}}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        # In two pieces, the second never whole.
        writer.write(b"%x\r\n%s\r\n" % (len(line[:20]), line[:20]))
        await writer.drain()
        rest = line[20:] + b"\n"
        writer.write(b"%x\r\n%s\r\n20\r\nabc" % (len(rest), rest))
        await writer.drain()

    async with daemon(tmp_path, some) as docker, docker.system.events() as events:
        assert (await anext(events)).action == "create"
        with pytest.raises(EngineUnreachableError):
            await anext(events)


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b"x" * 1_100_000])
async def test_an_event_that_is_none_is_refused(tmp_path: Path, line: bytes) -> None:
    async def tell(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + line)
        await writer.drain()

    async with daemon(tmp_path, tell) as docker, docker.system.events() as events:
        with pytest.raises(EngineFailedError):
            await anext(events)


@pytest.mark.parametrize(
    "data",
    [b"\x09\0\0\0\0\0\0\x01x", b"\x01\0\0\0\xff\xff\xff\xff", b"\x03\0\0\0\0\0\0\x03bad", b"\x01\0\0\0\0\0\0\x02a\n"],
)
async def test_a_log_that_is_not_framed_is_refused(tmp_path: Path, data: bytes) -> None:
    async def tell(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + data)
        await writer.drain()

    async with daemon(tmp_path, tell) as docker, docker.services.logs("web") as lines:
        with pytest.raises(EngineFailedError):
            await anext(lines)


@pytest.mark.parametrize(
    "last",
    [
        b'{"errorDetail":{},"error":"manifest unknown: manifest unknown"}',
        b'{"errorDetail":{"message":"manifest unknown: manifest unknown"}}',
    ],
    ids=["old", "without error"],
)
async def test_a_pull_that_fails_in_the_middle_says_why(tmp_path: Path, last: bytes) -> None:
    async def tell(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        writer.write(b'{"status":"Pulling","id":"abc","progressDetail":{"current":1,"total":3}}\r\n')
        writer.write(last)
        await writer.drain()

    async with daemon(tmp_path, tell) as docker, docker.images.pull("shop/web:1") as progress:
        first = await anext(progress)
        assert (first.status, first.layer, first.current_bytes, first.total_bytes) == ("Pulling", "abc", 1, 3)
        with pytest.raises(NotFoundError, match="manifest unknown"):
            await anext(progress)


async def test_a_command_refused_is_an_error_and_the_connection_is_closed(tmp_path: Path) -> None:
    async def refuse(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(said(409, "Container is not running"))
        await writer.drain()

    async with daemon(tmp_path, refuse) as docker:
        with pytest.raises(ConflictError, match="not running"):
            async with docker.execs.start("x"):
                pass
    async with daemon(tmp_path, b"nonsense\r\n\r\n") as docker:
        with pytest.raises(EngineUnreachableError):
            async with docker.execs.start("x"):
                pass


async def test_who_gives_up_in_the_middle_of_a_call_or_stream_leaves_nothing_open(tmp_path: Path) -> None:
    async def slow(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(5.0)

    async with daemon(tmp_path, slow) as docker:
        for give_up_s in (0.0, 0.01, 0.05, 0.1):
            with contextlib.suppress(TimeoutError, EngineUnreachableError):
                async with asyncio.timeout(give_up_s):
                    await docker.services.list()
            with contextlib.suppress(TimeoutError, EngineUnreachableError):
                async with asyncio.timeout(give_up_s), docker.system.events() as events:
                    await anext(events)
            with contextlib.suppress(TimeoutError, EngineUnreachableError):
                async with asyncio.timeout(give_up_s), docker.execs.start("x"):
                    pass
    # An unclosed session, connection or task is a warning, and warnings are errors.


async def test_a_closed_client_says_that_it_is_closed(tmp_path: Path) -> None:
    async with daemon(tmp_path, whole(200, b"[]")) as docker:
        pass
    with pytest.raises(EngineUnreachableError, match="closed"):
        await docker.services.list()


async def test_a_service_whose_tasks_are_being_cleared_away_is_not_removed_just_then(tmp_path: Path) -> None:
    told: list[str] = []

    def task(state: str, desired: str) -> bytes:
        found = {"ID": "t", "ServiceID": "s", "Status": {"State": state}, "DesiredState": desired, "Spec": {}}
        return json.dumps([found]).encode()

    async def answer(head: str, writer: asyncio.StreamWriter) -> None:
        method, path, _ = head.split(maxsplit=2)
        told.append(f"{method} {path.partition('?')[0].removeprefix('/v1.41')}")
        if "/tasks" in path:
            lists = len([each for each in told if each == "GET /tasks"])
            writer.write(whole(200, task("shutdown", "remove") if lists < 3 else task("shutdown", "shutdown")))
        elif method == "GET":
            writer.write(whole(200, json.dumps({"ID": "s", "Version": {"Index": 1}, "Spec": {"Name": "web"}}).encode()))
        else:
            writer.write(whole(200, b""))
        await writer.drain()

    async with daemon(tmp_path, answer) as docker:
        await docker.services.remove("web")
    assert told == ["GET /services/web", *["GET /tasks"] * 3, "DELETE /services/web"]
