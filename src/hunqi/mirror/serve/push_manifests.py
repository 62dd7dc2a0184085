"""Manifests put and deleted, byte for byte as they came; and blobs deleted.

Source: distribution-spec 1.1 and main, "Pushing Manifests", "Pushing Manifests with Subject", "Content Management".
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from aiohttp import web
from multidict import CIMultiDict

from hunqi.errors import UserError
from hunqi.mirror.serve.push_ports import PushPorts
from hunqi.mirror.serve.upload_body import RequestBody
from hunqi.mirror.store.errors import DigestMismatchError
from hunqi.mirror.store.model import LinkKind
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import MAX_MANIFEST_BYTES, Manifest, ManifestError
from hunqi.oci.reference import Reference, Tag, TagError

MAX_TAGS: Final = 100
"""Tags in one push; distribution-spec main asks for at least 10."""
_MEDIA_TYPE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}")
"""RFC 6838, section 4.2. It becomes a response's header."""


class PushTagError(UserError):
    """A tag of ``?tag=`` that cannot be one, or too many."""

    code: ClassVar[str] = "serve.push_tag"


class MissingContentError(UserError):
    """The manifest names blobs or manifests that the repository does not hold."""

    code: ClassVar[str] = "serve.missing_content"

    def __init__(self, missing: list[Digest]) -> None:
        listed = ", ".join(str(digest) for digest in missing[:20]) + (", ..." if len(missing) > 20 else "")
        super().__init__(f"push these to the repository first: {listed}")
        self.missing = missing


class ManifestUnknownError(UserError):
    """The repository has no such tag or manifest."""

    code: ClassVar[str] = "serve.manifest_unknown"


class BlobUnknownError(UserError):
    """The repository has no such blob."""

    code: ClassVar[str] = "serve.blob_unknown"


class ManifestEndpoints:
    """What is written below ``/manifests/`` and ``/blobs/``. The caller has the right to do so in ``repo``."""

    def __init__(self, ports: PushPorts) -> None:
        self._ports = ports

    async def put_manifest(self, request: web.BaseRequest, repo: str, name: str, reference: Reference) -> web.Response:
        """PUT: store a manifest under its digest and point the tags at it; 201.

        Raises :class:`ManifestError`, :class:`DigestMismatchError`, :class:`MissingContentError`,
        :class:`PushTagError`, the errors of the body and of the store.
        """
        extra_tags = _tags(request.query.getall("tag", []))
        tags = (*((reference,) if isinstance(reference, Tag) else ()), *extra_tags)
        body = RequestBody(request, stall_timeout_s=self._ports.stall_timeout_s)
        data = await body.read_whole(MAX_MANIFEST_BYTES)
        content_type = request.headers.get("Content-Type", "")
        wanted = reference if isinstance(reference, Digest) else None
        digest, manifest = await self._ports.in_thread(_read, data, content_type, wanted)
        missing = await self._ports.in_thread(self._ports.catalogue.missing_blobs, repo, manifest)
        if missing:
            await self._ports.bring(repo, manifest, missing)
        await self._ports.in_thread(self._store, repo, data, digest, manifest, tags)
        await self._ports.after_commit(repo, digest, LinkKind.MANIFEST, tags)
        location = f"{self._ports.location_base(request)}/v2/{name}/manifests/{digest}"
        headers = CIMultiDict({"Location": location, "Docker-Content-Digest": str(digest)})
        if manifest.subject is not None:
            headers["OCI-Subject"] = str(manifest.subject.digest)
        for tag in extra_tags:
            headers.add("OCI-Tag", tag.name)
        return web.Response(status=201, headers=headers)

    async def delete_manifest(
        self, request: web.BaseRequest, repo: str, name: str, reference: Reference
    ) -> web.Response:
        """DELETE: a tag alone, or a manifest with all its tags; 202. Raises :class:`ManifestUnknownError`."""
        del request
        catalogue = self._ports.catalogue
        if isinstance(reference, Tag):
            deleted = await self._ports.in_thread(catalogue.delete_tag, repo, reference)
        else:
            deleted = await self._ports.in_thread(catalogue.delete_manifest, repo, reference)
        if not (await self._ports.after_delete(repo, reference, LinkKind.MANIFEST) or deleted):
            raise ManifestUnknownError(f"{name} has no manifest {reference}")
        return web.Response(status=202)

    async def delete_blob(self, request: web.BaseRequest, repo: str, name: str, digest: Digest) -> web.Response:
        """DELETE: take a blob from the repository, whatever others hold; 202. Raises :class:`BlobUnknownError`."""
        del request
        deleted = await self._ports.in_thread(self._ports.catalogue.unlink, repo, digest)
        if not (await self._ports.after_delete(repo, digest, LinkKind.BLOB) or deleted):
            raise BlobUnknownError(f"{name} has no blob {digest}")
        return web.Response(status=202)

    def _store(self, repo: str, data: bytes, digest: Digest, manifest: Manifest, tags: tuple[Tag, ...]) -> None:
        missing = self._ports.catalogue.missing_blobs(repo, manifest)
        if missing:
            raise MissingContentError(missing)
        self._ports.catalogue.put_manifest(repo, data, manifest=manifest, digest=digest, tags=tags, pushed=True)


def _read(data: bytes, content_type: str, wanted: Digest | None) -> tuple[Digest, Manifest]:
    digest = Digest.of(data, "sha256" if wanted is None else wanted.algorithm)
    if wanted is not None and wanted != digest:
        raise DigestMismatchError(expected=wanted, actual=str(digest))
    manifest = Manifest.parse(data, content_type)
    if not _MEDIA_TYPE.fullmatch(manifest.media_type):
        raise ManifestError(f"{manifest.media_type[:100]!r} is not a media type")
    return digest, manifest


def _tags(texts: list[str]) -> tuple[Tag, ...]:
    if len(texts) > MAX_TAGS:
        raise PushTagError(f"{len(texts)} tags in one push: at most {MAX_TAGS}")
    try:
        return tuple(dict.fromkeys(Tag.parse(text) for text in texts))
    except TagError as error:
        raise PushTagError(str(error)) from error
