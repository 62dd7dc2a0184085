"""Lists of what local repositories hold: tags, referrers, and the repositories themselves, a page at a time.

Source: distribution-spec 1.1, "Listing Tags", "Listing Referrers"; ``_catalog`` is docker-registry's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import ClassVar, Final
from urllib.parse import urlencode

from aiohttp import web

from hunqi.errors import UserError
from hunqi.mirror.serve.push_ports import PushPorts
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import MAX_MANIFEST_BYTES, OCI_INDEX, Descriptor

MAX_PAGE: Final = 10_000
"""Names in one answer, also when no ``n`` asks for less; the rest follows by ``Link``."""
_SCAN: Final = 1000
_DIGITS: Final = frozenset("0123456789")


class PageSizeError(UserError):
    """``n`` is not a number of entries."""

    code: ClassVar[str] = "serve.page_size"


class RepositoryUnknownError(UserError):
    """Nothing was ever pushed under this name."""

    code: ClassVar[str] = "serve.repository_unknown"


class ListEndpoints:
    """The listing endpoints of local repositories. The caller has the right to pull."""

    def __init__(self, ports: PushPorts) -> None:
        self._ports = ports

    async def tags(self, request: web.BaseRequest, repo: str, name: str) -> web.Response:
        """GET: the tags in byte order after ``last``, at most ``n``.

        Raises :class:`PageSizeError` or :class:`RepositoryUnknownError`.
        """
        count, last = _page(request)

        def read() -> list[str] | None:
            found = self._ports.catalogue.tags(repo, after=last, limit=count + 1)
            return found if found or self._ports.catalogue.has_repository(repo) else None

        found = await self._ports.in_thread(read)
        if found is None:
            raise RepositoryUnknownError(f"{name} was never pushed to")
        headers = self._next(request, f"/v2/{name}/tags/list", found, count)
        return _json({"name": name, "tags": found[:count]}, headers)

    async def referrers(self, request: web.BaseRequest, repo: str, name: str, digest: Digest) -> web.Response:
        """GET: an index of the manifests whose subject is ``digest``; never 404.

        Pages are cut at 4 MiB; ``last`` in their ``Link`` is the last digest seen. Raises :class:`DigestError`.
        """
        artifact_type = request.query.get("artifactType") or None
        last = Digest.parse(request.query["last"]) if request.query.get("last") else None

        def read() -> tuple[list[bytes], Digest | None]:
            return _fitting(self._ports.catalogue.referrers(repo, digest, artifact_type), last)

        entries, more_after = await self._ports.in_thread(read)
        headers = {} if artifact_type is None else {"OCI-Filters-Applied": "artifactType"}
        if more_after is not None:
            query = {} if artifact_type is None else {"artifactType": artifact_type}
            path = f"/v2/{name}/referrers/{digest}"
            headers["Link"] = self._link(request, path, {**query, "last": str(more_after)})
        body = b'{"schemaVersion":2,"mediaType":"%s","manifests":[%s]}' % (OCI_INDEX.encode(), b",".join(entries))
        return web.Response(body=body, headers={**headers, "Content-Type": OCI_INDEX})

    async def catalog(self, request: web.BaseRequest, visible: Callable[[str], bool]) -> web.Response:
        """GET: the repositories that ``visible`` lets the caller see, in byte order. Raises :class:`PageSizeError`."""
        count, last = _page(request)

        def read() -> list[str]:
            return list(islice(filter(visible, _all_after(self._ports.catalogue, last)), count + 1))

        found = await self._ports.in_thread(read)
        return _json({"repositories": found[:count]}, self._next(request, "/v2/_catalog", found, count))

    def _next(self, request: web.BaseRequest, path: str, found: list[str], count: int) -> dict[str, str]:
        if count == 0 or len(found) <= count:
            return {}
        return {"Link": self._link(request, path, {"last": found[count - 1], "n": str(count)})}

    def _link(self, request: web.BaseRequest, path: str, query: Mapping[str, str]) -> str:
        return f'<{self._ports.location_base(request)}{path}?{urlencode(query)}>; rel="next"'


def _page(request: web.BaseRequest) -> tuple[int, str | None]:
    text = request.query.get("n")
    if text is None or text == "":
        count = MAX_PAGE
    elif set(text) <= _DIGITS:
        count = min(int(text[:18]), MAX_PAGE)
    else:
        raise PageSizeError(f"n={text[:40]!r} is not a number of entries")
    return count, request.query.get("last")


def _all_after(catalogue: Catalogue, last: str | None) -> Iterable[str]:
    while page := catalogue.repositories(after=last, limit=_SCAN):
        yield from page
        last = page[-1]


def _fitting(found: list[Descriptor], last: Digest | None) -> tuple[list[bytes], Digest | None]:
    """Return the entries after ``last`` that fit in one answer, and the last of them if more remain."""
    rest = sorted((one for one in found if last is None or one.digest > last), key=lambda one: one.digest)
    entries: list[bytes] = []
    size = 256
    for position, descriptor in enumerate(rest):
        entry = _entry(descriptor)
        size += len(entry) + 1
        if entries and size > MAX_MANIFEST_BYTES:
            return entries, rest[position - 1].digest
        entries.append(entry)
    return entries, None


def _entry(descriptor: Descriptor) -> bytes:
    document: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.artifact_type:
        document["artifactType"] = descriptor.artifact_type
    if descriptor.annotations:
        document["annotations"] = dict(descriptor.annotations)
    return json.dumps(document, separators=(",", ":")).encode()


def _json(document: object, headers: Mapping[str, str]) -> web.Response:
    body = json.dumps(document, separators=(",", ":")).encode()
    return web.Response(body=body, headers={**headers, "Content-Type": "application/json"})
