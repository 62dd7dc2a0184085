"""Followers of a fetch miss no change of it, whatever overtakes what on the way from the fetcher."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hunqi.errors import InvariantError
from hunqi.kit.rpc import Call, Payload, RpcClient, RpcServer, Session
from hunqi.mirror.names import Target
from hunqi.mirror.serve.fetcher import FetcherClient, FetchState, FetchStatus, Via
from hunqi.mirror.serve.follow import Followers, Wanted
from hunqi.oci.digest import Digest

DIGEST = Digest.of(b"a blob")
WANTED = Wanted(target=Target("docker.io", "library/x"), digest=DIGEST, start=0, via=Via())


def running(sequence: int) -> Payload:
    return state(sequence, "running")


def failed(sequence: int) -> Payload:
    error = {"code": "source.unreachable", "message": "down", "data": {}}
    return state(sequence, "failed") | {"error": error}


def state(sequence: int, status: str) -> Payload:
    return {
        "digest": str(DIGEST),
        "sequence": sequence,
        "generation": "a.0",
        "status": status,
        "size": None,
        "extents": [],
        "verified": False,
        "error": None,
    }


@dataclass
class FakeFetcher:
    """Answers ``mirror.fetch`` over a real socket by a script of what is said in which order."""

    scripts: list[Callable[[Session], Payload]]
    asked: int = 0
    sessions: list[Session] = field(default_factory=list)

    async def fetch(self, session: Session, _call: Call, _payload: Payload) -> Payload:
        self.sessions.append(session)
        self.asked += 1
        return self.scripts[self.asked - 1](session)


@contextlib.asynccontextmanager
async def following(
    tmp_path: Path, *scripts: Callable[[Session], Payload]
) -> AsyncIterator[tuple[Followers, FakeFetcher]]:
    fake = FakeFetcher(list(scripts))
    server = RpcServer(tmp_path / "f.sock", {"mirror.fetch": fake.fetch})
    followers: list[Followers] = []
    client = RpcClient(
        tmp_path / "f.sock",
        on_notice=lambda _topic, payload: followers[0].on_progress(FetchState.from_payload(payload)),
    )
    followers.append(Followers(FetcherClient(client), open_file=lambda _digest: None))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(server.run()), group.create_task(client.run())]
        yield followers[0], fake
        for task in tasks:
            task.cancel()


def tell(session: Session, notice: Payload) -> None:
    session.notify("progress", f"{DIGEST} {notice['sequence']}", notice)


def say_running_then(notice: Payload, session: Session) -> Payload:
    """The end comes right behind the answer: both may be read at once."""
    asyncio.get_running_loop().call_soon(tell, session, notice)
    return running(1)


def say_running_after(notice: Payload, session: Session) -> Payload:
    """The end overtakes the answer, whose queue is another one."""
    tell(session, notice)
    return running(1)


async def until_failed(followers: Followers) -> None:
    async with asyncio.timeout(10), followers.follow(WANTED) as follower:
        while follower.state.status is not FetchStatus.FAILED:
            await follower.changed()


async def test_an_end_right_behind_the_answer_is_not_missed(tmp_path: Path) -> None:
    async with following(tmp_path, partial(say_running_then, failed(2))) as (followers, _):
        await until_failed(followers)


async def test_an_end_that_overtakes_the_answer_is_not_missed(tmp_path: Path) -> None:
    async with following(tmp_path, partial(say_running_after, failed(2))) as (followers, _):
        await until_failed(followers)


async def test_an_older_answer_does_not_undo_a_newer_notice_for_a_second_reader(tmp_path: Path) -> None:
    first, second = (lambda _session: running(1)), partial(say_running_after, failed(9))
    async with (
        asyncio.timeout(10),
        following(tmp_path, first, second) as (followers, _),
        followers.follow(WANTED) as follower,
        followers.follow(WANTED) as same,
    ):
        assert same is follower
        while follower.state.status is not FetchStatus.FAILED:
            await follower.changed()


async def test_a_notice_of_an_earlier_fetch_does_not_reach_the_next_one(tmp_path: Path) -> None:
    numbers = itertools.count(1)

    def begin(_session: Session) -> Payload:
        return running(next(numbers) * 10)

    async with following(tmp_path, begin, begin) as (followers, fake), asyncio.timeout(10):
        async with followers.follow(WANTED):
            pass
        async with followers.follow(WANTED) as follower:
            tell(fake.sessions[-1], failed(15))
            tell(fake.sessions[-1], failed(21))
            await follower.changed()
            assert follower.state.sequence == 21


async def test_a_refusal_after_the_fetcher_came_back_reaches_the_readers(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(10),
        following(tmp_path, lambda _session: running(1)) as (followers, fake),
        followers.follow(WANTED) as follower,
    ):
        fake.scripts.append(raising)
        await followers.rejoin()
        assert follower.state.status is FetchStatus.FAILED
        assert follower.state.error is not None
        assert follower.state.error.remote_code == InvariantError.code


def raising(_session: Session) -> Payload:
    raise RuntimeError("a bug")
