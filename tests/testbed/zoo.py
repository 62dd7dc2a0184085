"""A zoo of bad upstreams: each a real server that serves images honestly but for what its animal does to blobs.

The repository's name is never looked at, so a zoo registry stands for an upstream (``/v2/<repository>/…``) or for
a relay (``/v2/docker.io/<repository>/…``) alike. ``heal()`` makes it honest while it runs.
"""

from __future__ import annotations

import itertools
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Final, Self

from testbed.images import MIB, Image, Manifest
from testbed.server import Exchange, Link, Record, Server

_PATH: Final = re.compile(r"/v2/(?:.+/)?(manifests|blobs)/([^/]+)")
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_TRICKLE_BYTES: Final = 1024
_TRICKLE_PAUSE_S: Final = 0.25


class Fate(Enum):
    """What a client can get through a mirror whose only source is this animal."""

    RIGHT = auto()
    """The right body, nothing to be seen of the trouble."""
    HEALS = auto()
    """An error or a short body at first, then the right one, without anybody's help."""
    EITHER = auto()
    """The right body or an error; both keep the promise."""
    FAILS = auto()
    """Always an error or a short body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One GET of a blob, as an animal sees it."""

    exchange: Exchange
    digest: str
    data: bytes = field(repr=False)
    number: int
    """Of this GET among those of the same blob, from 1."""
    start: int = 0
    stop: int
    """First byte that was not asked for."""
    ranged: bool = False
    zoo: ZooRegistry

    @property
    def whole(self) -> Visit:
        """The same, as if no Range had been asked for."""
        return self.but(start=0, stop=len(self.data), ranged=False)

    def but(self, *, start: int, stop: int, ranged: bool) -> Visit:
        """The same with another range."""
        return Visit(
            exchange=self.exchange,
            digest=self.digest,
            data=self.data,
            number=self.number,
            start=start,
            stop=stop,
            ranged=ranged,
            zoo=self.zoo,
        )

    def head(self, **changes: object) -> None:
        """Send an honest head with ``changes`` to its fields (underscores are hyphens; ``None`` leaves one out)."""
        fields: dict[str, object] = {
            "Content-Type": "application/octet-stream",
            "Content-Length": self.stop - self.start,
            "Accept-Ranges": "bytes",
            "ETag": f'"{self.digest}"',
            "Docker-Content-Digest": self.digest,
        }
        if self.ranged:
            fields["Content-Range"] = f"bytes {self.start}-{self.stop - 1}/{len(self.data)}"
        fields |= {name.replace("_", "-"): value for name, value in changes.items()}
        kept = {name: value for name, value in fields.items() if value is not None}
        self.exchange.head(206 if self.ranged else 200, kept)

    def body(self, *, until: int | None = None, data: bytes | None = None) -> None:
        """Send the bytes that were asked for, up to the blob's offset ``until``; ``data`` instead of the right ones."""
        stop = self.stop if until is None else min(until, self.stop)
        if stop > self.start:
            self.exchange.write(memoryview(data if data is not None else self.data)[self.start : stop])

    def corrupted(self) -> bytes:
        """The blob with one wrong byte, at a third of it."""
        wrong = bytearray(self.data)
        wrong[len(wrong) // 3] ^= 0xFF
        return bytes(wrong)


def honest(visit: Visit) -> None:
    """Do it right."""
    visit.head()
    visit.body()


def _stalls_in_the_middle(visit: Visit) -> None:
    visit.head()
    visit.body(until=_at_40_percent(visit))
    if visit.stop <= _at_40_percent(visit):
        return
    visit.exchange.stay_silent()


def _cuts_at_40_percent(visit: Visit) -> None:
    visit.head()
    visit.body(until=_at_40_percent(visit))
    if visit.stop > _at_40_percent(visit):
        visit.exchange.cut()


def _cuts_every_mib(visit: Visit) -> None:
    visit.head()
    visit.body(until=visit.start + MIB)
    if visit.stop > visit.start + MIB:
        visit.exchange.cut()


def _wrong_bytes_once(visit: Visit) -> None:
    visit.head()
    covers = visit.start <= len(visit.data) // 3 < visit.stop
    visit.body(data=visit.corrupted() if covers and visit.zoo.once(visit.digest) else None)


def _wrong_bytes_at_the_start_once(visit: Visit) -> None:
    visit.head()
    wrong = bytes([visit.data[0] ^ 0xFF]) + visit.data[1:]
    visit.body(data=wrong if visit.start == 0 and visit.zoo.once(visit.digest) else None)


def _wrong_bytes_always(visit: Visit) -> None:
    visit.head()
    visit.body(data=visit.corrupted())


def _length_too_long(visit: Visit) -> None:
    visit.head(Content_Length=visit.stop - visit.start + 1000)
    visit.body()
    visit.exchange.cut()


def _length_too_short(visit: Visit) -> None:
    stop = max(visit.start + 1, visit.stop - 1000)
    visit.head(Content_Length=stop - visit.start)
    visit.body(until=stop)


def _html_with_200(visit: Visit) -> None:
    page = b"<!DOCTYPE html><html><body>Please log in to this network</body></html>"
    visit.exchange.reply(200, page, {"Content-Type": "text/html"})


def _unauthorized_loop(visit: Visit) -> None:
    visit.exchange.reply(401, b"{}", {"WWW-Authenticate": visit.zoo.challenge})


def _limited_with_headers(visit: Visit) -> None:
    fields = {"Retry-After": 7, "RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}
    visit.exchange.reply(429, b'{"errors":[{"code":"TOOMANYREQUESTS"}]}', fields)


def _limited_without_headers(visit: Visit) -> None:
    visit.exchange.reply(429, b"slow down")


def _error_then_fine(visit: Visit) -> None:
    if visit.number <= 2:
        visit.exchange.reply(500, b"oops")
    else:
        honest(visit)


def _no_range_support(visit: Visit) -> None:
    whole = visit.whole
    whole.head(Accept_Ranges="none")
    if visit.zoo.once(visit.digest):
        whole.body(until=_at_40_percent(visit))
        visit.exchange.cut()
    whole.body()


def _range_ignored(visit: Visit) -> None:
    whole = visit.whole
    whole.head()
    if visit.zoo.once(visit.digest):
        whole.body(until=_at_40_percent(visit))
        visit.exchange.cut()
    whole.body()


def _range_answered_with_200(visit: Visit) -> None:
    """Send a part as if it were the whole: nothing tells it from a lie about the length."""
    if not visit.ranged and visit.zoo.once(visit.digest):
        visit.head()
        visit.body(until=_at_40_percent(visit))
        visit.exchange.cut()
    fields = {"Content-Length": visit.stop - visit.start, "Accept-Ranges": "bytes"}
    visit.exchange.head(200, fields)
    visit.body()


def _slow_trickle(visit: Visit) -> None:
    visit.head()
    for start in range(visit.start, visit.stop, _TRICKLE_BYTES):
        visit.exchange.write(visit.data[start : min(start + _TRICKLE_BYTES, visit.stop)])
        if visit.zoo.stopping or not visit.zoo.sick:
            visit.exchange.cut()
        time.sleep(_TRICKLE_PAUSE_S)


def _redirects_elsewhere(visit: Visit) -> None:
    if not (visit.exchange.header("authorization") or "").startswith("Bearer "):
        visit.exchange.reply(401, b"{}", {"WWW-Authenticate": visit.zoo.challenge})
        return
    visit.exchange.reply(307, b"", {"Location": f"{visit.zoo.elsewhere_url}/storage/{visit.digest}"})


def _changed_etag(visit: Visit) -> None:
    if visit.zoo.once(visit.digest):
        visit.head(ETag='"old"')
        visit.body(until=_at_40_percent(visit), data=visit.corrupted())
        visit.exchange.cut()
    condition = visit.exchange.header("if-range")
    answer = visit.whole if visit.ranged and condition not in (None, '"new"') else visit
    answer.head(ETag='"new"')
    answer.body()


def _at_40_percent(visit: Visit) -> int:
    return len(visit.data) * 2 // 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Animal:
    """One kind of misbehaviour."""

    name: str
    blob: Callable[[Visit], None] = honest
    alone: Fate
    refuses: bool = False
    """Nothing listens."""
    silent: bool = False
    """Accepts connections and never answers anything."""


ANIMALS: Final[Mapping[str, Animal]] = {
    animal.name: animal
    for animal in (
        Animal(name="refuses", alone=Fate.FAILS, refuses=True),
        Animal(name="accepts-and-stays-silent", alone=Fate.FAILS, silent=True),
        Animal(name="stalls-in-the-middle", blob=_stalls_in_the_middle, alone=Fate.FAILS),
        Animal(name="cuts-at-40-percent", blob=_cuts_at_40_percent, alone=Fate.FAILS),
        Animal(name="cuts-every-mib", blob=_cuts_every_mib, alone=Fate.RIGHT),
        Animal(name="wrong-bytes-once", blob=_wrong_bytes_once, alone=Fate.HEALS),
        Animal(name="wrong-bytes-at-the-start-once", blob=_wrong_bytes_at_the_start_once, alone=Fate.HEALS),
        Animal(name="wrong-bytes-always", blob=_wrong_bytes_always, alone=Fate.FAILS),
        Animal(name="length-too-long", blob=_length_too_long, alone=Fate.EITHER),
        Animal(name="length-too-short", blob=_length_too_short, alone=Fate.EITHER),
        Animal(name="html-with-200", blob=_html_with_200, alone=Fate.FAILS),
        Animal(name="unauthorized-loop", blob=_unauthorized_loop, alone=Fate.FAILS),
        Animal(name="limited-with-headers", blob=_limited_with_headers, alone=Fate.FAILS),
        Animal(name="limited-without-headers", blob=_limited_without_headers, alone=Fate.FAILS),
        Animal(name="error-then-fine", blob=_error_then_fine, alone=Fate.RIGHT),
        Animal(name="no-range-support", blob=_no_range_support, alone=Fate.RIGHT),
        Animal(name="range-ignored", blob=_range_ignored, alone=Fate.RIGHT),
        Animal(name="range-answered-with-200", blob=_range_answered_with_200, alone=Fate.EITHER),
        Animal(name="slow-trickle", blob=_slow_trickle, alone=Fate.FAILS),
        Animal(name="redirects-elsewhere", blob=_redirects_elsewhere, alone=Fate.RIGHT),
        Animal(name="changed-etag", blob=_changed_etag, alone=Fate.HEALS),
    )
}
HONEST: Final = Animal(name="honest", alone=Fate.RIGHT)


class ZooRegistry:
    """A registry of some images that misbehaves as its animal does; a context manager."""

    def __init__(
        self,
        images: Sequence[Image],
        animal: Animal = HONEST,
        *,
        tags: Mapping[str, Image] | None = None,
        link: Link | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        """``tags`` name some of the images; any other tag means the first."""
        self.animal = animal
        self.sick = animal is not HONEST
        self._any_tag = images[0].root
        self._by_tag = {tag: image.root for tag, image in (tags or {}).items()}
        self._manifests = {manifest.digest: manifest for image in images for manifest in image.manifests}
        self._blobs = {digest: data for image in images for digest, data in image.blobs.items()}
        self._visits = {digest: itertools.count(1) for digest in self._blobs}
        self._spent: set[str] = set()
        self.stopping = False
        self.server = Server(self._answer, link=link, tls=tls, host=host, hold_back=lambda: self.sick and animal.silent)
        self.elsewhere = Server(self._answer_elsewhere)
        """The other host of the animal that redirects: ``localhost`` instead of ``127.0.0.1``."""

    def __enter__(self) -> Self:
        """Serve (or, for the one that refuses, choose a port and leave it)."""
        self.server.listen()
        self.elsewhere.listen()
        if self.animal.refuses:
            self.server.refuse()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        """Stop."""
        self.stopping = True
        self.server.stop()
        self.elsewhere.stop()

    @property
    def url(self) -> str:
        """Base URL."""
        return self.server.url

    @property
    def elsewhere_url(self) -> str:
        """Base URL of the other host."""
        return f"http://localhost:{self.elsewhere.port}"

    @property
    def challenge(self) -> str:
        """What ``WWW-Authenticate`` says; the realm gives everybody a token."""
        return f'Bearer realm="{self.server.url}/token",service="zoo",scope="repository:zoo:pull"'

    def heal(self) -> None:
        """Be honest from now on."""
        self.sick = False
        if self.animal.silent:
            self.server.refuse()
        self.server.listen()

    def once(self, digest: str) -> bool:
        """Whether this is the first call for ``digest``."""
        first = digest not in self._spent
        self._spent.add(digest)
        return first

    def blob_gets(self, digest: str = "") -> list[Record]:
        """Return the GETs of blobs, or of one blob, so far."""
        return self.server.requests("GET", containing=f"/blobs/{digest}")

    def answer(self, exchange: Exchange) -> None:
        """Answer one request, for servers that stand before this one."""
        self._answer(exchange)

    def _answer(self, exchange: Exchange) -> None:
        if exchange.path == "/token":
            exchange.reply(200, json.dumps({"token": "zoo", "expires_in": 300}).encode())
            return
        found = _PATH.fullmatch(exchange.path)
        if found is None:
            exchange.reply(200 if exchange.path.rstrip("/") == "/v2" else 404, b"{}")
        elif found.group(1) == "manifests":
            self._manifest(exchange, found.group(2))
        else:
            self._blob(exchange, found.group(2), self.animal.blob if self.sick else honest)

    def _manifest(self, exchange: Exchange, reference: str) -> None:
        manifest = self._find(reference)
        if manifest is None:
            exchange.reply(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
            return
        fields = {"Content-Type": manifest.media_type, "Docker-Content-Digest": manifest.digest}
        exchange.reply(200, manifest.data, fields)

    def _find(self, reference: str) -> Manifest | None:
        if ":" in reference:
            return self._manifests.get(reference)
        return self._by_tag.get(reference, self._any_tag)

    def _blob(self, exchange: Exchange, digest: str, serve: Callable[[Visit], None]) -> None:
        data = self._blobs.get(digest)
        if data is None:
            exchange.reply(404, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}')
            return
        number = next(self._visits[digest]) if exchange.method == "GET" else 0
        visit = Visit(exchange=exchange, digest=digest, data=data, number=number, stop=len(data), zoo=self)
        if exchange.method == "HEAD":
            visit.head()
            return
        found = _RANGE.match(exchange.header("range") or "")
        if found is not None:
            start, stop = int(found.group(1)), int(found.group(2) or len(data) - 1) + 1
            if start >= len(data):
                exchange.reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            visit = visit.but(start=start, stop=min(stop, len(data)), ranged=True)
        serve(visit)

    def _answer_elsewhere(self, exchange: Exchange) -> None:
        self._blob(exchange, exchange.path.rpartition("/")[2], honest)
