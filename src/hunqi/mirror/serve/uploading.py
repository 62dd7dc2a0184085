"""Blob uploads: begun, filled whole, in chunks or as a stream, looked at, finished, cancelled, or mounted instead.

Every append names the offset that it continues, so of two clients that fill one upload at once one gets 416 and
nothing is interleaved. Source: distribution-spec 1.1 and main, "Pushing blobs", "Mounting a blob from another
repository".
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from hunqi.errors import UserError
from hunqi.mirror.serve.push_ports import PushPorts
from hunqi.mirror.serve.upload_body import RequestBody
from hunqi.mirror.serve.upload_range import Chunk, ChunkSizeError, range_header
from hunqi.mirror.serve.wire import error_reply, wire_error
from hunqi.mirror.store.errors import UploadRangeError, UploadUnknownError
from hunqi.mirror.store.model import LinkKind, Upload
from hunqi.oci.digest import Algorithm, Digest, DigestError

_MOUNT_CANDIDATES: Final = 16
"""Repositories that are tried for a mount without ``from``: each may cost a question about rights."""


class UploadEndpoints:
    """The endpoints below ``/blobs/uploads/``. The caller has the right to push to ``repo``."""

    def __init__(self, ports: PushPorts) -> None:
        self._ports = ports

    async def start_upload(self, request: web.BaseRequest, repo: str, name: str) -> web.Response:
        """POST: 201 for a mount or a whole blob in one request, else 202 with where to go on.

        Raises :class:`DigestError` and what :meth:`put_upload` raises.
        """
        query = request.query
        mount = Digest.parse(query["mount"]) if "mount" in query else None
        whole = Digest.parse(query["digest"]) if "digest" in query else None
        algorithm = _algorithm(query.get("digest-algorithm"), whole or mount)
        if mount is not None and await self._mount(request, repo, mount, query.get("from")):
            return self._created(request, name, mount)
        upload = await self._ports.in_thread(self._ports.uploads.start, repo, algorithm)
        if whole is None or mount is not None:
            return self._under_way(request, name, upload, status=202)
        try:
            size = await self._receive(request, upload, None)
            await self._finish(upload, whole)
        except BaseException:
            # Its id was told to nobody, so nobody could go on with it.
            await self._ports.in_thread(self._ports.uploads.cancel, upload)
            raise
        return self._created(request, name, whole, size_bytes=size)

    async def patch_upload(self, request: web.BaseRequest, repo: str, name: str, upload_id: str) -> web.Response:
        """PATCH: append a chunk (with ``Content-Range``) or a stream (without); 202, or 416 when out of order."""
        upload = await self._upload(repo, upload_id)
        try:
            size = await self._receive(request, upload, _chunk(request))
        except UploadRangeError as error:
            return self._out_of_order(request, name, upload, error)
        return self._under_way(request, name, upload, status=202, size_bytes=size)

    async def put_upload(self, request: web.BaseRequest, repo: str, name: str, upload_id: str) -> web.Response:
        """PUT: append what is left, check the digest and make the blob the repository's; 201, 400 or 416.

        Raises :class:`DigestError`, the store's errors and those of the body. After a wrong digest the upload is gone.
        """
        upload = await self._upload(repo, upload_id)
        digest = Digest.parse(request.query.get("digest", ""))
        try:
            size = await self._receive(request, upload, _chunk(request))
        except UploadRangeError as error:
            return self._out_of_order(request, name, upload, error)
        await self._finish(upload, digest)
        return self._created(request, name, digest, size_bytes=size)

    async def get_upload(self, request: web.BaseRequest, repo: str, name: str, upload_id: str) -> web.Response:
        """GET: 204 with how far the upload is."""
        return self._under_way(request, name, await self._upload(repo, upload_id), status=204)

    async def delete_upload(self, request: web.BaseRequest, repo: str, name: str, upload_id: str) -> web.Response:
        """DELETE: forget the upload; 204."""
        del request, name
        upload = await self._upload(repo, upload_id)
        if not await self._ports.in_thread(self._ports.uploads.cancel, upload):
            raise UploadUnknownError(f"there is no upload {upload_id[:64]!r} (any more): begin again")
        return web.Response(status=204)

    async def _upload(self, repo: str, upload_id: str) -> Upload:
        upload = await self._ports.in_thread(self._ports.uploads.get, repo, upload_id)
        if upload is None:
            raise UploadUnknownError(f"there is no upload {upload_id[:64]!r} (any more): begin again")
        return upload

    async def _receive(self, request: web.BaseRequest, upload: Upload, chunk: Chunk | None) -> int:
        """Append the request's body and return the upload's new size."""
        offset = upload.offset
        if chunk is not None and chunk.start != offset:
            raise UploadRangeError(offset=offset)
        end = None if chunk is None else chunk.start + chunk.length
        body = RequestBody(request, stall_timeout_s=self._ports.stall_timeout_s)
        while piece := await body.next_piece():
            if end is not None and offset + len(piece) > end:
                raise ChunkSizeError(f"the chunk has more bytes than its Content-Range names ({end - upload.offset})")
            offset = await self._ports.in_thread(self._ports.uploads.append, upload, piece, expected_start=offset)
        if end is not None and offset < end:
            raise ChunkSizeError(
                f"the chunk has {offset - upload.offset} of the {end - upload.offset} bytes that it names"
            )
        return offset

    async def _finish(self, upload: Upload, digest: Digest) -> None:
        await self._ports.in_thread(self._ports.uploads.finish, upload, digest)
        await self._ports.after_commit(upload.repo, digest, LinkKind.BLOB, ())

    async def _mount(self, request: web.BaseRequest, repo: str, digest: Digest, source: str | None) -> bool:
        ports = self._ports
        if source is not None:
            try:
                candidates = [ports.source_of(source)]
            except UserError:
                return False
        else:
            candidates = await ports.in_thread(ports.catalogue.repos_of, digest)
        for candidate in candidates[:_MOUNT_CANDIDATES]:
            # Rights first: how long an answer takes must not tell a stranger what a repository holds.
            if not await ports.may_read(request, candidate):
                continue
            if await ports.in_thread(ports.uploads.mount, repo, digest, candidate):
                await ports.after_commit(repo, digest, LinkKind.BLOB, ())
                return True
        return False

    def _created(
        self, request: web.BaseRequest, name: str, digest: Digest, *, size_bytes: int | None = None
    ) -> web.Response:
        headers = {"Location": self._ports.blob_location(request, name, digest), "Docker-Content-Digest": str(digest)}
        if size_bytes is not None:
            headers["Range"] = range_header(size_bytes)
        return web.Response(status=201, headers=headers)

    def _under_way(
        self, request: web.BaseRequest, name: str, upload: Upload, *, status: int, size_bytes: int | None = None
    ) -> web.Response:
        return web.Response(status=status, headers=self._progress(request, name, upload, size_bytes))

    def _out_of_order(
        self, request: web.BaseRequest, name: str, upload: Upload, error: UploadRangeError
    ) -> web.Response:
        code, status = wire_error(error)
        return error_reply(code, str(error), status=status, headers=self._progress(request, name, upload, error.offset))

    def _progress(
        self, request: web.BaseRequest, name: str, upload: Upload, size_bytes: int | None = None
    ) -> dict[str, str]:
        return {
            "Location": self._ports.upload_location(request, name, upload.id),
            "Range": range_header(upload.offset if size_bytes is None else size_bytes),
            "Docker-Upload-UUID": upload.id,
        }


def _chunk(request: web.BaseRequest) -> Chunk | None:
    return Chunk.of_headers(request.headers.get("Content-Range"), request.content_length)


def _algorithm(text: str | None, expected: Digest | None) -> Algorithm:
    if text is None:
        return "sha256" if expected is None else expected.algorithm
    if text == "sha256" or text == "sha512":
        return text
    raise DigestError(f"{text[:40]!r} is not a digest algorithm of this registry: use sha256 or sha512")
