"""A small real registry with switches, and a resolver wired to real sources and a real catalogue under a clock that a
test moves.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from hunqi.mirror.resolve.resolver import Resolver, Surroundings
from hunqi.mirror.settings import Deadlines, Origin, TagSettings
from hunqi.mirror.sources.health import HealthMemory
from hunqi.mirror.sources.model import SourceKind
from hunqi.mirror.sources.proxies import ProxyRules
from hunqi.mirror.sources.source import Source
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.model import LinkKind
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_INDEX, OCI_MANIFEST
from testbed.server import Exchange, Server

DEADLINES: Final = Deadlines(connect_s=1.0, first_byte_s=1.0, stall_s=1.0)
SETTINGS: Final = TagSettings(ttl_s=60.0, stale_s=300.0, negative_s=10.0, visibility_s=3600.0)
UP: Final = "docker.io"
REPO: Final = "library/x"
KEY: Final = f"{UP}/{REPO}"


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Trouble:
    """What the world answers instead."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class World:
    """An upstream registry of manifests, tags, blobs and lists; each answer can be switched to trouble."""

    def __init__(self) -> None:
        self.manifests: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.documents: dict[tuple[str, str], tuple[bytes, dict[str, str]]] = {}
        self.trouble: Callable[[Exchange], Trouble | None] = lambda _: None
        self.tells_digest = True
        self.headers: Mapping[str, str] = {}
        """Added to every good answer."""
        self.gate = threading.Event()
        """Answers wait for it."""
        self.gate.set()
        self.server = Server(self._answer)

    def put(self, repository: str, tag: str | None, document: Mapping[str, object]) -> Digest:
        """Serve a manifest under its digest and ``tag``."""
        data = json.dumps(document).encode()
        digest = Digest.of(data)
        media_type = str(document["mediaType"])
        self.manifests[repository, str(digest)] = (data, media_type)
        if tag:
            self.manifests[repository, tag] = (data, media_type)
        return digest

    def drop(self, repository: str, reference: str) -> None:
        """Serve a tag or digest no more."""
        del self.manifests[repository, reference]

    def count(self, method: str | None = None, *, containing: str = "") -> int:
        """Return how many requests came."""
        return len(self.server.requests(method, containing=containing))

    def fail(self, status: int, headers: Mapping[str, str] | None = None, *, containing: str = "") -> None:
        """Answer so from now on."""
        trouble = Trouble(status, headers or {})
        self.trouble = lambda exchange: trouble if containing in exchange.path else None

    def heal(self) -> None:
        """Answer as it should be."""
        self.trouble = lambda _: None

    def _answer(self, exchange: Exchange) -> None:
        self.gate.wait(10.0)
        trouble = self.trouble(exchange)
        if trouble is not None:
            exchange.reply(trouble.status, b"{}", trouble.headers)
            return
        repository, kind, rest = split(exchange.path)
        if kind == "manifests" and (repository, rest) in self.manifests:
            data, media_type = self.manifests[repository, rest]
            headers = {"Content-Type": media_type}
            if self.tells_digest:
                headers["Docker-Content-Digest"] = str(Digest.of(data))
            self._reply(exchange, data, headers)
        elif kind == "blobs" and (repository, rest) in self.blobs:
            self._reply(exchange, self.blobs[repository, rest], {"Content-Type": "application/octet-stream"})
        elif (repository, exchange.record.target.partition(f"/v2/{repository}/")[2]) in self.documents:
            body, headers = self.documents[repository, exchange.record.target.partition(f"/v2/{repository}/")[2]]
            exchange.reply(200, body, headers)
        else:
            exchange.reply(404, b'{"errors":[]}')

    def _reply(self, exchange: Exchange, data: bytes, headers: Mapping[str, str]) -> None:
        exchange.reply(200, data, {**headers, **self.headers})


def split(path: str) -> tuple[str, str, str]:
    """Return repository, kind and rest of a registry path."""
    inner = path.removeprefix("/v2/")
    for kind in ("manifests", "blobs", "tags", "referrers"):
        repository, found, rest = inner.partition(f"/{kind}/")
        if found:
            return repository, kind, rest
    return inner, "", ""


class Later:
    """The background pool: keeps what it is given until the test runs it."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def __call__(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)

    def run(self) -> int:
        """Run what was given so far; return how much it was."""
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job()
        return len(jobs)


@dataclass(kw_only=True)
class Bench:
    """One mirror's resolver and what surrounds it."""

    clock: Clock
    catalogue: Catalogue
    resolver: Resolver
    later: Later
    sources: list[Source]
    health: HealthMemory
    fetched: list[Digest]

    def blob(self, key: str, data: bytes, *, pushed: bool = False) -> Digest:
        """Store a blob and link it to the repository ``key``."""
        digest = Digest.of(data)
        staged = self.catalogue.paths.new_tmp()
        staged.write_bytes(data)
        files = ContentFiles(self.catalogue)
        files.commit(staged, digest, len(data), links=[(key, LinkKind.BLOB, pushed)])
        return digest


def source(url: str, kind: SourceKind = SourceKind.UPSTREAM, *, name: str = UP, **origin: Path) -> Source:
    """Return a real source."""
    return Source(Origin(name=name, url=url, **origin), kind, deadlines=DEADLINES, proxies=ProxyRules())


@contextmanager
def bench(
    directory: Path,
    *sources: Source,
    settings: TagSettings = SETTINGS,
    with_credentials: bool = False,
    node: str = "node-a",
    clock: Clock | None = None,
    owners: Sequence[Source] = (),
) -> Iterator[Bench]:
    """Wire a resolver to ``sources`` in this order, and to peers that own every digest."""
    clock = clock or Clock()
    with ExitStack() as stack:
        catalogue = Catalogue.open(directory, clock=clock)
        stack.callback(catalogue.close)
        for one in (*sources, *owners):
            stack.callback(one.close)
        later, health, fetched = Later(), HealthMemory(clock), list[Digest]()
        around = Surroundings(
            owners=lambda _digest: owners,
            has_peers=lambda: bool(owners),
            catalogue=catalogue,
            sources=lambda _: list(sources),
            health=health,
            with_credentials=lambda _: with_credentials,
            background=later,
            clock=clock,
            node=node,
        )
        resolver = Resolver(around, settings, on_manifest=lambda _up, _repo, digest, _manifest: fetched.append(digest))
        yield Bench(
            clock=clock,
            catalogue=catalogue,
            resolver=resolver,
            later=later,
            sources=list(sources),
            health=health,
            fetched=fetched,
        )


@contextmanager
def small_disk(directory: Path, *, size_bytes: int) -> Iterator[None]:
    """Mount a file system of ``size_bytes`` (memory) at ``directory``; the test is skipped for want of the right to."""
    directory.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(directory)]
    if subprocess.run(mount, check=False, timeout=10).returncode != 0:
        pytest.skip("this machine lets nobody mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True, timeout=10)


@contextmanager
def filled(directory: Path) -> Iterator[None]:
    """Take all the room that is left."""
    hog = directory / "hog"
    with suppress(OSError), hog.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    try:
        yield
    finally:
        hog.unlink()


def image(marker: str, *blobs: tuple[bytes, str]) -> dict[str, object]:
    """Return an image manifest; the first of ``blobs`` (data, media type) is its config."""
    parts = blobs or ((f"config {marker}".encode(), "application/vnd.oci.image.config.v1+json"),)
    described = [
        {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)} for data, media_type in parts
    ]
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described[0],
        "layers": described[1:],
        "annotations": {"marker": marker},
    }


def index(*children: tuple[Digest, str | None], media_type: str = OCI_MANIFEST) -> dict[str, object]:
    """Return an index of (digest, platform) children."""
    manifests: list[dict[str, object]] = []
    for digest, platform in children:
        child: dict[str, object] = {"mediaType": media_type, "digest": str(digest), "size": 2}
        if platform:
            names = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
            child["platform"] = names
        manifests.append(child)
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
