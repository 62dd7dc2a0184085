"""Tags: answered from the store within their TTL, revalidated by HEAD, served stale when nobody can tell better.

What is known of a tag is its row in the catalogue, which points at a stored manifest, or what a HEAD told lately: a
client that only looks whether a tag has moved costs no download, so its answer lives in memory and not in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hunqi.mirror.names import Target
from hunqi.mirror.resolve.asking import Unanswered
from hunqi.mirror.resolve.manifests import Ask, Manifests, Room
from hunqi.mirror.resolve.memory import Expiring
from hunqi.mirror.resolve.model import Resolved
from hunqi.mirror.resolve.plan import Failure, Freshness, OnFailure, decide, on_failure
from hunqi.mirror.sources.model import ManifestHead
from hunqi.mirror.store.errors import StoreFullError, StoreUnavailableError
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Tag

SEEN_S: Final = 86400.0
"""What is known in memory only is good for a stale answer, and saves a GET, for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What an upstream last said of a tag."""

    digest: Digest
    media_type: str
    size: int
    checked_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What a client asks."""

    home: Target
    tag: Tag
    head: bool
    ask: Ask

    @property
    def key(self) -> tuple[str, Tag]:
        return (self.home.key, self.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """An answer that could be given without asking anyone."""

    resolved: Resolved
    age_s: float
    is_superseded: bool
    """A HEAD has said since that the tag has moved."""


class Tags:
    """Resolves tags. Thread-safe."""

    def __init__(self, room: Room, manifests: Manifests) -> None:
        self._room = room
        self._manifests = manifests
        self._seen: Expiring[tuple[str, Tag], _Seen] = Expiring(room.clock)
        self._heads: Expiring[tuple[str, Digest], Tag] = Expiring(room.clock)
        """The tag of which a HEAD last told a digest: most clients GET that digest next."""

    def resolve(self, home: Target, tag: Tag, *, head: bool, ask: Ask) -> Resolved:
        """Return what ``tag`` means; raises the errors of :mod:`hunqi.mirror.resolve.errors`."""
        question = _Question(home=home, tag=tag, head=head, ask=ask)
        held = self._hold(question)
        key = ("tag", home.key, tag, head)
        freshness = self._decide(question, held)
        if held is not None and freshness is Freshness.FRESH:
            return self._answer(question, held)
        if held is not None and freshness is Freshness.SERVE_AND_REVALIDATE:
            self._room.flights.start(key, lambda: self._refresh(question), depth=len(ask.hops))
            return self._answer(question, held)
        if held is None:
            self._manifests.refuse_if_unknown(home, tag)
        return self._room.flights.do(key, lambda: self._refresh(question), depth=len(ask.hops))

    def keep(self, home: Target, digest: Digest) -> None:
        """Write down which tag a manifest, stored now, was asked by: until then a HEAD's answer lives in memory."""
        tag = self._heads.get((home.key, digest))
        seen = None if tag is None else self._seen.get((home.key, tag))
        if tag is None or seen is None or seen.digest != digest:
            return
        self._heads.forget((home.key, digest))
        try:
            self._room.catalogue.put_tag(home.key, tag, digest, pushed=False, checked_at=seen.checked_at)
        except (StoreFullError, StoreUnavailableError):
            return  # it is known in memory still
        self._seen.forget((home.key, tag))

    def forget(self, home: Target, tag: Tag) -> None:
        """Drop what is known of a tag, so that the next question goes to the sources."""
        self._seen.forget((home.key, tag))
        try:
            self._room.catalogue.delete_tag(home.key, tag)
        except (StoreFullError, StoreUnavailableError):
            # The row goes with the next check that can write.
            return

    def _decide(self, question: _Question, held: _Held | None) -> Freshness:
        settings = self._room.settings
        ttl_s = settings.ttl_of(question.home.repository, question.tag.name)
        is_in_trouble = held is not None and self._room.asking.is_in_trouble(question.home)
        if held is not None and held.is_superseded and not is_in_trouble:
            return Freshness.REVALIDATE_FIRST
        age_s = None if held is None else held.age_s
        return decide(age_s=age_s, ttl_s=ttl_s, stale_s=settings.stale_s, is_in_trouble=is_in_trouble)

    def _hold(self, question: _Question) -> _Held | None:
        """Return the newest thing known that answers this: a GET needs the manifest itself, a HEAD does not."""
        seen = self._seen.get(question.key)
        row = self._room.catalogue.tag(question.home.key, question.tag)
        if seen is not None and (row is None or seen.checked_at >= row.checked_at):
            found = self._manifests.find(question.home, seen.digest)
            if found is None and question.head:
                found = Resolved(digest=seen.digest, media_type=seen.media_type, size=seen.size)
            if found is not None:
                return _Held(resolved=found, age_s=self._age_s(seen.checked_at), is_superseded=False)
        if row is None:
            return None
        found = self._manifests.find(question.home, row.digest)
        if found is None:
            return None
        moved = seen is not None and seen.checked_at >= row.checked_at and seen.digest != row.digest
        return _Held(resolved=found, age_s=self._age_s(row.checked_at), is_superseded=moved)

    def _refresh(self, question: _Question) -> Resolved:
        """Ask the sources; the answer is new, or stale if the plan says so."""
        held = self._hold(question)
        if held is not None and self._decide(question, held) is Freshness.FRESH:
            return self._answer(question, held)
        try:
            return self._ask(question, held)
        except Unanswered as unanswered:
            match on_failure(unanswered.failure, is_known=held is not None):
                case OnFailure.SERVE_STALE if held is not None:
                    return self._answer(question, held, stale=True)
                case OnFailure.FORGET:
                    self.forget(question.home, question.tag)
                case _:
                    pass
            error = self._manifests.settle(question.home, question.tag, unanswered, question.ask.hops)
            raise error from unanswered

    def _ask(self, question: _Question, held: _Held | None) -> Resolved:
        home, tag = question.home, question.tag
        if held is None and not question.head and not (question.ask.peers and self._room.has_peers()):
            return self._fetch(question, by=tag)
        # Of several nodes one needs the GET, which counts against a quota; the HEADs of the others do not.
        head = self._manifests.head(home, tag, hops=question.ask.hops)
        if head.digest is None:
            return self._fetch(question, by=tag)
        found = self._manifests.find(home, head.digest)
        if found is None and question.head and head.size is not None:
            return self._note_head(question, head, head.digest, head.size)
        if found is None:
            return self._fetch_moved(question, head.digest)
        self._note_checked(question, found)
        return found

    def _fetch(self, question: _Question, *, by: Tag | Digest) -> Resolved:
        resolved = self._manifests.fetch(question.home, by, tag=question.tag, ask=question.ask)
        if resolved.body is not None:
            self._note_seen(question, resolved)
        else:
            self._seen.forget(question.key)
        return resolved

    def _fetch_moved(self, question: _Question, digest: Digest) -> Resolved:
        """GET what a HEAD has just announced; an upstream that does not have it after all is asked by the tag again."""
        try:
            return self._fetch(question, by=digest)
        except Unanswered as unanswered:
            if unanswered.failure is not Failure.UNKNOWN:
                raise
        return self._fetch(question, by=question.tag)

    def _note_head(self, question: _Question, head: ManifestHead, digest: Digest, size: int) -> Resolved:
        resolved = Resolved(digest=digest, media_type=head.media_type, size=size)
        self._note_seen(question, resolved)
        self._heads.put((question.home.key, digest), question.tag, for_s=SEEN_S)
        return resolved

    def _note_checked(self, question: _Question, found: Resolved) -> None:
        now = self._room.clock()
        try:
            self._room.catalogue.put_tag(question.home.key, question.tag, found.digest, pushed=False, checked_at=now)
        except (StoreFullError, StoreUnavailableError):
            self._note_seen(question, found)
        else:
            self._seen.forget(question.key)

    def _note_seen(self, question: _Question, resolved: Resolved) -> None:
        seen = _Seen(
            digest=resolved.digest,
            media_type=resolved.media_type,
            size=resolved.size,
            checked_at=self._room.clock(),
        )
        self._seen.put(question.key, seen, for_s=SEEN_S)

    def _answer(self, question: _Question, held: _Held, *, stale: bool = False) -> Resolved:
        ttl_s = self._room.settings.ttl_of(question.home.repository, question.tag.name)
        found = held.resolved
        return Resolved(
            digest=found.digest,
            media_type=found.media_type,
            size=found.size,
            body=found.body,
            age_s=held.age_s,
            stale=stale or held.age_s >= ttl_s,
        )

    def _age_s(self, checked_at: float) -> float:
        return max(self._room.clock() - checked_at, 0.0)
