"""A source: one URL to ask for blobs, manifests and lists; blocking, for plain threads.

A :class:`Source` hides challenges, redirects, kept-alive connections and limits; what it raises says who failed
(:mod:`~hunqi.mirror.sources.errors`). It never retries on its own account: whether to go on here, at byte *n*, or
elsewhere is the fetch's decision. Every wait has a deadline; a blob as a whole has none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from hunqi.mirror.names import Target
from hunqi.mirror.settings import Deadlines, Origin
from hunqi.mirror.sources.credentials import CredentialStore, FileCredentials, HelperCredentials, NoCredentials
from hunqi.mirror.sources.dial import Dialer
from hunqi.mirror.sources.errors import SourceBusy, SourceChanged, SourceError, SourceMisbehaves, TooManyRequests
from hunqi.mirror.sources.limits import Bandwidth, ConnectionSlots, Use
from hunqi.mirror.sources.model import Document, ManifestBody, ManifestHead, RemoteBlob, SourceKind
from hunqi.mirror.sources.proxies import ProxyRules
from hunqi.mirror.sources.ratelimit import QuotaMemory, QuotaState, RateLimit, parse_rate_limit
from hunqi.mirror.sources.replies import content_digest, content_length, content_type, error_for, parse_span
from hunqi.mirror.sources.reply import Reply
from hunqi.mirror.sources.requester import DISCARD_S, Landings, Question, Requester
from hunqi.mirror.sources.stream import BlobStream
from hunqi.mirror.sources.tls import TlsContexts
from hunqi.mirror.sources.tokens import Authorizer, Wanted
from hunqi.mirror.sources.transport import Transport
from hunqi.mirror.sources.urls import Url
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import MANIFEST_TYPES, MAX_MANIFEST_BYTES
from hunqi.oci.reference import Reference

MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024
"""Of a tag list or a list of referrers."""

_ACCEPT_MANIFESTS: Final = {"Accept": ", ".join(MANIFEST_TYPES)}
_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})


class Source:
    """One upstream, relay or peer. Thread-safe."""

    def __init__(
        self,
        origin: Origin,
        kind: SourceKind,
        *,
        deadlines: Deadlines,
        proxies: ProxyRules,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises :class:`UrlError`, :class:`SourceUnreachable` (TLS files) or :class:`CredentialsUnavailable`
        (helper's name).

        Nothing is dialled or run before the first question.
        """
        home = Url.parse(origin.url)
        self.kind: Final = kind
        self.name: Final = origin.name
        self.id: Final = _source_id(origin, kind, home)
        self._home = Url(home.endpoint, home.target.partition("?")[0].rstrip("/"))
        self._deadlines = deadlines
        tls = TlsContexts(origin, only_own_ca=kind is SourceKind.PEER)
        dialer = Dialer(self.id, home.endpoint, tls=tls, proxies=proxies, connect_s=deadlines.connect_s)
        self._transport = Transport(self.id, dialer, deadlines)
        authorizer = Authorizer(
            home, self._transport, credentials=_credentials(self.id, origin, home), deadlines=deadlines, clock=clock
        )
        self._landings = Landings(clock)
        self._requester = Requester(home, self._transport, authorizer=authorizer, landings=self._landings)
        self._slots = ConnectionSlots(origin.max_connections)
        self._bandwidth = Bandwidth(origin.bandwidth_limit, clock) if origin.bandwidth_limit else None
        self._quota = QuotaMemory(clock)
        self._clock = clock

    @property
    def quota(self) -> QuotaState:
        """What the source last said of its quota; times are those of the given clock."""
        return self._quota.state

    @property
    def connections_in_use(self) -> int:
        """Requests in flight, open blob streams included."""
        return self._slots.in_use

    def open_blob(
        self,
        target: RemoteBlob,
        *,
        start: int = 0,
        end: int | None = None,
        if_match_etag: str | None = None,
        hops: tuple[str, ...] = (),
    ) -> BlobStream:
        """Open bytes ``start`` to ``end`` (exclusive) of a blob; the caller closes the stream.

        A source without ranges sends all: look at ``stream.start`` and ``stream.status_partial``. With
        ``if_match_etag`` (of an earlier stream) a range of changed content comes as the whole of it, or raises
        :class:`SourceChanged`. Raises any :class:`SourceError`; :class:`SourceMisbehaves` also for HTML instead of a
        blob.
        """
        if start < 0 or (end is not None and end <= start):
            raise ValueError(f"no bytes from {start} to {end}")
        is_range = start > 0 or end is not None
        headers = {"Accept": "*/*"}
        if is_range:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
            if if_match_etag and not if_match_etag.startswith("W/"):
                headers["If-Range"] = if_match_etag
        path = f"{target.repository}/blobs/{target.digest}"
        question = self._question("GET", target.home, f"blobs/{target.digest}", headers=headers, hops=hops)
        self._acquire(Use.BULK, path)
        try:
            reply = self._requester.ask(question, remember=True)
            try:
                return self._stream(reply, start=start, end=end, etag=if_match_etag)
            except SourceError:
                reply.discard(DISCARD_S)
                raise
            except BaseException:
                reply.close(reusable=False)
                raise
        except BaseException:
            self._slots.release()
            raise

    def head_blob(self, target: RemoteBlob, *, hops: tuple[str, ...] = ()) -> int | None:
        """Return the blob's size in bytes, None if the source does not tell; raises :class:`NotFound` and its like."""
        question = self._question("HEAD", target.home, f"blobs/{target.digest}", hops=hops)
        with self._answer(question) as reply:
            return content_length(reply)

    def head_manifest(
        self, repository: Target, reference: Reference, *, anonymous: bool = False, hops: tuple[str, ...] = ()
    ) -> ManifestHead:
        """Return what HEAD tells of a manifest; it costs no pull quota. ``anonymous`` asks as nobody. Raises
        :class:`SourceError`.
        """
        question = self._question(
            "HEAD", repository, f"manifests/{reference}", headers=_ACCEPT_MANIFESTS, anonymous=anonymous, hops=hops
        )
        with self._answer(question) as reply:
            return ManifestHead(
                digest=content_digest(reply),
                media_type=content_type(reply),
                size=content_length(reply),
                rate=self._note_rate(reply),
            )

    def get_manifest(
        self, repository: Target, reference: Reference, *, anonymous: bool = False, hops: tuple[str, ...] = ()
    ) -> ManifestBody:
        """Return a manifest of at most 4 MiB, checked against ``reference`` (a digest) and the source's own digest
        header.

        Raises any :class:`SourceError`; :class:`SourceMisbehaves` for a wrong digest, HTML or too much.
        """
        question = self._question(
            "GET", repository, f"manifests/{reference}", headers=_ACCEPT_MANIFESTS, anonymous=anonymous, hops=hops
        )
        with self._answer(question) as reply:
            data = self._read_document(reply, MAX_MANIFEST_BYTES)
            promised = [reference] if isinstance(reference, Digest) else []
            promised += [told] if (told := content_digest(reply)) else []
            for digest in promised:
                if Digest.of(data, digest.algorithm) != digest:
                    raise SourceMisbehaves(self.id, f"sent a manifest whose digest is not {digest}")
            return ManifestBody(
                data=data,
                media_type=content_type(reply),
                digest=promised[0] if promised else Digest.of(data),
                rate=self._note_rate(reply),
            )

    def get_document(self, repository: Target, path: str, *, hops: tuple[str, ...] = ()) -> Document:
        """Return ``tags/list[?…]`` or ``referrers/<digest>[?…]`` of a repository, at most 16 MiB; raises
        :class:`SourceError`.
        """
        question = self._question("GET", repository, path, headers={"Accept": "*/*"}, hops=hops)
        with self._answer(question) as reply:
            return Document(
                status=reply.status,
                data=self._read_document(reply, MAX_DOCUMENT_BYTES),
                content_type=reply.headers.get("Content-Type") or "application/json",
                link_header=reply.headers.get("Link"),
                filters_applied=reply.headers.get("OCI-Filters-Applied"),
            )

    def probe(self) -> float:
        """Return the seconds that ``GET /v2/`` took; 200, 401 and 429 mean life. Raises :class:`SourceError`."""
        began_s = self._clock()
        question = Question(method="GET", target=f"{self._home.target}/v2/", wanted=None)
        self._acquire(Use.SMALL, "probe")
        try:
            reply = self._requester.ask(question)
            elapsed_s = self._clock() - began_s
            reply.discard(DISCARD_S)
        finally:
            self._slots.release()
        if reply.status not in {200, 401, 429}:
            raise error_for(self.id, reply)
        return elapsed_s

    def forget_landing(self, target: RemoteBlob) -> None:
        """Ask for this blob at the front door the next time, wherever its redirects led."""
        self._landings.forget(self._question("GET", target.home, f"blobs/{target.digest}").target)

    def close(self) -> None:
        """Close the idle connections."""
        self._transport.close()

    def _question(
        self,
        method: str,
        repository: Target,
        rest: str,
        *,
        headers: dict[str, str] | None = None,
        anonymous: bool = False,
        hops: tuple[str, ...] = (),
    ) -> Question:
        name = repository.repository if self.kind is SourceKind.UPSTREAM else repository.key
        return Question(
            method=method,
            target=f"{self._home.target}/v2/{name}/{rest}",
            wanted=Wanted(f"repository:{name}:pull", anonymous),
            headers=headers or {},
            hops=hops,
        )

    @contextmanager
    def _answer(self, question: Question) -> Generator[Reply]:
        """Ask a short question; gives a 200 or raises, and closes the answer."""
        self._acquire(Use.SMALL, question.target)
        try:
            reply = self._requester.ask(question)
            try:
                if reply.status != 200:
                    raise self._refusal(reply)
                if content_type(reply) in _HTML:
                    raise SourceMisbehaves(self.id, f"answers {question.target} with HTML")
                yield reply
            finally:
                reply.discard(DISCARD_S)
        finally:
            self._slots.release()

    def _stream(self, reply: Reply, *, start: int, end: int | None, etag: str | None) -> BlobStream:
        if reply.status not in {200, 206} or (reply.status == 206 and not start and end is None):
            raise self._refusal(reply)
        if content_type(reply) in _HTML:
            raise SourceMisbehaves(self.id, "answers with HTML instead of a blob")
        span = parse_span(self.id, reply, start=start, end=end)
        now = reply.headers.get("ETag")
        if span.is_partial and etag and now and now.removeprefix("W/") != etag.removeprefix("W/"):
            raise SourceChanged(self.id, "has other content than when the download began (ETag)")
        reply.expect_each(self._deadlines.stall_s)
        return BlobStream(self.id, reply, span, bandwidth=self._bandwidth, on_close=self._slots.release)

    def _refusal(self, reply: Reply) -> SourceError:
        error = error_for(self.id, reply)
        if isinstance(error, TooManyRequests):
            self._quota.note_limited(error.rate, error.retry_after_s)
        return error

    def _note_rate(self, reply: Reply) -> RateLimit | None:
        rate = parse_rate_limit(reply.headers)
        self._quota.note(rate)
        return rate

    def _read_document(self, reply: Reply, limit_bytes: int) -> bytes:
        """Read a short body: it has a deadline as a whole, unlike a blob."""
        if reply.length is not None and reply.length > limit_bytes:
            raise SourceMisbehaves(self.id, f"announces a document of {reply.length} bytes, over {limit_bytes}")
        reply.expect_within(self._deadlines.first_byte_s + self._deadlines.stall_s)
        return reply.read_all(limit_bytes)

    def _acquire(self, use: Use, what: str) -> None:
        limit_s = self._deadlines.first_byte_s
        if not self._slots.acquire(use, limit_s):
            raise SourceBusy(self.id, f"no connection came free in {limit_s:g} s for {what}")


def _source_id(origin: Origin, kind: SourceKind, home: Url) -> str:
    """Upstreams are one a name; relays and peers are one a URL, whatever names they serve."""
    if kind is SourceKind.UPSTREAM:
        return f"{kind.value}:{origin.name}"
    return f"{kind.value}:{home.endpoint.netloc}{home.target.partition('?')[0].rstrip('/')}"


def _credentials(source: str, origin: Origin, home: Url) -> CredentialStore:
    host = home.endpoint.netloc
    if origin.credentials_file is not None:
        return FileCredentials(source, origin.credentials_file, host)
    if origin.credential_helper is not None:
        return HelperCredentials(source, origin.credential_helper, host)
    return NoCredentials()
