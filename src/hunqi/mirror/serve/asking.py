"""One request as the endpoints see it: who asks, for which repository, along which mirrors it came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from aiohttp import web

from hunqi.errors import UserError
from hunqi.mirror.access.model import Caller
from hunqi.mirror.names import Target
from hunqi.mirror.serve.fetcher import Via

HOP_HEADER: Final = "Hunqi-Hop"
MAX_HOPS: Final = 16


class LoopError(UserError):
    """The request has come through this mirror before."""

    code: ClassVar[str] = "mirror.loop"

    def __init__(self, hops: tuple[str, ...]) -> None:
        super().__init__(f"relays ask each other in a loop: {' -> '.join(hops)}; take one of them out of --relay")


class NotYourBusinessError(UserError):
    """The caller may not do this; ``challenge`` tells how to become one who may, if that would help."""

    code: ClassVar[str] = "access.denied"

    def __init__(self, message: str, *, challenge: str | None) -> None:
        super().__init__(message)
        self.challenge = challenge


@dataclass(slots=True)
class Trace:
    """What was found out about a request on its way, for the access line and the metrics."""

    kind: str = "other"
    """``manifest``, ``blob``, ``push``, ``list``, ``token``, ``peer`` or ``other``."""
    outcome: str = "-"
    """``hit``, ``miss``, ``join``, ``stale``, ``through`` (not kept), ``cut`` (by us, in the middle) …"""
    user: str = "-"
    repository: str = "-"
    digest: str = "-"
    begun: int = 0
    """The status of an answer whose body is under way."""
    sent: int = 0
    """Bytes of that body so far, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A request for one repository, by a caller who may."""

    request: web.BaseRequest
    trace: Trace
    caller: Caller
    target: Target
    name: str
    """The repository as the client wrote it."""
    via: Via
    headers: tuple[tuple[str, str], ...] = ()
    """To be added to the answer."""


def read_hops(request: web.BaseRequest, node_id: str) -> tuple[str, ...]:
    """Return the mirrors that a request came through; raise :class:`LoopError` if this one is among them."""
    header = request.headers.get(HOP_HEADER)
    if not header:
        return ()
    hops = tuple(part.strip()[:64] for part in header.split(",")[: MAX_HOPS + 1])
    if node_id in hops or len(hops) > MAX_HOPS:
        raise LoopError((*hops, node_id))
    return hops
