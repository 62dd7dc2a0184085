"""Blobs for readers: a hit leaves by the kernel, a miss is followed while it is fetched."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
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
from hunqi.mirror.serve.rest import Rest, rest_of
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.oci.digest import Digest

_log: Final = logging.getLogger(__name__)
_BLOB_TYPE: Final = "application/octet-stream"
_TOLD_BYTES: Final = 16 * 1024 * 1024
"""How exactly the access line of a client that left tells what it got."""


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
    reading: Callable[[Digest], AbstractContextManager[None]]
    """Says so for as long as a client reads: eviction leaves that alone."""

    async def get(self, asking: Asking, digest: Digest) -> web.StreamResponse:
        """Answer GET: 200, 206, 304 or 416, or raise what the error table knows."""
        with self.reading(digest):
            return await self._get(asking, digest)

    async def _get(self, asking: Asking, digest: Digest) -> web.StreamResponse:
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
            with _cut_if_broken(asking, body, digest):
                for start in range(span.start, span.end, _TOLD_BYTES):
                    end = min(start + _TOLD_BYTES, span.end)
                    await body.send(file, start, end)
                    asking.trace.sent = end - span.start
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
        status = asking.trace.begun = 206 if wanted else 200
        return await begin_body(asking.request, status=status, headers=headers, length=span.length), span

    async def _follow(self, asking: Asking, digest: Digest) -> web.StreamResponse:
        header, target = asking.request.headers.get("Range"), asking.target
        wanted = Wanted(target=target, digest=digest, start=_first_byte(header), via=asking.via)
        body: Body | None = None
        rest: Rest | None = None
        async with self.followers.follow(wanted) as follower:
            asking.trace.outcome = "join" if follower.readers > 1 else "miss"
            if not (target.is_local or asking.via.from_peer):
                self.fetcher.first_blob(target, digest)
            size = await _known_size(follower)
            asked = None if size is None else parse_range(header, size)
            if size is not None and await self._has_first_bytes(follower, digest, asked or ByteRange(0, size, size)):
                body, span = await self._begin(asking, digest, asked, size)
                with _cut_if_broken(asking, body, digest):
                    rest = await self._send_as_it_grows(asking, follower, body, span)
        # A reader that goes on without the disk must not hold the file that filled it: so outside of the context.
        if body is None:
            return await self._without_space(asking, digest)
        if rest is not None:
            with _cut_if_broken(asking, body, digest):
                await self._pass_rest(asking, digest, body, rest)
        self.touch(digest)
        return body.finish()

    async def _has_first_bytes(self, follower: Follower, digest: Digest, span: ByteRange) -> bool:
        """Wait until there is something to send, so that a fetch that brings nothing is an error and no cut answer.

        False says that there is no room for anything.
        """
        while follower.readable_end(span.start) <= span.start < span.end:
            state = follower.state
            if state.status is FetchStatus.FAILED:
                raise state.error or ConnectionAbortedError("the fetch failed")
            if state.status is FetchStatus.NO_SPACE:
                return False
            self.fetcher.want(digest, span.start, span.end)
            await follower.changed()
        return True

    async def _without_space(self, asking: Asking, digest: Digest) -> web.StreamResponse:
        asking.trace.outcome = "through"
        header = asking.request.headers.get("Range")
        span = parse_range(header, await self.fetcher.blob_size(asking.target, digest, via=asking.via))
        start, end = (span.start, span.end) if span else (0, None)
        blob = await self.relays.open(asking.target, digest, start=start, end=end, via=asking.via)
        try:
            body, span = await self._begin(asking, digest, parse_range(header, blob.size), blob.size)
            with _cut_if_broken(asking, body, digest):
                await blob.send(body, span.length, asking.trace)
            return body.finish()
        finally:
            blob.close()

    async def _pass_rest(self, asking: Asking, digest: Digest, body: Body, rest: Rest) -> None:
        asking.trace.outcome = "through"
        span = rest.span
        try:
            blob = await self.relays.open(
                asking.target, digest, start=span.start, end=span.end, via=asking.via, rest=rest
            )
        finally:
            if rest.beginning is not None:
                rest.beginning.close()
        try:
            await blob.send(body, span.length, asking.trace)
        finally:
            blob.close()

    async def _send_as_it_grows(self, asking: Asking, follower: Follower, body: Body, span: ByteRange) -> Rest | None:
        """Send what is there as it comes; return what is left for want of space."""
        position, age = span.start, follower.age
        while position < span.end:
            state = follower.state
            if not follower.still_holds(span.start, position, since=age):
                raise ConnectionAbortedError("bytes that were sent were taken back")
            age = follower.age
            limit = min(follower.readable_end(position), span.end)
            if limit > position:
                if follower.file is None:
                    raise ConnectionAbortedError("the blob was evicted before it could be sent")
                await body.send(follower.file, position, limit)
                position = limit
                asking.trace.sent = position - span.start
            elif state.status is FetchStatus.FAILED:
                raise state.error or ConnectionAbortedError("the fetch failed")
            elif state.status is FetchStatus.NO_SPACE:
                return rest_of(follower, span, position)
            else:
                self.fetcher.want(state.digest, position, span.end)
                await follower.changed()
        return None


@contextmanager
def _cut_if_broken(asking: Asking, body: Body, digest: Digest) -> Generator[None]:
    """Cut the answer when it cannot be finished: the client must see that it is not whole."""
    try:
        yield
    except (ConnectionError, RpcError) as error:
        if not isinstance(error, ConnectionResetError):
            asking.trace.outcome = "cut"
            _log.info("cut digest=%s at a client: %s", digest, error)
        body.cut()
        raise ConnectionResetError(str(error)) from error
    except BaseException:
        body.cut()
        raise


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
