"""From what was seen of a service to how many tasks it is to have. Pure: the same look gives the same decision.

The order is that of the HPA (measures, stabilisation, policies, bounds); what it has no rule for comes around it: zero
before, panic and foresight after the stabilisation (they only add), room on the machines at the end. Each step that
changes the number leaves a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from hunqi.apps.scale_spec import DEFAULT_UP, ScaleSpec
from hunqi.scaling import hpa
from hunqi.scaling.clock import Bounds, bounds_at
from hunqi.scaling.hpa import Proposal
from hunqi.scaling.latency import LatencyMemory
from hunqi.scaling.model import Decision, Foreseen, Remembered, Room
from hunqi.scaling.panic import panicked


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen of a service at a moment."""

    app: str
    service: str
    spec: ScaleSpec
    now: float
    current: int
    ready: int
    proposals: tuple[Proposal, ...] = ()
    burst: int | None = None
    """What the last seconds ask for; None where nobody counts requests."""
    latency: LatencyMemory = field(default_factory=LatencyMemory)
    active: bool | None = None
    """Whether there is anything to do: requests, open streams, held ones, work in the queue; None if unknown."""
    activity: str = ""
    """What there is to do, or why it is not known."""
    foreseen: Foreseen | None = None
    room: Room = field(default_factory=Room)
    frozen: str = ""
    """Why nothing may go down now; empty if it may."""


def decide(look: Look, before: Remembered) -> tuple[Decision, Remembered]:
    """Return the decision, and what is to be remembered."""
    return _Deciding(look, before).decided()


class _Deciding:
    """One decision being made."""

    def __init__(self, look: Look, before: Remembered) -> None:
        self._at = look
        self._memory = _noted(look, before)
        self._bounds: Bounds = bounds_at(look.spec, look.now)
        self._because: list[str] = []
        self._asked: int | None = None
        self._stable: int | None = None
        self._allowed: int | None = None
        self._short = 0
        if self._bounds.sentence:
            self._say(self._bounds.sentence)

    def decided(self) -> tuple[Decision, Remembered]:
        at = self._at
        if at.current == 0 and (paused := self._paused()):
            return self._made(0, paused)
        if (zero := self._at_zero()) is not None:
            return self._made(*zero)
        wanted, sentence = self._by_load()
        return self._made(*self._within_room(self._unfrozen(wanted), sentence))

    # zero
    def _paused(self) -> str:
        """As in the HPA, somebody's zero turns it off; ours does not."""
        if self._memory.at_zero or self._bounds.zero:
            return ""
        return "it was set to no task by hand: that turns scaling off until it has one again"

    def _at_zero(self) -> tuple[int, str] | None:
        at, memory, allowed = self._at, self._memory, self._bounds.zero
        if at.current == 0:
            if not allowed:
                return self._bounds.low, "zero is not allowed now"
            if at.active:
                return self._woken()
            return 0, f"at zero: {at.activity or 'nothing to do'}"
        zero = at.spec.zero
        if not allowed or zero is None or at.active is not False or at.frozen:
            if allowed and at.active is None:
                self._say(f"not to zero, since what there is to do is not known: {at.activity}")
            return None
        idle_s = at.now - (memory.active_at or at.now)
        if at.now - (memory.begun_at or at.now) < zero.initial_cooldown_s:
            self._say(f"idle, but not to zero within {zero.initial_cooldown_s:.0f} s of its beginning")
        elif idle_s >= zero.cooldown_s:
            return 0, f"nothing to do for {idle_s:.0f} s: to zero"
        else:
            self._say(f"idle for {idle_s:.0f} of {zero.cooldown_s:.0f} s before it goes to zero")
        return None

    def _woken(self) -> tuple[int, str]:
        """Begin with the fewest, or at once with as many as there is work for; windows of before do not count."""
        at = self._at
        asked, _ = hpa.combine([each for each in at.proposals if not each.error], 0)
        wanted = hpa.bounded(max(self._bounds.low, asked or 0, at.burst or 0), self._bounds.low, self._bounds.high)
        self._memory = replace(self._memory, hpa=hpa.Memory())
        return self._within_room(wanted, f"from zero: {at.activity or 'there is something to do'}")

    # load
    def _by_load(self) -> tuple[int, str]:
        at, low, high = self._at, self._bounds.low, self._bounds.high
        if at.current > high:
            return high, f"more than the most that are allowed ({high})"
        if at.current < low:
            return low, f"fewer than the fewest that are allowed ({low})"
        wanted, sentence = self._reactive()
        wanted, sentence = self._panicking(wanted, sentence)
        wanted, sentence = self._foreseeing(wanted, sentence)
        held = hpa.bounded(wanted, low, high)
        if held != wanted:
            self._say(f"held to {low}–{high}: {wanted} would be outside")
        return held, sentence

    def _reactive(self) -> tuple[int, str]:
        at, behavior = self._at, self._at.spec.behavior
        if not at.proposals:
            return self._bounds.low, "no measure moves it: the fewest"
        desired, sentence = hpa.combine(at.proposals, at.current)
        self._asked = desired
        if desired is None:
            return at.current, sentence
        stable, memory = hpa.stabilise(self._memory.hpa, desired, at.current, behavior, now=at.now)
        self._memory = replace(self._memory, hpa=memory)
        self._stable = stable
        if stable > desired:
            self._say(f"not below {stable} yet: that much was asked for within {behavior.down.window_s:.0f} s")
        elif stable < desired:
            self._say(f"not above {stable} yet: no more was asked for within {behavior.up.window_s:.0f} s")
        self._allowed = allowed = hpa.limit_rate(memory, stable, at.current, behavior, now=at.now)
        if allowed != stable:
            self._say(f"to {allowed} for now: the policies allow no faster change")
        return allowed, sentence

    def _panicking(self, wanted: int, sentence: str) -> tuple[int, str]:
        at, panic = self._at, self._memory.panic
        if not panic.on:
            return wanted, sentence
        most = max(panic.most, at.current)
        if at.spec.behavior.up != DEFAULT_UP:
            most = hpa.limit_rate(self._memory.hpa, most, at.current, at.spec.behavior, now=at.now)
        if most <= wanted:
            return wanted, sentence
        if most > at.current:
            return most, f"a burst: the last seconds ask for {most}"
        self._say(f"nothing goes until a minute has passed without a burst: not {wanted} but {most}")
        return most, "after a burst"

    def _foreseeing(self, wanted: int, sentence: str) -> tuple[int, str]:
        foreseen = self._at.foreseen
        if foreseen is None or not foreseen.on or foreseen.replicas is None or foreseen.replicas <= wanted:
            return wanted, sentence
        self._say(f"measures ask for {wanted}")
        return foreseen.replicas, f"ahead of load: {foreseen.sentence}"

    # what it runs on
    def _unfrozen(self, wanted: int) -> int:
        at = self._at
        if wanted < at.current and at.frozen and at.current <= self._bounds.high:
            self._say(f"not down to {wanted}: {at.frozen}")
            return at.current
        return wanted

    def _within_room(self, wanted: int, sentence: str) -> tuple[int, str]:
        at, room = self._at, self._at.room
        if room.most is None or wanted <= max(at.current, room.most):
            return wanted, sentence
        fits = max(at.current, room.most)
        self._say(f"{wanted - fits} more have no room: {room.missing}. {room.remedy}")
        self._short = wanted - fits
        return fits, f"{sentence}; machines have room for {fits} of {wanted}"

    def _made(self, wanted: int, sentence: str) -> tuple[Decision, Remembered]:
        at = self._at
        memory = self._memory
        if wanted != at.current:
            kept = hpa.note_change(memory.hpa, at.current, wanted, at.spec.behavior, now=at.now)
            memory = replace(memory, hpa=kept, at_zero=wanted == 0)
        if not self._short:
            memory = replace(memory, told_short=False)
        decision = Decision(
            app=at.app,
            service=at.service,
            at=at.now,
            current=at.current,
            ready=at.ready,
            wanted=wanted,
            low=0 if self._bounds.zero else self._bounds.low,
            high=self._bounds.high,
            proposals=at.proposals,
            asked=self._asked,
            stable=self._stable,
            allowed=self._allowed,
            panic=memory.panic.on,
            foreseen=at.foreseen,
            room=at.room.most,
            short=self._short,
            sentence=sentence,
            because=tuple(self._because),
        )
        return decision, memory

    def _say(self, sentence: str) -> None:
        self._because.append(sentence)


def _noted(look: Look, before: Remembered) -> Remembered:
    """Return what is remembered once this look has been taken in."""
    memory = replace(before, latency=look.latency)
    if look.current > 0:
        panic = panicked(memory.panic, asked=look.burst, ready=look.ready, current=look.current, now=look.now)
        begun = memory.begun_at if memory.begun_at is not None else look.now
        memory = replace(memory, panic=panic, begun_at=begun, at_zero=False)
    else:
        memory = replace(memory, panic=type(memory.panic)(), begun_at=None)
    if look.active or memory.active_at is None or (look.active is None and look.current > 0):
        memory = replace(memory, active_at=look.now)
    return memory


def reversals(decisions: Sequence[Decision]) -> int:
    """Return how often the direction changed: what a burst should make no more than once."""
    steps = [each.wanted - each.current for each in decisions if each.changes]
    return sum(one * other < 0 for one, other in pairwise(steps))
