"""Blobs for readers: a hit leaves by the kernel, a miss is followed while it is fetched."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, ClassVar, Final

from aiohttp import web

from hunqi.errors import UserError
from hunqi.kit.rpc import RpcError
from hunqi.mirror.serve.asking import Asking
from hunqi.mirror.serve.bodies import Body, begin_body, encode_head, send_memory
from hunqi.mirror.serve.fetcher import FetcherClient, FetchStatus
from hunqi.mirror.serve.follow import Follower, Followers, Wanted
from hunqi.mirror.serve.ranges import ByteRange, RangeNotSatisfiableError, parse_range
from hunqi.mirror.serve.relayed import Relays
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.oci.digest import Digest

_log: Final = logging.getLogger(__name__)
_BLOB_TYPE: Final = "application/octet-stream"


class BlobUnknownError(UserError):
    """The repository has no such blob."""

    code: ClassVar[str] = "serve.blob_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobEndpoints:
    """GET and HEAD of blobs."""

    catalogue: Catalogue
    files: ContentFiles
    fetcher: FetcherClient
    followers: Followers
    relays: Relays
    touch: Callable[[Digest], None]

    async def get(self, asking: Asking, digest: Digest) -> web.StreamResponse:
        """Answer GET: 200, 206, 304 or 416, or raise what the error table knows."""
        request, target = asking.request, asking.target
        stored = await self._open(asking, digest)
        if stored is None and matches(request, digest):
            return await self._not_modified_unseen(asking, digest)
        if stored is None:
            return await self._follow(asking, digest)
        file, size = stored
        with file:
            if matches(request, digest):
                return not_modified(asking, digest)
            asking.trace.outcome = "hit"
            self.touch(digest)
            if not (target.is_local or asking.via.from_peer):
                self.fetcher.first_blob(target, digest)
            wanted = parse_range(request.headers.get("Range"), size)
            body, span = await self._begin(asking, digest, wanted, size)
            try:
                await body.send(file, span.start, span.end)
            except ConnectionError:
                body.cut()
                raise
            return body.finish()

    async def head(self, asking: Asking, digest: Digest) -> web.StreamResponse:
        """Answer HEAD with the size and digest; never downloads."""
        request, target = asking.request, asking.target
        stored = await self._open(asking, digest)
        if stored is not None:
            file, size = stored
            file.close()
            asking.trace.outcome = "hit"
        else:
            asking.trace.outcome = "miss"
            size = await self.fetcher.blob_size(target, digest, via=asking.via)
        if matches(request, digest):
            return not_modified(asking, digest)
        headers = [*_headers(asking, digest), ("Content-Length", str(size))]
        data = encode_head(200, headers, keep_alive=request.keep_alive)
        return send_memory(request, status=200, data=data, keep_alive=request.keep_alive)

    async def _not_modified_unseen(self, asking: Asking, digest: Digest) -> web.StreamResponse:
        """Answer 304 for a blob that only the client has: it exists if its source says so, and is not downloaded."""
        asking.trace.outcome = "miss"
        await self.fetcher.blob_size(asking.target, digest, via=asking.via)
        return not_modified(asking, digest)

    async def _open(self, asking: Asking, digest: Digest) -> tuple[BinaryIO, int] | None:
        target = asking.target
        link = self.catalogue.link(target.key, digest)
        if link is None and not asking.via.from_peer:
            content = self.catalogue.content(digest)
            if content is None or target.is_local:
                return None
            await self.fetcher.link_blob(target, digest, via=asking.via)
        elif link is None and (target.is_local or self.catalogue.content(digest) is None):
            return None
        descriptor = self.files.open_for_read(digest)
        if descriptor is None:
            return None
        file = os.fdopen(descriptor, "rb", buffering=0)
        return file, file.seek(0, os.SEEK_END)

    async def _begin(
        self, asking: Asking, digest: Digest, wanted: ByteRange | None, size: int
    ) -> tuple[Body, ByteRange]:
        span = wanted or ByteRange(0, size, size)
        headers = _headers(asking, digest)
        if wanted:
            headers.append(("Content-Range", wanted.content_range))
        status = 206 if wanted else 200
        return await begin_body(asking.request, status=status, headers=headers, length=span.length), span

    async def _follow(self, asking: Asking, digest: Digest) -> web.StreamResponse:
        request, target = asking.request, asking.target
        start = _first_byte(request.headers.get("Range"))
        wanted = Wanted(target=target, digest=digest, start=start, via=asking.via)
        async with self.followers.follow(wanted) as follower:
            asking.trace.outcome = "join" if follower.readers > 1 else "miss"
            if not (target.is_local or asking.via.from_peer):
                self.fetcher.first_blob(target, digest)
            size = await _known_size(follower)
            if size is None:
                return await self._without_space(asking, digest)
            span = parse_range(request.headers.get("Range"), size)
            await self._first_bytes(follower, digest, span or ByteRange(0, size, size))
            body, all_of_it = await self._begin(asking, digest, span, size)
            try:
                await self._send_as_it_grows(follower, body, all_of_it, digest)
            except (ConnectionError, RpcError) as error:
                _log.info("cut digest=%s at a client: %s", digest, error)
                body.cut()
                raise ConnectionResetError(str(error)) from error
            except BaseException:
                body.cut()
                raise
            self.touch(digest)
            return body.finish()

    async def _first_bytes(self, follower: Follower, digest: Digest, span: ByteRange) -> None:
        """Wait until there is something to send, so that a fetch that brings nothing is an error and no cut answer."""
        while follower.readable_end(span.start) <= span.start < span.end:
            state = follower.state
            if state.status is FetchStatus.FAILED:
                raise state.error or ConnectionAbortedError("the fetch failed")
            if state.status is FetchStatus.NO_SPACE:
                return
            self.fetcher.want(digest, span.start, span.end)
            await follower.changed()

    async def _without_space(self, asking: Asking, digest: Digest) -> web.StreamResponse:
        asking.trace.outcome = "through"
        header = asking.request.headers.get("Range")
        span = parse_range(header, await self.fetcher.blob_size(asking.target, digest, via=asking.via))
        start, end = (span.start, span.end) if span else (0, None)
        blob = await self.relays.open(asking.target, digest, start=start, end=end, via=asking.via)
        try:
            body, span = await self._begin(asking, digest, parse_range(header, blob.size), blob.size)
            try:
                await blob.send(body, span.length)
            except BaseException:
                body.cut()
                raise
            return body.finish()
        finally:
            blob.close()

    async def _send_as_it_grows(self, follower: Follower, body: Body, span: ByteRange, digest: Digest) -> None:
        position, generation = span.start, follower.state.generation
        while position < span.end:
            state = follower.state
            if state.generation != generation:
                if not follower.holds(span.start, position):
                    raise ConnectionAbortedError("bytes that were sent turned out to be wrong")
                generation = state.generation
            limit = min(follower.readable_end(position), span.end)
            if limit > position:
                if follower.file is None:
                    raise ConnectionAbortedError("the blob was evicted before it could be sent")
                await body.send(follower.file, position, limit)
                position = limit
            elif state.status is FetchStatus.FAILED:
                raise state.error or ConnectionAbortedError("the fetch failed")
            elif state.status is FetchStatus.NO_SPACE:
                raise ConnectionAbortedError("the disk is full")
            else:
                self.fetcher.want(digest, position, span.end)
                await follower.changed()


async def _known_size(follower: Follower) -> int | None:
    """Wait for the blob's size; ``None`` says that it cannot be kept for want of space."""
    while True:
        state = follower.state
        if state.status is FetchStatus.FAILED and state.error is not None:
            raise state.error
        if state.status is FetchStatus.NO_SPACE:
            return None
        if state.size is not None:
            return state.size
        await follower.changed()


def _first_byte(header: str | None) -> int:
    try:
        span = parse_range(header, 2**62)
    except RangeNotSatisfiableError:
        return 0
    return span.start if span and span.start < 2**61 else 0


def _headers(asking: Asking, digest: Digest) -> list[tuple[str, str]]:
    asking.trace.digest = str(digest)
    return [
        ("Content-Type", _BLOB_TYPE),
        ("Docker-Content-Digest", str(digest)),
        ("ETag", f'"{digest}"'),
        ("Accept-Ranges", "bytes"),
        *asking.headers,
    ]


def matches(request: web.BaseRequest, digest: Digest) -> bool:
    """Whether the client says that it has this content already (``If-None-Match``, RFC 9110 section 13.1.2)."""
    header = request.headers.get("If-None-Match")
    if header is None:
        return False
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return str(digest) in tags or header.strip() == "*"


def not_modified(asking: Asking, digest: Digest) -> web.StreamResponse:
    """Answer 304, with the headers that a 200 would have of those that name the content."""
    request = asking.request
    headers = [("Docker-Content-Digest", str(digest)), ("ETag", f'"{digest}"'), *asking.headers]
    data = encode_head(304, headers, keep_alive=request.keep_alive)
    return send_memory(request, status=304, data=data, keep_alive=request.keep_alive)
