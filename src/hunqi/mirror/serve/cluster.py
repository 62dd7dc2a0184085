"""The peers' port beside the registry's own endpoints, and lists that several nodes hold together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlencode

from aiohttp import web

from hunqi.mirror.peers.model import MAX_NEWS_BYTES, NEWS_PATH, NODE_PATH, News, NewsInvalidError, NodeIdentity
from hunqi.mirror.peers.plan import Page, merge
from hunqi.mirror.serve.asking import Asking
from hunqi.mirror.serve.fetcher import FetcherClient, PassedDocument
from hunqi.mirror.serve.push_lists import MAX_PAGE, RepositoryUnknownError
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_INDEX

_NEXT: Final = 'rel="next"'
Own = Callable[[], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterEndpoints:
    """What other nodes ask of this one, and what this one asks of all for its clients."""

    identity: NodeIdentity
    catalogue: Catalogue
    fetcher: FetcherClient
    has_peers: bool

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a node: who is this, and news of pushed tags. Raises :class:`NewsInvalidError`."""
        match request.path, request.method:
            case path, "GET" if path == NODE_PATH:
                return web.Response(body=self.identity.to_json(), content_type="application/json")
            case path, "POST" if path == NEWS_PATH:
                await asyncio.to_thread(self._take, await _body(request))
                return web.Response(status=204)
            case _:
                raise NewsInvalidError(f"{request.method} is not possible at {request.path[:100]}")

    async def tags(self, asking: Asking, own: Own) -> web.Response:
        """Return the tags of a local repository on all live nodes; raises what ``own`` and the other nodes raise."""
        if not self._asks_others(asking):
            return await own()
        query = asking.request.query_string
        mine, others = await self._gather(asking, own, f"tags/list?{query}")
        pages = [Page(dict.fromkeys(_tags(body), True), is_cut) for body, is_cut in (*mine, *others)]
        if not pages:
            raise RepositoryUnknownError(f"{asking.name} was never pushed to")
        count = _count(asking.request)
        merged = merge(pages, limit=count)
        names = list(merged.entries)
        headers: dict[str, str] = {}
        if merged.is_cut and names:
            headers["Link"] = _link(f"/v2/{asking.name}/tags/list", {"last": names[-1], "n": str(count)})
        return _json({"name": asking.name, "tags": names}, "application/json", headers)

    async def referrers(self, asking: Asking, own: Own, digest: Digest) -> web.Response:
        """Return who refers to ``digest`` in a local repository on all live nodes."""
        if not self._asks_others(asking):
            return await own()
        query = asking.request.query_string
        mine, others = await self._gather(asking, own, f"referrers/{digest}?{query}")
        pages = [Page(_manifests(body), is_cut) for body, is_cut in (*mine, *others)]
        merged = merge(pages, limit=MAX_PAGE)
        entries = list(merged.entries.values())
        artifact_type = asking.request.query.get("artifactType")
        headers = {"OCI-Filters-Applied": "artifactType"} if artifact_type else {}
        if merged.is_cut and entries:
            more = {"artifactType": artifact_type} if artifact_type else {}
            path = f"/v2/{asking.name}/referrers/{digest}"
            headers["Link"] = _link(path, {**more, "last": next(reversed(merged.entries))})
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        return _json(document, OCI_INDEX, headers)

    def _asks_others(self, asking: Asking) -> bool:
        return self.has_peers and not asking.via.from_peer

    async def _gather(
        self, asking: Asking, own: Own, path: str
    ) -> tuple[list[tuple[dict[str, Any], bool]], list[tuple[dict[str, Any], bool]]]:
        mine: list[tuple[dict[str, Any], bool]] = []
        try:
            response = await own()
        except RepositoryUnknownError:
            pass
        else:
            mine.append((json.loads(cast("bytes", response.body)), _NEXT in response.headers.get("Link", "")))
        others = await self.fetcher.elsewhere(asking.target, path, via=asking.via)
        return mine, [_page_of(document) for document in others]

    def _take(self, data: bytes) -> None:
        news = News.parse(data)
        self.catalogue.add_namespaces(news.namespaces)
        if news.tags:
            self.catalogue.supersede_tags((one.repo, one.tag.name, one.digest, one.changed_at) for one in news.tags)


async def _body(request: web.BaseRequest) -> bytes:
    data = bytearray()
    async for piece in request.content.iter_any():
        data += piece
        if len(data) > MAX_NEWS_BYTES:
            raise NewsInvalidError(f"news of over {MAX_NEWS_BYTES} bytes")
    return bytes(data)


def _page_of(document: PassedDocument) -> tuple[dict[str, Any], bool]:
    try:
        return json.loads(document.body), _NEXT in (document.link_header or "")
    except ValueError as error:
        raise NewsInvalidError("another node sent a list that is no JSON") from error


def _tags(body: dict[str, Any]) -> list[str]:
    return [str(name) for name in body.get("tags") or ()]


def _manifests(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {str(one.get("digest")): one for one in body.get("manifests") or ()}


def _count(request: web.BaseRequest) -> int:
    """Return what ``n`` asks for; that it is a number was seen to when the own list was made."""
    text = request.query.get("n")
    return min(int(text[:18]), MAX_PAGE) if text else MAX_PAGE


def _link(path: str, query: dict[str, str]) -> str:
    return f"<{path}?{urlencode(query)}>; {_NEXT}"


def _json(document: object, content_type: str, headers: dict[str, str]) -> web.Response:
    body = json.dumps(document, separators=(",", ":")).encode()
    return web.Response(body=body, headers={**headers, "Content-Type": content_type})
