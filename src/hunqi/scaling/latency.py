"""Latency as a reason for more tasks. Pure.

Latency is not proportional to load: far below saturation more tasks change nothing, near it a few change everything,
and a slow database is not mended by any number. So p95 asks for more, by half at most, once for each time that what it
asked for has become ready; it stops after two raises that did not help, until it has been on target again; it never
asks for fewer, and while it is near its target it keeps others from going down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from hunqi.apps.scale_spec import Behavior
from hunqi.scaling.hpa import Proposal

MIN_REQUESTS: Final = 20
"""Fewer in the window say nothing of a 95th percentile."""
STEP: Final = 1.5
SETTLE_S: Final = 15.0
"""How long new tasks must have been ready before their effect is judged."""
HELPED: Final = 0.9
"""A raise helped if p95 fell below this part of what it was."""
IN_VAIN: Final = 2
NEAR: Final = 0.8
"""Above this part of the target nothing is scaled down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyMemory:
    """The last raise by latency: when, to how many, at what p95; and how many in a row were in vain."""

    raised_at: float = 0.0
    raised_to: int = 0
    at_ms: float = 0.0
    in_vain: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """p95 of the last window; None where there was none. ``settled_at`` is when the youngest task became ready."""

    p95_ms: float | None
    requests: int
    current: int
    ready: int
    settled_at: float


def by_latency(
    target_ms: float, seen: Latency, memory: LatencyMemory, rules: Behavior, *, now: float
) -> tuple[Proposal, LatencyMemory]:
    """Return what latency asks for, and the memory with it."""
    said = Proposal(measure="p95", replicas=None, target=target_ms, average=seen.p95_ms, counted=seen.requests)
    if seen.p95_ms is None or seen.requests < MIN_REQUESTS:
        return replace(said, sentence=f"{seen.requests} requests are too few to say"), memory
    ratio = seen.p95_ms / target_ms
    said = replace(said, ratio=ratio)
    if ratio <= 1.0 + rules.up.tolerance:
        memory = LatencyMemory()
        if ratio > NEAR:
            return replace(said, replicas=seen.current, sentence="near its target: nothing goes"), memory
        return replace(said, sentence="below its target: others say how many are enough"), memory
    if seen.ready < seen.current or now - seen.settled_at < SETTLE_S:
        return replace(
            said, replicas=seen.current, sentence="above its target; what was asked for settles first"
        ), memory
    if memory.raised_to and seen.current >= memory.raised_to and now - memory.raised_at >= SETTLE_S:
        helped = seen.p95_ms < memory.at_ms * HELPED
        memory = LatencyMemory(in_vain=0 if helped else memory.in_vain + 1)
    if memory.in_vain >= IN_VAIN:
        text = f"above its target, but {IN_VAIN} raises did not help: it is not for want of tasks"
        return replace(said, replicas=seen.current, sentence=text), memory
    if memory.raised_to > seen.current:
        return replace(said, replicas=memory.raised_to, sentence="above its target"), memory
    wanted = max(seen.current + 1, math.ceil(seen.current * min(ratio, STEP) - 1e-9))
    made = LatencyMemory(raised_at=now, raised_to=wanted, at_ms=seen.p95_ms, in_vain=memory.in_vain)
    return replace(said, replicas=wanted, sentence="above its target"), made
