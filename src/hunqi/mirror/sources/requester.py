"""One question to one source, through its challenges and redirects.

``Authorization`` and the hop mark go to the source's own endpoint only; a redirect to another host, port or scheme goes
without. Where a blob was found behind a redirect is remembered for a while, so that its next range skips the first
hop; when that place refuses (signed URLs expire), the question starts again at the front door.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from hunqi.mirror.sources.errors import SourceError, SourceMisbehaves, Unauthorized
from hunqi.mirror.sources.reply import Reply
from hunqi.mirror.sources.tokens import Authorizer, Wanted
from hunqi.mirror.sources.transport import Request, Transport
from hunqi.mirror.sources.urls import Url, UrlError

MAX_REDIRECTS: Final = 5
DISCARD_S: Final = 1.0
"""Longest wait for the rest of an answer that nobody wants."""
LANDING_S: Final = 300.0
"""Signed URLs of common registries live 10 to 20 minutes."""
MAX_LANDINGS: Final = 256

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HOP_HEADER: Final = "Hunqi-Hop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to ask at the source's own endpoint; ``target`` is path and query."""

    method: str
    target: str
    wanted: Wanted | None
    """None: no credentials, and a 401 is an answer."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    hops: tuple[str, ...] = ()
    """The mirrors that this request has passed, this one included."""


class Landings:
    """Where questions landed, for a while. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[Url, float]] = OrderedDict()

    def find(self, target: str) -> Url | None:
        """Return the remembered place, or None."""
        with self._lock:
            url, since = self._known.get(target, (None, 0.0))
            if url is not None and self._clock() - since > LANDING_S:
                del self._known[target]
                return None
            return url

    def keep(self, target: str, url: Url) -> None:
        """Remember a place; one that is known keeps its age."""
        with self._lock:
            if self._known.get(target, (None, 0.0))[0] == url:
                return
            self._known[target] = (url, self._clock())
            if len(self._known) > MAX_LANDINGS:
                self._known.popitem(last=False)

    def forget(self, target: str) -> None:
        """Start at the front door the next time."""
        with self._lock:
            self._known.pop(target, None)


class Requester:
    """Asks one source. Thread-safe."""

    def __init__(self, home: Url, transport: Transport, *, authorizer: Authorizer, landings: Landings) -> None:
        self._source = transport.label
        self._home = home
        self._transport = transport
        self._authorizer = authorizer
        self._landings = landings

    def ask(self, question: Question, *, remember: bool = False) -> Reply:
        """Return the last answer, of whatever status but a redirect; the caller closes it.

        ``remember`` makes a redirect be skipped the next time. Raises :class:`SourceError`.
        """
        place = self._landings.find(question.target) if remember else None
        if place is not None:
            reply = self._ask_again(question, place)
            if reply is not None:
                return reply
        url = Url(self._home.endpoint, question.target)
        for _ in range(MAX_REDIRECTS + 1):
            reply = self._send(question, url)
            if reply.status not in _REDIRECTS:
                if remember and reply.status in {200, 206} and url.endpoint != self._home.endpoint:
                    self._landings.keep(question.target, url)
                return reply
            location = reply.headers.get("Location")
            reply.discard(DISCARD_S)
            try:
                url = url.join(location or "")
            except UrlError as error:
                raise SourceMisbehaves(self._source, f"redirects to {error}") from error
        raise SourceMisbehaves(self._source, f"redirects more than {MAX_REDIRECTS} times")

    def _ask_again(self, question: Question, place: Url) -> Reply | None:
        """Ask at a remembered place; None means that it must be asked from the front."""
        try:
            reply = self._send(question, place)
        except SourceError:
            self._landings.forget(question.target)
            raise
        if reply.status in {200, 206, 416, 429}:
            return reply
        self._landings.forget(question.target)
        reply.discard(DISCARD_S)
        return None

    def _send(self, question: Question, url: Url) -> Reply:
        if url.endpoint != self._home.endpoint:
            return self._transport.send(Request(method=question.method, url=url, headers=question.headers))
        header = self._authorizer.expect(question.wanted) if question.wanted else None
        reply = self._send_home(question, url, header)
        if reply.status != 401 or question.wanted is None:
            return reply
        challenges = reply.headers.get_all("WWW-Authenticate") or []
        reply.discard(DISCARD_S)
        header = self._authorizer.answer(challenges, question.wanted, rejected=header)
        reply = self._send_home(question, url, header)
        if reply.status == 401:
            reply.discard(DISCARD_S)
            raise Unauthorized(self._source, "answered 401 to a fresh token")
        return reply

    def _send_home(self, question: Question, url: Url, authorization: str | None) -> Reply:
        headers = dict(question.headers)
        if question.hops:
            headers[_HOP_HEADER] = ",".join(question.hops)
        if authorization is not None:
            headers["Authorization"] = authorization
        return self._transport.send(Request(method=question.method, url=url, headers=headers))
