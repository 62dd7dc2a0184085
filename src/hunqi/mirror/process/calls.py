"""What workers may ask of the fetcher: each op reads its payload, does blocking work in a thread, answers as JSON."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final, ParamSpec, TypeVar

from hunqi.errors import UserError
from hunqi.kit.rpc import Call, Op, Payload, Session
from hunqi.mirror.fetch.fetch import Fetch
from hunqi.mirror.fetch.fetches import Fetches
from hunqi.mirror.names import Target
from hunqi.mirror.process.metrics import Metrics
from hunqi.mirror.process.peer_calls import PeerCalls, UnknownManifestError
from hunqi.mirror.process.progress import Progress
from hunqi.mirror.process.sourcing import Sourcing, Way
from hunqi.mirror.resolve.read_ahead import ReadAhead
from hunqi.mirror.resolve.resolver import Resolver
from hunqi.mirror.sources.errors import SourceError, most_telling
from hunqi.mirror.sources.model import RemoteBlob, SourceKind
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.model import LinkKind
from hunqi.mirror.store.usage import Usage
from hunqi.oci.digest import Digest
from hunqi.oci.reference import parse_reference

READ_AHEAD_S: Final = 0.03
"""What is read ahead begins so much later than what a client waits for, lest it delay that one's first byte."""
P = ParamSpec("P")
R = TypeVar("R")
_OFF_S: Final = 10.0
"""After a full disk caching is tried again so much later."""
_PROVED_LIMIT: Final = 1024


class UnknownBlobError(UserError):
    """No source of the repository has the blob."""

    code: ClassVar[str] = "serve.blob_unknown"


@dataclass(slots=True)
class Caching:
    """Whether there is room to keep anything; it turns itself on again."""

    _off_until: float = field(default=0.0)

    def is_on(self) -> bool:
        """Whether new content is to be stored."""
        return time.monotonic() >= self._off_until

    def turn_off(self) -> None:
        """The disk is full: stream through, and try again in a while."""
        self._off_until = time.monotonic() + _OFF_S


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCalls:
    """The ops under ``mirror.``, and the notices."""

    catalogue: Catalogue
    usage: Usage
    resolver: Resolver
    sourcing: Sourcing
    fetches: Fetches
    progress: Progress
    read_ahead: ReadAhead
    metrics: Metrics
    caching: Caching
    executor: Executor
    peer_calls: PeerCalls
    _proved: dict[Digest, set[str]] = field(default_factory=dict[Digest, "set[str]"])
    """Through which repositories a running fetch may be read, besides the one that it was begun for."""

    _reading: dict[Session, frozenset[Digest]] = field(default_factory=dict[Session, "frozenset[Digest]"])
    """What the clients of each worker read."""

    def being_read(self) -> frozenset[Digest]:
        """Return what clients read now, about a second late; thread-safe."""
        return frozenset[Digest]().union(*self._reading.copy().values())

    def ops(self) -> Mapping[str, Op]:
        """Return the ops by name."""
        return {
            "mirror.ping": self._ping,
            "mirror.manifest": self._manifest,
            "mirror.visibility": self._visibility,
            "mirror.link_blob": self._link_blob,
            "mirror.blob_size": self._blob_size,
            "mirror.fetch": self._fetch,
            "mirror.document": self._document,
            "mirror.scrape": self._scrape,
        }

    def take_notice(self, session: Session, topic: str, payload: Payload) -> None:
        """Take a notice of a worker."""
        match topic:
            case "readers":
                fetch = self.progress.watched(Digest.parse(payload["digest"]))
                if fetch is not None:
                    fetch.set_readers(id(session), payload["count"])
            case "want":
                fetch = self.progress.watched(Digest.parse(payload["digest"]))
                if fetch is not None:
                    fetch.want(payload["start"], payload["end"])
            case "first_blob":
                note = partial(self.read_ahead.note_blob, _target(payload), Digest.parse(payload["digest"]))
                asyncio.get_running_loop().call_later(READ_AHEAD_S, self.executor.submit, note)
            case "touched":
                used = {Digest.parse(text): at for text, at in payload["used"]}
                self._reading[session] = frozenset(map(Digest.parse, payload["reading"]))
                self.executor.submit(self.usage.touch_many, used)
            case "report":
                self.metrics.take(session, payload["report"])
            case _:
                pass

    def close(self, session: Session) -> None:
        """A worker's connection has ended."""
        self.progress.forget(session)
        self._reading.pop(session, None)
        self.metrics.forget(session)

    def start_fetch(self, target: Target, digest: Digest, *, size: int | None, background: bool) -> Fetch:
        """Start or join a fetch; thread-safe."""
        blob = RemoteBlob(upstream=target.upstream, repository=target.repository, digest=digest)
        known = self.catalogue.expected_size(digest)
        return self.fetches.join(blob, repo=target.key, size=size if size is not None else known, background=background)

    def has_proved(self, repo: str, digest: Digest) -> bool:
        """Whether the repository's own source said, while the fetch ran, that it has the blob."""
        return repo in self._proved.get(digest, ())

    def show(self, target: Target, digest: Digest, hops: tuple[str, ...]) -> None:
        """Let a repository show a stored blob if it links it or its own source has it; raises what asking raises."""
        if self.catalogue.link(target.key, digest) is not None:
            return
        if target.upstream is not None:
            self.resolver.link_blob(target.upstream, target.repository, digest, hops=hops)
        else:
            self._size(target, digest, Way(hops=hops))
            self.catalogue.add_link(target.key, digest, kind=LinkKind.BLOB, pushed=False)

    async def _ping(self, _session: Session, _call: Call, _payload: Payload) -> Payload:
        return {}

    async def _manifest(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        target, reference = _target(payload), parse_reference(payload["reference"])
        if target.upstream is None:
            if payload["from_peer"]:
                raise UnknownManifestError(f"{target.key} has no manifest {reference}")
            return await self._in_thread(
                self.peer_calls.local_manifest,
                target,
                payload["reference"],
                head=payload["head"],
                hops=tuple(payload["hops"]),
            )
        resolved = await self._in_thread(
            self.resolver.manifest,
            target.upstream,
            target.repository,
            reference,
            head=payload["head"],
            hops=tuple(payload["hops"]),
            from_peer=payload["from_peer"],
        )
        if not payload["head"]:
            self.read_ahead.note_manifest(target, resolved.digest)
        return {
            "digest": str(resolved.digest),
            "media_type": resolved.media_type,
            "size": resolved.size,
            "stale": resolved.stale,
            "age_s": resolved.age_s,
            "body": None if resolved.body is None else base64.b64encode(resolved.body).decode(),
        }

    async def _visibility(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        target, text = _target(payload), payload["reference"]
        reference = None if text is None else parse_reference(text)
        public = await self._in_thread(
            self.resolver.visibility, target.upstream or "", target.repository, reference, hops=()
        )
        return {"public": public}

    async def _link_blob(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        target, digest = _target(payload), Digest.parse(payload["digest"])
        size = await self._in_thread(
            self.resolver.link_blob, target.upstream or "", target.repository, digest, hops=tuple(payload["hops"])
        )
        return {"size": size}

    async def _blob_size(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        target, digest = _target(payload), Digest.parse(payload["digest"])
        return {"size": await self._in_thread(self._size, target, digest, _way(payload))}

    async def _fetch(self, session: Session, _call: Call, payload: Payload) -> Payload:
        target, digest = _target(payload), Digest.parse(payload["digest"])
        way = _way(payload)
        if target.upstream is None and (way.from_peer or not self.sourcing.has_peers()):
            raise UnknownBlobError(f"{target.key} has no blob {digest}")
        content = self.catalogue.content(digest)
        if content is not None and self.catalogue.paths.content_file(digest).exists():
            await self._in_thread(self.show, target, digest, tuple(payload["hops"]))
            return self.progress.stored(digest, content.size)
        running = self.fetches.get(digest)
        if running is None:
            self.sourcing.set_way(digest, way)
            self._proved.pop(digest, None)
        if not self.caching.is_on():
            return self._full(digest)
        if target.upstream is None and running is None:
            # Live nodes answer for themselves first: what a fetch says in the end is whatever its last source said.
            await self._in_thread(self._size, target, digest, way)
        fetch = self.start_fetch(target, digest, size=None, background=False)
        if fetch.repo != target.key and not self.has_proved(target.key, digest):
            await self._in_thread(self._prove, target, fetch, way)
            self._proved.setdefault(digest, set()).add(target.key)
        fetch.set_readers(id(session), payload["readers"])
        if payload["start"]:
            fetch.want(payload["start"], payload["start"] + 1)
        if len(self._proved) > _PROVED_LIMIT:
            running_now = {one.digest for one in self.fetches.active()}
            for ended in self._proved.keys() - running_now:
                del self._proved[ended]
        return self.progress.follow(fetch, session)

    def _full(self, digest: Digest) -> Payload:
        return self.progress.stored(digest, 0) | {"status": "no-space", "size": None, "extents": []}

    async def _document(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        target = _target(payload)
        document = await self._in_thread(
            self.resolver.document,
            target.upstream or "",
            target.repository,
            payload["path"],
            hops=tuple(payload["hops"]),
        )
        return {
            "body": base64.b64encode(document.body).decode(),
            "content_type": document.content_type,
            "link_header": document.link_header,
            "filters_applied": document.filters_applied,
            "stale": document.stale,
            "age_s": document.age_s,
        }

    async def _scrape(self, session: Session, _call: Call, payload: Payload) -> Payload:
        self.metrics.take(session, payload["report"])
        return {"text": await self._in_thread(self.metrics.text)}

    def _prove(self, target: Target, fetch: Fetch, way: Way) -> None:
        """Make sure that a repository may show a blob which is fetched for another; raises what asking raises.

        A manifest can name any digest, so it is believed only where everybody may see what is being fetched.
        """
        rows = [self.catalogue.visibility(repo) for repo in (fetch.repo, *self._proved.get(fetch.digest, ()))]
        if any(row is not None and row.public for row in rows):
            self._size(target, fetch.digest, way)
        else:
            self._ask_size(target, fetch.digest, way)

    def _size(self, target: Target, digest: Digest, way: Way) -> int:
        """Return a blob's size as the repository's own source tells, or its manifest; raises what asking raises."""
        if target.upstream is not None and self.catalogue.manifests_containing(digest, repo=target.key):
            known = self.catalogue.expected_size(digest)
            if known is not None:
                return known
        return self._ask_size(target, digest, way)

    def _ask_size(self, target: Target, digest: Digest, way: Way) -> int:
        blob = RemoteBlob(upstream=target.upstream, repository=target.repository, digest=digest)
        failures: list[SourceError] = []
        for source in self.sourcing.of_head(blob, way):
            try:
                size = source.head_blob(blob, hops=(*way.hops, self.sourcing.node))
            except SourceError as error:
                if source.kind is SourceKind.PEER and not self.sourcing.could_have(source, error):
                    continue
                failures.append(error)
                if source.kind is SourceKind.UPSTREAM:
                    break
                continue
            if size is not None:
                return size
        raise most_telling(failures) or UnknownBlobError(f"{target.key} has no blob {digest}")

    async def _in_thread(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self.executor, partial(call, *args, **kwargs))


def _way(payload: Payload) -> Way:
    return Way(hops=tuple(payload["hops"]), from_peer=payload["from_peer"])


def _target(payload: Payload) -> Target:
    return Target(payload["upstream"], payload["repository"])
