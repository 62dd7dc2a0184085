"""Who may see an upstream's repository: everyone, if the upstream shows it to a stranger.

An anonymous manifest HEAD decides; a pull that needed no credentials decided it too. A decision is remembered for an
hour and renewed behind the answer before it ends. Where nothing can be decided the last decision holds, else the
repository is private.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hunqi.mirror.names import Target
from hunqi.mirror.resolve.asking import Asking, Unanswered
from hunqi.mirror.resolve.flights import Flights
from hunqi.mirror.resolve.memory import Expiring
from hunqi.mirror.resolve.plan import Evidence, Failure, Freshness, decide_visibility, judge_refusal
from hunqi.mirror.settings import TagSettings
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.errors import StoreFullError, StoreUnavailableError
from hunqi.mirror.store.model import Visibility
from hunqi.oci.reference import Reference, Tag

RENEW_SHARE: Final = 0.25
"""A pull that shows again what is known is written down after this share of ``visibility_s``, not each time."""
KEEP_TIMES: Final = 24.0
"""A decision in memory is the last decision for so many times ``visibility_s``."""


class Visibilities:
    """Decides and remembers. Thread-safe.

    Decisions about repositories of which nothing is stored stay in memory, so that asking for names cannot fill the
    disk.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        asking: Asking,
        flights: Flights,
        settings: TagSettings,
        clock: Callable[[], float],
    ) -> None:
        self._catalogue = catalogue
        self._asking = asking
        self._flights = flights
        self._settings = settings
        self._clock = clock
        self._recent: Expiring[str, Visibility] = Expiring(clock)
        self._undecided: Expiring[tuple[str, str], bool] = Expiring(clock)
        """By repository and, where it only lacks what was asked for, that: it may have other tags than ``latest``."""

    def is_public(self, home: Target, reference: Reference | None, *, hops: tuple[str, ...] = ()) -> bool:
        """Return whether everyone may see the repository; ``reference`` is what to ask for, if the caller knows one."""
        last = self._last(home.key)
        age_s = None if last is None else max(self._clock() - last.decided_at, 0.0)
        asked = reference or self._any_reference(home)
        key = ("visibility", home.key, str(asked))
        match decide_visibility(age_s=age_s, visibility_s=self._settings.visibility_s):
            case Freshness.FRESH:
                pass
            case Freshness.SERVE_AND_REVALIDATE:
                self._flights.start(key, lambda: self._check(home, asked, hops), depth=len(hops))
            case Freshness.REVALIDATE_FIRST | Freshness.FETCH:
                if not any(self._undecided.get((home.key, what)) for what in ("", str(asked))):
                    return self._flights.do(key, lambda: self._check(home, asked, hops), depth=len(hops))
        return last is not None and last.public

    def last_decision(self, key: str) -> bool | None:
        """Return the last decision about a repository key, however old, or None."""
        last = self._last(key)
        return None if last is None else last.public

    def note_public(self, home: Target) -> None:
        """The upstream has just shown the repository to a stranger."""
        last = self._last(home.key)
        written = self._catalogue.visibility(home.key)
        renew_at = 0.0 if written is None else written.decided_at + RENEW_SHARE * self._settings.visibility_s
        if last is None or not last.public or self._clock() >= renew_at:
            self._remember(home, public=True)

    def note_stored(self, home: Target) -> None:
        """Something of the repository is stored now: write down what was decided before."""
        decision = self._recent.get(home.key)
        if decision is not None and self._catalogue.visibility(home.key) is None:
            self._write(home, decision)

    def note_private(self, home: Target) -> None:
        """The upstream has just refused the repository to a stranger."""
        self._remember(home, public=False)

    def _last(self, key: str) -> Visibility | None:
        known = (self._recent.get(key), self._catalogue.visibility(key))
        return max((one for one in known if one is not None), key=lambda one: one.decided_at, default=None)

    def _check(self, home: Target, asked: Reference, hops: tuple[str, ...]) -> bool:
        lacking = ""
        try:
            self._asking.ask(
                home,
                lambda source: source.head_manifest(home, asked, hops=hops, anonymous=True),
                anonymous=True,
            )
            evidence = Evidence.PUBLIC
        except Unanswered as unanswered:
            could = self._asking.could_use_credentials(home)
            evidence = judge_refusal(unanswered.failure, could_use_credentials=could)
            lacking = str(asked) if unanswered.failure is Failure.UNKNOWN else ""
        if evidence is not Evidence.NONE:
            self._remember(home, public=evidence is Evidence.PUBLIC)
            return evidence is Evidence.PUBLIC
        self._undecided.put((home.key, lacking), True, for_s=self._settings.negative_s)
        last = self._last(home.key)
        return last is not None and last.public

    def _any_reference(self, home: Target) -> Reference:
        """Return something that the repository is likely to have."""
        names = self._catalogue.tags(home.key, after=None, limit=1)
        return Tag(names[0]) if names else Tag("latest")

    def _remember(self, home: Target, *, public: bool) -> None:
        now = self._clock()
        decision = Visibility(public=public, decided_at=now)
        self._recent.put(home.key, decision, for_s=KEEP_TIMES * self._settings.visibility_s)
        self._write(home, decision)

    def _write(self, home: Target, decision: Visibility) -> None:
        try:
            if self._catalogue.has_repository(home.key):
                self._catalogue.set_visibility(home.key, decision.public, decision.decided_at)
        except (StoreFullError, StoreUnavailableError):
            # Memory holds it for now; the next decision is written.
            return
