"""Asking the sources of an upstream in their order, and what their failures say together.

The upstream itself has the last word. Only where it cannot be reached does a relay's refusal count; a peer's never
does, since a peer only tells of what it holds. A source that answered 429 is left alone until it said to come back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

from hunqi.errors import DependencyError, HunqiError, UserError
from hunqi.mirror.names import Target
from hunqi.mirror.resolve.errors import RelayLoop, RepositoryDenied, UpstreamLimited, UpstreamUnavailable
from hunqi.mirror.resolve.memory import Expiring
from hunqi.mirror.resolve.plan import Failure, bound_retry_after
from hunqi.mirror.sources.errors import (
    Blame,
    Forbidden,
    LoopDetected,
    NotFound,
    SourceCut,
    SourceError,
    SourceServerError,
    SourceTimeout,
    SourceUnreachable,
    TooManyRequests,
    Unauthorized,
)
from hunqi.mirror.sources.health import Admission, HealthMemory
from hunqi.mirror.sources.model import Document, ManifestBody, ManifestHead, RemoteBlob, SourceKind
from hunqi.oci.reference import Reference

T = TypeVar("T")


class SourcePort(Protocol):
    """What is asked of a source; all raise :class:`~hunqi.mirror.sources.errors.SourceError`."""

    @property
    def id(self) -> str:
        """Names the source in errors and memories."""
        ...

    @property
    def kind(self) -> SourceKind:
        """Peer, relay or upstream."""
        ...

    def head_manifest(
        self, repository: Target, reference: Reference, *, anonymous: bool = False, hops: tuple[str, ...] = ()
    ) -> ManifestHead:
        """HEAD a manifest; ``anonymous`` sends no credentials."""
        ...

    def get_manifest(self, repository: Target, reference: Reference, *, hops: tuple[str, ...] = ()) -> ManifestBody:
        """GET a manifest, verified if asked by digest."""
        ...

    def get_document(self, repository: Target, path: str, *, hops: tuple[str, ...] = ()) -> Document:
        """GET a list."""
        ...

    def head_blob(self, target: RemoteBlob, *, hops: tuple[str, ...] = ()) -> int | None:
        """HEAD a blob; return its size in bytes if the source tells."""
        ...


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a source said."""

    value: T
    is_public: bool
    """Whether it was said to a stranger: no credentials of ours, and not by a peer."""


class Unanswered(DependencyError):
    """No source answered. ``failure`` is what that means; the room's callers get :meth:`as_error` instead."""

    code: ClassVar[str] = "resolve.unanswered"

    def __init__(self, failure: Failure, *, reasons: tuple[str, ...], by_stranger: bool, unauthorized: bool) -> None:
        super().__init__(f"{failure.value}: {'; '.join(reasons)}")
        self.failure = failure
        self.reasons = reasons
        self.by_stranger = by_stranger
        """Whether the sources were asked without credentials."""
        self.unauthorized = unauthorized
        self.retry_after_s = 0.0

    def as_error(self, home: Target, hops: tuple[str, ...], unknown: UserError) -> HunqiError:
        """Return the error of the room; ``unknown`` is the one for a 404."""
        upstream = home.upstream or home.repository
        match self.failure:
            case Failure.UNKNOWN:
                return unknown
            case Failure.REFUSED:
                return RepositoryDenied(home.key, unauthorized=self.unauthorized)
            case Failure.LIMITED:
                return UpstreamLimited(upstream, bound_retry_after(self.retry_after_s))
            case Failure.LOOP:
                return RelayLoop(upstream, hops)
            case Failure.BROKEN | Failure.UNREACHABLE:
                return UpstreamUnavailable(upstream, self.reasons)


@dataclass(frozen=True, slots=True)
class _Tried:
    source: SourcePort
    failure: Failure
    reason: str
    unauthorized: bool = False

    @property
    def is_final(self) -> bool:
        """Whether asking on is in vain: a loop, or the upstream itself says no."""
        says_no = self.failure in {Failure.UNKNOWN, Failure.REFUSED}
        return self.failure is Failure.LOOP or (says_no and self.source.kind is SourceKind.UPSTREAM)


class Asking:
    """Asks; remembers who limits us, and shares with the fetches the memory of who is down. Thread-safe."""

    def __init__(
        self,
        *,
        sources: Callable[[str], Sequence[SourcePort]],
        health: HealthMemory,
        with_credentials: Callable[[str], bool],
        clock: Callable[[], float],
    ) -> None:
        """``sources(upstream)`` gives them in the order of asking.

        ``with_credentials(upstream)``: whether any of them may be asked with credentials of ours.
        """
        self._sources = sources
        self._health = health
        self._with_credentials = with_credentials
        self._limited: Expiring[str, bool] = Expiring(clock)

    def ask(
        self,
        home: Target,
        question: Callable[[SourcePort], T],
        *,
        anonymous: bool = False,
        first: Sequence[SourcePort] = (),
    ) -> Answer[T]:
        """Return the first answer to ``question``; raise :class:`Unanswered`.

        ``anonymous``: the question sends no credentials. ``first``: the peers to ask before everyone else.
        """
        by_stranger = anonymous or not self.could_use_credentials(home)
        tried: list[_Tried] = []
        for source in (*first, *self._sources(home.upstream or "")):
            avoided = self._avoid(source)
            if avoided is not None:
                tried.append(avoided)
                continue
            try:
                value = question(source)
            except SourceError as error:
                tried.append(self._note(source, error))
                if tried[-1].is_final:
                    break
            else:
                self._health.succeeded(source.id)
                return Answer(value, is_public=by_stranger and source.kind is not SourceKind.PEER)
        raise self._unanswered(tried, by_stranger=by_stranger)

    def is_in_trouble(self, home: Target) -> bool:
        """Whether the upstream and its relays are all known to limit us or to be down."""
        sources = self._sources(home.upstream or "")
        return all(self._limited.get(one.id) or self._health.state(one.id).down_until_s is not None for one in sources)

    def could_use_credentials(self, home: Target) -> bool:
        """Whether an answer may have been for us and not for everyone."""
        return self._with_credentials(home.upstream or "")

    def _avoid(self, source: SourcePort) -> _Tried | None:
        """Return why ``source`` is not to be asked now, or None."""
        if self._limited.get(source.id):
            return _Tried(source, Failure.LIMITED, f"{source.id} limits this mirror")
        if self._health.admit(source.id) is Admission.DOWN:
            return _Tried(source, Failure.UNREACHABLE, f"{source.id} is down and not yet due to be tried again")
        return None

    def _note(self, source: SourcePort, error: SourceError) -> _Tried:
        # A peer that could not get it either has answered: its own sources failed.
        passes_on = source.kind is SourceKind.PEER and isinstance(error, SourceServerError)
        self._health.failed(source.id, Blame.ANSWERED if passes_on else error.blame)
        if isinstance(error, TooManyRequests):
            self._limited.put(source.id, True, for_s=bound_retry_after(error.retry_after_s))
        return _Tried(source, classify(error), str(error), isinstance(error, Unauthorized))

    def _unanswered(self, tried: list[_Tried], *, by_stranger: bool) -> Unanswered:
        deciding = _deciding(tried)
        unanswered = Unanswered(
            deciding.failure if deciding else Failure.UNREACHABLE,
            reasons=tuple(one.reason for one in tried),
            by_stranger=by_stranger,
            unauthorized=deciding is not None and deciding.unauthorized,
        )
        if deciding is not None and deciding.failure is Failure.LIMITED:
            unanswered.retry_after_s = self._limited.remaining_s(deciding.source.id)
        return unanswered


def classify(error: SourceError) -> Failure:
    """Return what a source's error is to a decision."""
    match error:
        case NotFound():
            return Failure.UNKNOWN
        case Unauthorized() | Forbidden():
            return Failure.REFUSED
        case TooManyRequests():
            return Failure.LIMITED
        case LoopDetected():
            return Failure.LOOP
        case SourceUnreachable() | SourceTimeout() | SourceCut():
            return Failure.UNREACHABLE
        case _:
            return Failure.BROKEN


def _deciding(tried: list[_Tried]) -> _Tried | None:
    """Return whose failure is the answer: a loop's, else the upstream's if it was reached, else a relay's that was."""
    if tried and tried[-1].failure is Failure.LOOP:
        return tried[-1]
    heard = [one for one in tried if one.source.kind is not SourceKind.PEER]
    heard.sort(key=lambda one: (one.failure is not Failure.UNREACHABLE, one.source.kind is SourceKind.UPSTREAM))
    return heard[-1] if heard else None
