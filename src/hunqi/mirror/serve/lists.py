"""Lists that an upstream keeps (tags, referrers), passed through with their links pointing at this mirror."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from hunqi.mirror.serve.asking import Asking
from hunqi.mirror.serve.fetcher import FetcherClient, PassedDocument
from hunqi.mirror.serve.manifests import stale_headers
from hunqi.oci.digest import Digest

_NEXT: Final = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')
_LIST_PARAMETERS: Final = ("n", "last", "artifactType")


async def pass_tags(asking: Asking, fetcher: FetcherClient) -> web.Response:
    """Answer ``tags/list`` of a mirrored repository."""
    return await _pass(asking, fetcher, "tags/list")


async def pass_referrers(asking: Asking, fetcher: FetcherClient, digest: Digest) -> web.Response:
    """Answer ``referrers/<digest>`` of a mirrored repository."""
    return await _pass(asking, fetcher, f"referrers/{digest}")


async def _pass(asking: Asking, fetcher: FetcherClient, path: str) -> web.Response:
    query = {key: asking.request.query[key] for key in _LIST_PARAMETERS if key in asking.request.query}
    whole = f"{path}?{urlencode(query)}" if query else path
    document = await fetcher.document(asking.target, whole, via=asking.via)
    asking.trace.outcome = "stale" if document.stale else "pass"
    return web.Response(body=document.body, headers=dict(_headers(asking, path, document)))


def _headers(asking: Asking, path: str, document: PassedDocument) -> list[tuple[str, str]]:
    headers = [("Content-Type", document.content_type), *asking.headers]
    if document.filters_applied:
        headers.append(("OCI-Filters-Applied", document.filters_applied))
    link = rewrite_link(document.link_header, f"/v2/{asking.name}/{path}", asking.request.query.get("ns"))
    if link:
        headers.append(("Link", link))
    if document.stale:
        headers += stale_headers(document.age_s)
    return headers


def rewrite_link(header: str | None, path: str, ns: str | None) -> str | None:
    """Return the ``Link`` header whose ``next`` keeps its query and points at ``path`` of this mirror."""
    match = _NEXT.search(header) if header else None
    if match is None:
        return None
    query = match[1].partition("?")[2]
    if ns and "ns=" not in query:
        query = f"{query}&{urlencode({'ns': ns})}" if query else urlencode({"ns": ns})
    return f'<{path}?{query}>; rel="next"'
