"""A table of fetches over real sources and a directory that stands for the store's, for the tests of the fetch room."""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hunqi.mirror.fetch.driver import DriverLimits
from hunqi.mirror.fetch.fetch import Fetch
from hunqi.mirror.fetch.fetches import Fetches
from hunqi.mirror.fetch.ports import FetchPorts
from hunqi.mirror.settings import MIB, Deadlines, FetchSettings, Origin
from hunqi.mirror.sources.health import HealthMemory
from hunqi.mirror.sources.model import RemoteBlob, SourceKind
from hunqi.mirror.sources.proxies import ProxyRules
from hunqi.mirror.sources.source import Source
from hunqi.oci.digest import Digest
from testbed.server import Exchange, Link, Server

SHORT = Deadlines(connect_s=1.0, first_byte_s=1.0, stall_s=1.0)
RANGES = FetchSettings(connections=8, range_threshold=4 * MIB)
PLAIN = FetchSettings(connections=1)


@cache
def payload(size_bytes: int, seed: int = 0) -> bytes:
    """Bytes that do not repeat."""
    return random.Random(seed).randbytes(size_bytes)


@cache
def remote(data: bytes, repository: str = "library/demo", *, algorithm: str = "sha256") -> RemoteBlob:
    """The blob of these bytes at docker.io."""
    digest = Digest.parse(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    return RemoteBlob(upstream="docker.io", repository=repository, digest=digest)


def source(
    url: str, *, kind: SourceKind = SourceKind.UPSTREAM, name: str = "docker.io", deadlines: Deadlines = SHORT
) -> Source:
    """A real source."""
    return Source(Origin(name=name, url=url), kind, deadlines=deadlines, proxies=ProxyRules())


class BlobServer:
    """Serves one body honestly, with ranges, at a pace; counts by the testbed's server."""

    def __init__(self, data: bytes, *, pace_bytes_s: float | None = None, latency_s: float = 0.0) -> None:
        self.data = memoryview(data)
        self.server = Server(self._answer, link=Link(pace_bytes_s=pace_bytes_s, latency_s=latency_s))

    def __enter__(self) -> BlobServer:
        self.server.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    @property
    def url(self) -> str:
        return self.server.url

    def _answer(self, exchange: Exchange) -> None:
        size = len(self.data)
        asked = exchange.header("range")
        if asked is None:
            exchange.head(200, {"Content-Length": size, "ETag": '"one"'})
            exchange.write(self.data)
            return
        low, _, high = asked.removeprefix("bytes=").partition("-")
        start, stop = int(low), min(int(high) + 1 if high else size, size)
        fields = {"Content-Length": stop - start, "Content-Range": f"bytes {start}-{stop - 1}/{size}", "ETag": '"one"'}
        exchange.head(206, fields)
        exchange.write(self.data[start:stop])


@dataclass
class Bench:
    """Fetches, what they committed, whom they blamed."""

    directory: Path
    sources: list[Source]
    settings: FetchSettings = RANGES
    limits: DriverLimits = field(default_factory=lambda: DriverLimits(give_up_s=5.0))
    commits: list[tuple[Digest, int, tuple[str, ...]]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    blamed: list[str] = field(default_factory=list)
    commit_error: Exception | None = None
    hold_commit: threading.Event | None = None
    committing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.content = self.directory / "content"
        self.content.mkdir(parents=True, exist_ok=True)
        self.health = HealthMemory(time.monotonic)
        self.fetches = self.start()

    def start(self) -> Fetches:
        """A table over the same directory, as after a restart."""
        ports = FetchPorts(
            candidates=lambda _: self.health.order(self.sources),
            commit=self._commit,
            adopt=self._adopt,
            blame=lambda name, _: self.blamed.append(name),
            health=self.health,
        )
        self.fetches = Fetches(
            data_dir=self.directory, ports=ports, settings=self.settings, limits=self.limits, rng=random.Random(1)
        )
        return self.fetches

    def join(self, data: bytes, *, repo: str = "docker.io/library/demo", sized: bool = True) -> Fetch:
        return self.fetches.join(remote(data), repo=repo, size=len(data) if sized else None)

    def kept(self, data: bytes) -> bytes | None:
        """What the store has under the digest of ``data``."""
        path = self.content / remote(data).digest.hex
        return path.read_bytes() if path.exists() else None

    def parts(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "parts").iterdir())

    def _commit(self, part: Path, digest: Digest, size: int, repos: Sequence[str]) -> None:
        self.committing.set()
        if self.hold_commit is not None:
            self.hold_commit.wait(10)
        if self.commit_error is not None:
            raise self.commit_error
        assert part.stat().st_size == size
        part.rename(self.content / digest.hex)
        self.commits.append((digest, size, tuple(repos)))

    def _adopt(self, digest: Digest, repos: Sequence[str]) -> bool:
        if not (self.content / digest.hex).exists():
            return False
        self.links += repos
        return True


@contextlib.contextmanager
def bench(directory: Path, sources: list[Source], **options: object) -> Iterator[Bench]:
    """A bench that is stopped, and whose threads are gone, at the end."""
    before = set(threading.enumerate())
    made = Bench(directory, sources, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        stopped = made.fetches.stop(5.0)
        for one in made.sources:
            one.close()
        assert stopped, "threads outlived the table"
        left = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith(("fetch", "flush"))]
        assert not left, left
