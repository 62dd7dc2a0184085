"""What a look at a rollout's measures comes to, as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Memory = Mapping[str, Any]
"""What the analysis knows from earlier looks, as JSON: bounded, to be persisted by the caller and handed back as it is.

An empty one begins anew. It belongs to one deploy: another target or another stable revision begins with an empty one.
"""


class Outcome(StrEnum):
    """What a measure says of the new revision so far; limits of its ``MeasureSpec`` are applied already."""

    SUCCESS = "success"
    """Enough was seen and nothing speaks against it."""
    FAILURE = "failure"
    """Condemned: the rollout is to be aborted, whenever this is seen."""
    INCONCLUSIVE = "inconclusive"
    """Enough was seen to acquit it, and something speaks against it that does not suffice to condemn.

    Nothing follows from it until a step ends; a step does not end well with it.
    """
    ERROR = "error"
    """Its source failed more often in a row than is tolerated."""
    WAITING = "waiting"
    """Not enough was seen yet, or its initial delay is not over; a tolerated error of its source is one of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one measure says of one service. ``sentence`` is for people, ``numbers`` is what it rests on.

    Numbers, where they apply: ``new`` and ``old`` (the value in both, of the success rate the share that failed),
    ``evidence`` (0 at the start, condemns at 1), ``failures``, ``errors`` and ``inconclusive`` (in a row).
    """

    measure: str
    service: str
    outcome: Outcome
    sentence: str
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])
    samples_new: int = 0
    samples_old: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A look: a finding for each measure and service, and what is to be handed to the next look."""

    findings: Sequence[Finding]
    memory: Memory


_BY_GRAVITY = (Outcome.FAILURE, Outcome.ERROR, Outcome.INCONCLUSIVE, Outcome.WAITING)


def overall(findings: Iterable[Finding]) -> Outcome:
    """Return the gravest of ``findings``: failure, error, inconclusive, waiting, success, which it is without any."""
    seen = {finding.outcome for finding in findings}
    return next((outcome for outcome in _BY_GRAVITY if outcome in seen), Outcome.SUCCESS)


def concluded(findings: Iterable[Finding]) -> Outcome:
    """Return the same for the end of a step, where whoever still waits has seen too little: that is inconclusive."""
    outcome = overall(findings)
    return Outcome.INCONCLUSIVE if outcome is Outcome.WAITING else outcome
