"""What one node asks of another beside blobs and manifests to read: who are you, keep this, forget that, hear this.

Blocking. Pushes use the distribution specification's own endpoints on the other's peer port; a blob goes in chunks, so
that no wait is longer than one chunk takes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from hunqi.mirror.peers.model import NEWS_PATH, NODE_PATH, News, NodeIdentity, PeerRefusedError
from hunqi.mirror.settings import Deadlines, Origin
from hunqi.mirror.sources.dial import Dialer
from hunqi.mirror.sources.errors import SourceCut
from hunqi.mirror.sources.proxies import ProxyRules
from hunqi.mirror.sources.reply import Reply
from hunqi.mirror.sources.tls import TlsContexts
from hunqi.mirror.sources.transport import Request, Transport
from hunqi.mirror.sources.urls import Url
from hunqi.mirror.store.model import StoredManifest
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Reference, Tag

CHUNK_BYTES: Final = 4 * 1024 * 1024
ANSWER_BYTES: Final = 64 * 1024
_QUICK: Final = Deadlines(connect_s=1.0, first_byte_s=2.0, stall_s=2.0)
_PATIENT: Final = Deadlines(connect_s=2.0, first_byte_s=60.0, stall_s=60.0)
"""The other node may be bringing a gigabyte to its disk before it answers."""


class PeerClient:
    """Speaks to one node. Thread-safe; every method raises :class:`~hunqi.mirror.sources.errors.SourceError`.

    An answer that is none of the expected ones is a :class:`PeerRefusedError`.
    """

    def __init__(self, origin: Origin, *, label: str) -> None:
        """Raises what :class:`~hunqi.mirror.sources.source.Source` raises."""
        home = Url.parse(origin.url)
        tls = TlsContexts(origin, only_own_ca=True)
        self._label = label
        self._home = Url(home.endpoint, home.target.rstrip("/"))
        self._quick = self._transport(tls, _QUICK)
        self._patient = self._transport(tls, _PATIENT)

    def who(self) -> NodeIdentity:
        """Return who answers there, within a few seconds; raises ``NewsInvalidError`` if it is no mirror."""
        reply = self._quick.send(self._request("GET", NODE_PATH))
        data = self._finish(reply, {200})
        return NodeIdentity.parse(data)

    def tell(self, news: News) -> None:
        """Tell of pushed tags and namespaces."""
        self._send("POST", NEWS_PATH, {204}, body=news.to_json())

    def keep_blob(self, repo: str, digest: Digest, descriptor: int, size: int) -> None:
        """Make the node hold a blob as pushed to ``repo``: by a link if it has the bytes, else from ``descriptor``."""
        path = f"/v2/{repo}/blobs/uploads/?{urlencode({'mount': str(digest), 'from': repo})}"
        reply = self._open("POST", path, {201, 202}, body=b"")
        location = reply.headers.get("Location") or ""
        status = reply.status
        self._finish(reply, {201, 202})
        if status == 202:
            self._upload(location, digest, descriptor, size)

    def put_manifest(self, repo: str, stored: StoredManifest, tags: Sequence[Tag]) -> bool:
        """Push a manifest and its tags; False if the node lacks something that the manifest names."""
        query = f"?{urlencode([('tag', tag.name) for tag in tags])}" if tags else ""
        reply = self._open(
            "PUT",
            f"/v2/{repo}/manifests/{stored.digest}{query}",
            {201, 404},
            body=stored.body,
            headers={"Content-Type": stored.media_type},
        )
        status = reply.status
        self._finish(reply, {201, 404})
        return status == 201

    def delete_manifest(self, repo: str, reference: Reference) -> bool:
        """Take a tag or a manifest from ``repo``; False if the node has no such thing."""
        return self._delete(f"/v2/{repo}/manifests/{reference}")

    def delete_blob(self, repo: str, digest: Digest) -> bool:
        """Take a blob from ``repo``; False if the node has no such thing."""
        return self._delete(f"/v2/{repo}/blobs/{digest}")

    def close(self) -> None:
        """Close the idle connections."""
        self._quick.close()
        self._patient.close()

    def _upload(self, location: str, digest: Digest, descriptor: int, size: int) -> None:
        position = 0
        while position < size:
            chunk = os.pread(descriptor, min(CHUNK_BYTES, size - position), position)
            if not chunk:
                raise PeerRefusedError(f"{digest} is shorter here than its {size} bytes: see hunqi mirror verify")
            headers = {"Content-Range": f"{position}-{position + len(chunk) - 1}"}
            self._send("PATCH", location, {202}, body=chunk, headers=headers)
            position += len(chunk)
        joint = "&" if "?" in location else "?"
        self._send("PUT", f"{location}{joint}{urlencode({'digest': str(digest)})}", {201}, body=b"")

    def _delete(self, path: str) -> bool:
        reply = self._open("DELETE", path, {202, 404})
        status = reply.status
        self._finish(reply, {202, 404})
        return status == 202

    def _send(
        self, method: str, path: str, expected: set[int], *, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        self._finish(self._open(method, path, expected, body=body, headers=headers), expected)

    def _open(
        self,
        method: str,
        path: str,
        expected: set[int],
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        request = self._request(method, path, body=body, headers=headers)
        try:
            reply = self._patient.send(request)
        except SourceCut:
            # A connection from before the node's last start looks alive until it is used.
            reply = self._patient.send(request)
        if reply.status not in expected:
            self._finish(reply, expected)
        return reply

    def _request(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Request:
        url = self._home.join(self._home.target + path)
        return Request(method=method, url=url, headers=headers or {}, body=body)

    def _finish(self, reply: Reply, expected: set[int]) -> bytes:
        try:
            reply.expect_within(_PATIENT.stall_s)
            data = reply.read_all(ANSWER_BYTES)
        finally:
            reply.close()
        if reply.status not in expected:
            raise PeerRefusedError(f"{self._label} answered {reply.status}: {data[:300].decode(errors='replace')}")
        return data

    def _transport(self, tls: TlsContexts, deadlines: Deadlines) -> Transport:
        dialer = Dialer(self._label, self._home.endpoint, tls=tls, proxies=ProxyRules(), connect_s=deadlines.connect_s)
        return Transport(self._label, dialer, deadlines)
