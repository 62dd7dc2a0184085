"""Followers over a real socket: no order in which a fetcher's answer and its notices arrive leaves a reader waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from hunqi.kit.rpc import Call, Payload, RpcClient, RpcError, RpcServer, Session
from hunqi.mirror.names import Target
from hunqi.mirror.serve.fetcher import FetcherClient, FetchState, FetchStatus, Via
from hunqi.mirror.serve.follow import Followers, Wanted
from hunqi.oci.digest import Digest

DATA = b"x" * 1000
DIGEST = Digest.of(DATA)
WANTED = Wanted(target=Target("docker.io", "library/x"), digest=DIGEST, start=0, via=Via())
Fetch = Callable[[Session, int], Payload]


def state(status: str, *, sequence: int, epoch: str = "a", end: int = 0) -> Payload:
    return {
        "digest": str(DIGEST),
        "epoch": epoch,
        "generation": "a",
        "sequence": sequence,
        "status": status,
        "size": len(DATA),
        "extents": [[0, end]] if end else [],
        "kept": [[0, end]] if end else [],
        "verified": status == "done",
        "error": None,
    }


@asynccontextmanager
async def followers(directory: Path, fetch: Fetch) -> AsyncIterator[Followers]:
    """Run a fetcher that answers the n-th question for a fetch with ``fetch(session, n)``."""
    asked = 0

    async def answer(session: Session, _call: Call, _payload: Payload) -> Payload:
        nonlocal asked
        asked += 1
        return fetch(session, asked)

    (directory / "blob").write_bytes(DATA)
    rpc = RpcClient(
        directory / "socket", on_notice=lambda _topic, payload: made.on_progress(FetchState.from_payload(payload))
    )
    made = Followers(FetcherClient(rpc), open_file=lambda _digest: (directory / "blob").open("rb"))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(RpcServer(directory / "socket", {"mirror.fetch": answer}).run())]
        tasks.append(group.create_task(rpc.run()))
        yield made
        for task in tasks:
            task.cancel()


async def test_an_end_that_comes_with_the_answer_is_not_lost(tmp_path: Path) -> None:
    def fetch(session: Session, _number: int) -> Payload:
        session.notify("progress", "x", state("done", sequence=2, end=1000))
        return state("running", sequence=1)

    async with followers(tmp_path, fetch) as made, asyncio.timeout(10), made.follow(WANTED) as follower:
        while follower.state.status is FetchStatus.RUNNING:
            await follower.changed()
        assert follower.readable_end(0) == len(DATA)


async def test_an_end_that_comes_with_the_answer_to_a_rejoin_is_not_undone(tmp_path: Path) -> None:
    def fetch(session: Session, number: int) -> Payload:
        if number == 2:
            session.notify("progress", "x", state("done", epoch="b", sequence=2, end=1000))
            return state("running", epoch="b", sequence=1, end=10)
        return state("running", sequence=1)

    async with followers(tmp_path, fetch) as made, asyncio.timeout(10), made.follow(WANTED) as follower:
        await made.rejoin()
        while follower.state.status is FetchStatus.RUNNING:
            await follower.changed()


async def test_a_new_fetcher_that_has_not_read_its_journal_takes_nothing_back(tmp_path: Path) -> None:
    def fetch(_session: Session, number: int) -> Payload:
        return state("running", epoch=f"e{number}", sequence=1, end=500 if number == 1 else 0)

    async with followers(tmp_path, fetch) as made, asyncio.timeout(10), made.follow(WANTED) as follower:
        await made.rejoin()
        assert follower.present_end(0) == 500
        assert follower.still_holds(0, 500, since=0)
        made.on_progress(FetchState.from_payload(state("running", epoch="e2", sequence=2, end=700)))
        assert follower.present_end(0) == 700
        assert follower.still_holds(0, 500, since=0)
        assert not follower.still_holds(0, 701, since=0)


async def test_bytes_that_were_thrown_away_are_not_held_because_others_came(tmp_path: Path) -> None:
    def fetch(_session: Session, number: int) -> Payload:
        return state("running", sequence=number, end=500)

    async with followers(tmp_path, fetch) as made, asyncio.timeout(10), made.follow(WANTED) as follower:
        again = state("running", sequence=5, end=900) | {"generation": "b"}
        made.on_progress(FetchState.from_payload(again))
        assert follower.present_end(0) == 900
        assert not follower.still_holds(0, 10, since=0)
        assert follower.still_holds(0, 0, since=0)
        assert follower.still_holds(0, 900, since=follower.age)
        other = state("running", epoch="b", sequence=1, end=900) | {"generation": "b", "kept": [[0, 300]]}
        age = follower.age
        made.on_progress(FetchState.from_payload(other))
        assert follower.still_holds(0, 300, since=age)
        assert not follower.still_holds(0, 301, since=age)


async def test_a_refusal_to_a_rejoin_ends_its_readers_and_nothing_else(tmp_path: Path) -> None:
    def fetch(_session: Session, number: int) -> Payload:
        if number > 1:
            raise RpcError("fetch.too_many", "no more")
        return state("running", sequence=1, end=500)

    async with followers(tmp_path, fetch) as made, asyncio.timeout(10), made.follow(WANTED) as follower:
        await made.rejoin()
        assert follower.state.status is FetchStatus.FAILED
        assert follower.state.error is not None
        assert follower.state.error.remote_code == "fetch.too_many"


async def test_a_reader_that_leaves_during_a_rejoin_is_no_error(tmp_path: Path) -> None:
    other = Wanted(target=WANTED.target, digest=Digest.of(b"other"), start=0, via=Via())

    def fetch(_session: Session, number: int) -> Payload:
        if number == 3:
            loop.call_soon(leave.set)
        return state("running", sequence=number) | ({"digest": str(other.digest)} if number == 2 else {})

    loop, leave = asyncio.get_running_loop(), asyncio.Event()
    async with followers(tmp_path, fetch) as made, asyncio.timeout(10):

        async def read() -> None:
            async with made.follow(other):
                await leave.wait()

        async with made.follow(WANTED), asyncio.TaskGroup() as group:
            group.create_task(read())
            while len(made._followers) < 2:
                await asyncio.sleep(0.01)
            await made.rejoin()
