"""The push endpoints behind a real socket, without the rest of a worker; and a plain client that shows every header.

``python support_push.py DIR`` serves DIR in a process of its own (to be killed) and prints its port.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from aiohttp import web

from hunqi.errors import HunqiError
from hunqi.mirror.names import Names
from hunqi.mirror.serve.paths import (
    BlobPath,
    CatalogPath,
    HealthPath,
    ManifestPath,
    PingPath,
    ReferrersPath,
    TagsPath,
    TokenPath,
    UploadPath,
    UploadsPath,
    parse_path,
)
from hunqi.mirror.serve.push import PushEndpoints
from hunqi.mirror.serve.wire import error_reply, reply_for
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.model import LinkKind
from hunqi.mirror.store.uploads import Uploads
from hunqi.oci.digest import Digest
from hunqi.oci.errors import ErrorCode
from hunqi.oci.manifest import OCI_MANIFEST
from hunqi.oci.reference import Tag

NAMES = Names(upstreams=("docker.io",), default_upstream="docker.io", is_local_namespace=lambda _: True)


@dataclass(frozen=True)
class Reply:
    """An answer as it came."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def __getitem__(self, header: str) -> str | None:
        return self.headers.get(header)

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The first error's code."""
        return self.document["errors"][0]["code"]


Body = bytes | Iterable[bytes] | None


@dataclass
class Client:
    """One connection per request, so that no test leans on another's."""

    url: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    def ask(self, method: str, target: str, body: Body = None, **headers: str) -> Reply:
        """``headers`` are written with ``_`` for ``-``; an iterable body is sent chunked."""
        if target.startswith("http"):
            parts = urlsplit(target)
            target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            if body is None and method in {"POST", "PUT", "PATCH"}:
                sent.setdefault("Content-Length", "0")
            connection.request(method, target, body=body, headers=sent)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def start(self, name: str, **query: str) -> str:
        """Begin an upload and return where it goes on."""
        reply = self.ask("POST", f"/v2/{name}/blobs/uploads/" + (f"?{urlencode(query)}" if query else ""))
        assert reply.status == 202, reply
        location = reply["Location"]
        assert location
        return location

    def finish(self, location: str, digest: Digest | str, body: Body = None, **headers: str) -> Reply:
        """The closing PUT."""
        return self.ask("PUT", with_query(location, digest=str(digest)), body, **headers)

    def push_blob(self, name: str, data: bytes, algorithm: Any = "sha256") -> Digest:
        """Push by POST and PUT."""
        digest = Digest.of(data, algorithm)
        reply = self.finish(self.start(name), digest, data)
        assert reply.status == 201, reply
        return digest

    def put_manifest(
        self, name: str, reference: object, data: bytes, media_type: str = OCI_MANIFEST, query: str = ""
    ) -> Reply:
        return self.ask("PUT", f"/v2/{name}/manifests/{reference}{query}", data, Content_Type=media_type)


def with_query(location: str, **query: str) -> str:
    """Add to a location, which may have a query of its own."""
    return location + ("&" if "?" in location else "?") + urlencode(query)


@dataclass
class PushServer:
    """What a test may look at and turn."""

    url: str
    data: Path
    catalogue: Catalogue
    endpoints: PushEndpoints
    executor: ThreadPoolExecutor
    committed: list[tuple[str, Digest, LinkKind, tuple[Tag, ...]]] = field(default_factory=list)
    deleted: list[tuple[str, object, LinkKind]] = field(default_factory=list)
    secret: set[str] = field(default_factory=set)
    """Repositories that nobody may read."""

    @property
    def client(self) -> Client:
        return Client(self.url)


class _Dispatcher:
    """The smallest one that can be: every caller may push; blobs are read whole."""

    def __init__(self, endpoints: PushEndpoints, catalogue: Catalogue, files: ContentFiles) -> None:
        self.endpoints = endpoints
        self.catalogue = catalogue
        self.files = files

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._dispatch(request)
        except HunqiError as error:
            return reply_for(error)

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:  # noqa: C901  # a table reads best whole
        path = parse_path(unquote(request.rel_url.raw_path))
        reading = request.method in {"GET", "HEAD"}
        match path:
            case PingPath():
                return web.Response(body=b"{}", headers={"Content-Type": "application/json"})
            case CatalogPath() if reading:
                return await self.endpoints.catalog(request, lambda repo: repo not in SERVERS[id(self)].secret)
            case CatalogPath() | TokenPath() | HealthPath():
                return error_reply(ErrorCode.UNSUPPORTED, "no such operation")
            case _:
                name = path.name
        repo = NAMES.resolve_push(name).key
        place = (request, repo, name)
        match path, request.method:
            case UploadsPath(), "POST":
                return await self.endpoints.start_upload(*place)
            case UploadPath(), "PATCH":
                return await self.endpoints.patch_upload(*place, path.upload_id)
            case UploadPath(), "PUT":
                return await self.endpoints.put_upload(*place, path.upload_id)
            case UploadPath(), "GET":
                return await self.endpoints.get_upload(*place, path.upload_id)
            case UploadPath(), "DELETE":
                return await self.endpoints.delete_upload(*place, path.upload_id)
            case ManifestPath(), "PUT":
                return await self.endpoints.put_manifest(*place, path.reference)
            case ManifestPath(), "DELETE":
                return await self.endpoints.delete_manifest(*place, path.reference)
            case ManifestPath(), ("GET" | "HEAD"):
                return self._manifest(repo, path)
            case BlobPath(), "DELETE":
                return await self.endpoints.delete_blob(*place, path.digest)
            case BlobPath(), ("GET" | "HEAD"):
                return self._blob(repo, path.digest)
            case TagsPath(), ("GET" | "HEAD"):
                return await self.endpoints.tags(*place)
            case ReferrersPath(), ("GET" | "HEAD"):
                return await self.endpoints.referrers(*place, path.digest)
            case _:
                return error_reply(ErrorCode.UNSUPPORTED, "no such operation")

    def _manifest(self, repo: str, path: ManifestPath) -> web.Response:
        digest = path.reference
        if isinstance(digest, Tag):
            row = self.catalogue.tag(repo, digest)
            digest = row.digest if row else Digest.of(b"")
        stored = self.catalogue.manifest(repo, digest)
        if stored is None:
            return error_reply(ErrorCode.MANIFEST_UNKNOWN, "no such manifest")
        headers = {"Content-Type": stored.media_type, "Docker-Content-Digest": str(digest)}
        return web.Response(body=stored.body, headers=headers)

    def _blob(self, repo: str, digest: Digest) -> web.StreamResponse:
        if self.catalogue.link(repo, digest) is None:
            return error_reply(ErrorCode.BLOB_UNKNOWN, "no such blob")
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": str(digest)}
        return web.FileResponse(self.files.path(digest), headers=headers)


SERVERS: dict[int, PushServer] = {}


async def _forever(dispatcher: _Dispatcher, ready: Callable[[int], None], stop: asyncio.Event) -> None:
    server = web.ServerRunner(web.Server(dispatcher), shutdown_timeout=2)
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    ready(server.addresses[0][1])
    await stop.wait()
    await server.cleanup()


@contextmanager
def push_server(data: Path, *, stall_timeout_s: float = 20.0) -> Iterator[PushServer]:
    """Serve ``data`` in a thread of its own."""
    catalogue = Catalogue.open(data)
    files = ContentFiles(catalogue)
    executor = ThreadPoolExecutor(4)

    async def may_read(_: web.BaseRequest, repo: str) -> bool:
        return repo not in state.secret

    async def after_commit(repo: str, digest: Digest, kind: LinkKind, tags: tuple[Tag, ...]) -> None:
        state.committed.append((repo, digest, kind, tags))

    async def after_delete(repo: str, reference: object, kind: LinkKind) -> bool:
        state.deleted.append((repo, reference, kind))
        return False

    async def bring(*_missing: object) -> None:
        """There is no other node."""

    endpoints = PushEndpoints(
        catalogue=catalogue,
        uploads=Uploads(catalogue, files),
        may_read=may_read,
        source_of=lambda name: NAMES.resolve(name).key,
        after_commit=after_commit,
        after_delete=after_delete,
        bring=bring,
        location_base=lambda _: "",
        executor=executor,
        stall_timeout_s=stall_timeout_s,
    )
    state = PushServer("", data, catalogue, endpoints, executor)
    dispatcher = _Dispatcher(endpoints, catalogue, files)
    SERVERS[id(dispatcher)] = state
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()
    started = threading.Event()

    def ready(port: int) -> None:
        state.url = f"http://127.0.0.1:{port}"
        started.set()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(_forever(dispatcher, ready, stop))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(10)
        yield state
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        executor.shutdown()
        catalogue.close()
        del SERVERS[id(dispatcher)]


def image_manifest(
    config: bytes, layers: Iterable[bytes], *, algorithm: Any = "sha256", **more: object
) -> tuple[bytes, Mapping[str, Any]]:
    """A manifest of blobs, as bytes and as a document."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": describe(config, "application/vnd.oci.image.config.v1+json", algorithm),
        "layers": [describe(layer, "application/vnd.oci.image.layer.v1.tar", algorithm) for layer in layers],
        **more,
    }
    return json.dumps(document, indent=2).encode(), document


def describe(data: bytes, media_type: str = OCI_MANIFEST, algorithm: Any = "sha256") -> dict[str, Any]:
    """A descriptor of bytes."""
    return {"mediaType": media_type, "digest": str(Digest.of(data, algorithm)), "size": len(data)}


if __name__ == "__main__":
    with push_server(Path(sys.argv[1])) as running:
        print(running.url, flush=True)
        threading.Event().wait()
