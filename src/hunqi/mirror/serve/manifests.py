"""Manifests for readers; the hot ones are whole answers in memory.

A hot answer is given only while it is provably true: the catalogue's version is the one it was made at (else its rows
are read again), its tag is within the TTL, its name means the same repository, the visibility of that is remembered,
and the gate lets the caller through. So a warm request costs no query, no file and no call to another process.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web

from hunqi.mirror.names import Target
from hunqi.mirror.serve.asking import Asking
from hunqi.mirror.serve.blobs import matches, not_modified
from hunqi.mirror.serve.bodies import Headers, SentResponse, encode_head, send_memory
from hunqi.mirror.serve.fetcher import FetcherClient
from hunqi.mirror.settings import TagSettings
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.model import LinkKind, StoredManifest
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Reference, Tag

HOT_BYTES: Final = 16 * 1024 * 1024
"""Most memory of one worker's hot answers."""
_HOT_BODY_BYTES: Final = 256 * 1024
_BUSY_BUFFER_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HotAnswer:
    """A manifest's answer, ready to be sent, and until when and under which catalogue it is true."""

    head: bytes
    """The response's head, with the length of the body."""
    body: bytes
    target: Target
    name: str | None
    """As the client wrote it; ``None`` beside ``?ns=``, where it is an upstream's for ever."""
    key: str
    tag: Tag | None
    digest: Digest
    digest_text: str
    version: int
    fresh_until: float
    """Seconds since the epoch."""


class HotAnswers:
    """The most recently used hot answers, by the raw path of the request; bounded in bytes."""

    def __init__(self, catalogue: Catalogue, *, max_bytes: int = HOT_BYTES) -> None:
        self._catalogue = catalogue
        self._answers: OrderedDict[str, HotAnswer] = OrderedDict()
        self._max_bytes = max_bytes
        self._bytes = 0

    def get(self, path: str) -> HotAnswer | None:
        """Return the answer if it is true now, else forget it."""
        answer = self._answers.get(path)
        if answer is None:
            return None
        version = self._catalogue.version()
        if answer.version != version or answer.fresh_until <= time.time():
            if not self._is_still_true(answer):
                self._drop(path)
                return None
            answer = self._answers[path] = replace(answer, version=version)
        return answer

    def put(self, path: str, answer: HotAnswer) -> None:
        """Keep an answer; the least recently kept go when there is no room."""
        if len(answer.body) > _HOT_BODY_BYTES:
            return
        self._drop(path)
        self._answers[path] = answer
        self._bytes += len(answer.body)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._answers)))

    def _is_still_true(self, answer: HotAnswer) -> bool:
        if answer.fresh_until <= time.time():
            return False
        if answer.tag is not None:
            row = self._catalogue.tag(answer.target.key, answer.tag)
            if row is None or row.digest != answer.digest:
                return False
        return self._catalogue.link(answer.target.key, answer.digest) is not None

    def _drop(self, path: str) -> None:
        answer = self._answers.pop(path, None)
        if answer is not None:
            self._bytes -= len(answer.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    digest: Digest
    media_type: str
    size: int
    body: bytes | None
    stale: bool = False
    age_s: float = 0.0
    fresh_until: float = 0.0
    """Until when this may be answered again without asking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEndpoints:
    """GET and HEAD of manifests."""

    catalogue: Catalogue
    fetcher: FetcherClient
    hot: HotAnswers
    tags: TagSettings
    touch: Callable[[Digest], None]

    def send_hot(self, request: web.BaseRequest, answer: HotAnswer) -> SentResponse | None:
        """Send a hot answer, or return ``None`` if this request or its connection wants more care."""
        transport = request.transport
        if transport is None or transport.get_write_buffer_size() > _BUSY_BUFFER_BYTES or not request.keep_alive:
            return None
        if "If-None-Match" in request.headers:
            return None
        data = answer.head if request.method == "HEAD" else answer.head + answer.body
        return send_memory(request, status=200, data=data, keep_alive=True)

    async def get(self, asking: Asking, reference: Reference, *, head: bool) -> web.StreamResponse:
        """Answer GET or HEAD: 200 or 304, or raise what the error table knows."""
        found = self._stored(asking.target, reference)
        if found is None:
            found = await self._resolve(asking, reference, head=head)
        else:
            asking.trace.outcome = "hit"
        asking.trace.digest = str(found.digest)
        self.touch(found.digest)
        if matches(asking.request, found.digest):
            return not_modified(asking, found.digest)
        return self._send(asking, reference, found, head=head)

    def _stored(self, target: Target, reference: Reference) -> _Found | None:
        digest, fresh_until = reference, float("inf")
        if isinstance(digest, Tag):
            row = self.catalogue.tag(target.key, digest)
            if row is None:
                return None
            if not target.is_local:
                fresh_until = row.checked_at + self.tags.ttl_of(target.repository, digest.name)
                if fresh_until <= time.time():
                    return None
            digest = row.digest
        stored = self.catalogue.manifest(target.key, digest)
        return None if stored is None else _found(stored, fresh_until=fresh_until)

    async def _resolve(self, asking: Asking, reference: Reference, *, head: bool) -> _Found:
        target = asking.target
        asking.trace.outcome = "miss"
        answer = await self.fetcher.manifest(target, reference, head=head, via=asking.via)
        if answer.stale:
            asking.trace.outcome = "stale"
        stored = None if head else self.catalogue.manifest(target.key, answer.digest)
        if stored is not None:
            found = _found(stored, fresh_until=0.0)
            return replace(found, stale=answer.stale, age_s=answer.age_s)
        return _Found(
            digest=answer.digest,
            media_type=answer.media_type,
            size=answer.size,
            body=answer.body,
            stale=answer.stale,
            age_s=answer.age_s,
        )

    def _send(self, asking: Asking, reference: Reference, found: _Found, *, head: bool) -> web.StreamResponse:
        request = asking.request
        keep_alive = request.keep_alive
        encoded = encode_head(200, _headers(asking, found), keep_alive=keep_alive)
        if found.body is None and not head:
            raise ConnectionAbortedError("the manifest was evicted while it was being answered")
        body = found.body or b""
        link = self.catalogue.link(asking.target.key, found.digest) if found.fresh_until and not head else None
        if link is not None and link.kind is LinkKind.MANIFEST and keep_alive and not asking.via.from_peer:
            answer = HotAnswer(
                head=encoded,
                body=body,
                target=asking.target,
                name=None if request.query.get("ns") else asking.name,
                key=asking.target.key,
                tag=reference if isinstance(reference, Tag) else None,
                digest=found.digest,
                digest_text=str(found.digest),
                version=self.catalogue.version(),
                fresh_until=found.fresh_until,
            )
            self.hot.put(request.raw_path, answer)
        data = encoded if head else encoded + body
        return send_memory(request, status=200, data=data, keep_alive=keep_alive)


def _found(stored: StoredManifest, *, fresh_until: float) -> _Found:
    return _Found(
        digest=stored.digest,
        media_type=stored.media_type,
        size=stored.size,
        body=stored.body,
        fresh_until=fresh_until,
    )


def _headers(asking: Asking, found: _Found) -> Headers:
    headers = [
        ("Content-Type", found.media_type),
        ("Docker-Content-Digest", str(found.digest)),
        ("ETag", f'"{found.digest}"'),
        ("Docker-Distribution-Api-Version", "registry/2.0"),
        ("Content-Length", str(found.size)),
        *asking.headers,
    ]
    if found.stale:
        headers += stale_headers(found.age_s)
    return headers


def stale_headers(age_s: float) -> list[tuple[str, str]]:
    """Return what marks an answer that could not be revalidated (RFC 9111 section 5.1; 110 of RFC 7234 section 5.5)."""
    return [("Age", str(max(0, round(age_s)))), ("Warning", '110 - "Response is Stale"')]
