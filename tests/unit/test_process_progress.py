"""Every follower of a fetch hears of its end, whoever joins in the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from hunqi.kit.rpc import Payload, Session
from hunqi.mirror.fetch.fetch import Fetch
from hunqi.mirror.fetch.state import FetchState, FetchStatus
from hunqi.mirror.process.progress import Progress
from hunqi.oci.digest import Digest


@dataclass(eq=False)
class OneFetch:
    """What is told of a fetch, to be ended by hand: the moment between its end and the news of it is the test's."""

    status: FetchStatus = FetchStatus.RUNNING
    digest: Digest = field(default_factory=lambda: Digest.of(b"blob"))
    fill: Any = field(default_factory=lambda: SimpleNamespace(part=SimpleNamespace(kept=())))
    changed: Callable[[Fetch], None] = lambda _fetch: None

    def subscribe(self, callback: Callable[[Fetch], None]) -> None:
        self.changed = callback

    def state(self) -> FetchState:
        return FetchState(
            status=self.status,
            size=4,
            extents=((0, 4),),
            generation="a",
            verified=True,
            error=None,
            bytes_by_source={},
        )

    def end(self, status: FetchStatus) -> None:
        self.status = status
        self.changed(cast("Fetch", self))


@dataclass(eq=False)
class Told:
    """A worker's connection."""

    statuses: list[str] = field(default_factory=list)

    def notify(self, _topic: str, _key: str, payload: Payload) -> None:
        self.statuses.append(payload["status"])


def follow(progress: Progress, fetch: OneFetch, told: Told) -> str:
    return str(progress.follow(cast("Fetch", fetch), cast("Session", told))["status"])


async def test_who_joins_between_an_end_and_its_news_does_not_silence_the_others() -> None:
    full: list[str] = []
    progress = Progress(asyncio.get_running_loop(), on_full=lambda: full.append("full"))
    for status in (FetchStatus.DONE, FetchStatus.FAILED, FetchStatus.NO_SPACE):
        fetch, first, second = OneFetch(), Told(), Told()
        assert follow(progress, fetch, first) == "running"
        fetch.end(status)
        assert follow(progress, fetch, second) == status.value
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert first.statuses == [status.value]
    assert full == ["full"]


async def test_the_next_fetch_of_a_blob_does_not_silence_the_end_of_the_last() -> None:
    progress = Progress(asyncio.get_running_loop(), on_full=lambda: None)
    last, following, first, second = OneFetch(), OneFetch(), Told(), Told()
    follow(progress, last, first)
    last.end(FetchStatus.FAILED)
    assert follow(progress, following, second) == "running"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert first.statuses == ["failed"]
    following.end(FetchStatus.DONE)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert second.statuses == ["done"]
