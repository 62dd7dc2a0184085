"""What a source can do wrong, by who failed; every foreign error becomes one of these where it happens."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import ClassVar, TypeVar

from hunqi.errors import DependencyError
from hunqi.mirror.sources.ratelimit import RateLimit

E = TypeVar("E", bound=Exception)


class Blame(Enum):
    """How much an error says about the health of its source."""

    ANSWERED = "answered"
    """The source works; the refusal is its answer."""
    OURS = "ours"
    """It says nothing of the source."""
    SOFT = "soft"
    """Once may be chance; several in a row put the source out of use."""
    HARD = "hard"
    """Nothing there answers: out of use at once."""


class Phase(Enum):
    """What a source was too late with."""

    FIRST_BYTE = "first byte"
    STALL = "next bytes"


class SourceError(DependencyError):
    """Base: the question could not be answered by this source. ``source`` is its id."""

    code: ClassVar[str] = "source.error"
    blame: ClassVar[Blame] = Blame.SOFT

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason


class SourceUnreachable(SourceError):
    """No connection: name, route, port, proxy or certificate."""

    code: ClassVar[str] = "source.unreachable"
    blame: ClassVar[Blame] = Blame.HARD


class SourceTimeout(SourceError):
    """Connected, and silent for longer than the deadline of ``phase``."""

    code: ClassVar[str] = "source.timeout"
    blame: ClassVar[Blame] = Blame.HARD

    def __init__(self, source: str, phase: Phase, limit_s: float) -> None:
        super().__init__(source, f"sent nothing for {limit_s:g} s while waiting for its {phase.value}")
        self.phase = phase
        self.limit_s = limit_s


class SourceCut(SourceError):
    """The connection ended before the answer did."""

    code: ClassVar[str] = "source.cut"


class SourceMisbehaves(SourceError):
    """The answer breaks the protocol: no HTTP, HTML for a blob, the wrong range, a wrong digest."""

    code: ClassVar[str] = "source.misbehaves"


class SourceChanged(SourceMisbehaves):
    """The content behind the same name is another one than when the download began (ETag)."""

    code: ClassVar[str] = "source.changed"


class SourceServerError(SourceError):
    """The source answered 408 or 5xx (``status``)."""

    code: ClassVar[str] = "source.server_error"

    def __init__(self, source: str, status: int) -> None:
        super().__init__(source, f"answered {status}")
        self.status = status


class SourceBusy(SourceError):
    """All connections that the settings allow to this source stayed in use for the whole deadline."""

    code: ClassVar[str] = "source.busy"
    blame: ClassVar[Blame] = Blame.OURS


class NotFound(SourceError):
    """The source does not have it (404, 410)."""

    code: ClassVar[str] = "source.not_found"
    blame: ClassVar[Blame] = Blame.ANSWERED


class Unauthorized(SourceError):
    """401 although everything that we may send was sent."""

    code: ClassVar[str] = "source.unauthorized"
    blame: ClassVar[Blame] = Blame.ANSWERED


class Forbidden(SourceError):
    """403: known, and not allowed."""

    code: ClassVar[str] = "source.forbidden"
    blame: ClassVar[Blame] = Blame.ANSWERED


class TooManyRequests(SourceError):
    """429. ``retry_after_s`` is None if the source did not say; ``rate`` is its quota if it told."""

    code: ClassVar[str] = "source.too_many_requests"
    blame: ClassVar[Blame] = Blame.ANSWERED

    def __init__(self, source: str, *, retry_after_s: float | None, rate: RateLimit | None) -> None:
        super().__init__(source, "answered 429, too many requests")
        self.retry_after_s = retry_after_s
        self.rate = rate


class RangeNotSatisfiable(SourceError):
    """416: the range lies outside of what the source has; ``total_size`` in bytes if it told."""

    code: ClassVar[str] = "source.range_not_satisfiable"
    blame: ClassVar[Blame] = Blame.ANSWERED

    def __init__(self, source: str, total_size: int | None) -> None:
        super().__init__(source, f"has no such range (size {total_size if total_size is not None else 'unknown'})")
        self.total_size = total_size


class LoopDetected(SourceError):
    """508: the request came round to a mirror that it had passed."""

    code: ClassVar[str] = "source.loop_detected"
    blame: ClassVar[Blame] = Blame.OURS


class StreamAborted(SourceError):
    """Our own ``abort()`` ended the read."""

    code: ClassVar[str] = "source.aborted"
    blame: ClassVar[Blame] = Blame.OURS


class CredentialsUnavailable(SourceError):
    """The credentials file or helper of the settings gave nothing usable."""

    code: ClassVar[str] = "source.credentials_unavailable"
    blame: ClassVar[Blame] = Blame.OURS


def most_telling(errors: Sequence[E]) -> E | None:
    """Return the error that answers for all, given in the order of asking, in which the last is nearest to the truth.

    A source that could not be reached has said nothing: then one that was reached speaks, a relay for its upstream.
    """
    reached = [one for one in errors if not (isinstance(one, SourceError) and one.blame is Blame.HARD)]
    return next(reversed(reached or errors), None)
