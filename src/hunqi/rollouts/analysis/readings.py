"""Measures that give one number at a time: what a reading says, and the limits on how many may be bad.

No chance is reckoned here: a reading passes or fails, and how many may fail is the file's to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hunqi.apps.rollout_spec import MeasureSpec
from hunqi.rollouts.analysis.model import Finding, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One measurement. ``facts`` begins its sentence; ``failed`` says what is wrong, and is empty if nothing is."""

    facts: str
    failed: str = ""
    unclear: str = ""
    """Why it neither passes nor fails."""
    waiting: str = ""
    """Why it does not count yet."""
    error: str = ""
    """Why there is none."""
    new: float | None = None
    old: float | None = None
    samples_new: int = 0
    samples_old: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What is remembered of earlier readings of a measure."""

    at: float = -math.inf
    """When it was last read."""
    failures: int = 0
    errors: int = 0
    """In a row."""
    inconclusive: int = 0
    """In a row."""
    reason: str = ""
    outcome: Outcome = Outcome.WAITING
    sentence: str = ""

    def kept(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "at": None if math.isinf(self.at) else self.at,
            "counts": [self.failures, self.errors, self.inconclusive],
            "reason": self.reason,
            "outcome": self.outcome.value,
            "sentence": self.sentence,
        }

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Series:
        """Return what ``kept`` gave; an empty one is that before the first reading."""
        if not kept:
            return cls()
        failures, errors, inconclusive = kept["counts"]
        return cls(
            at=-math.inf if kept["at"] is None else float(kept["at"]),
            failures=int(failures),
            errors=int(errors),
            inconclusive=int(inconclusive),
            reason=str(kept["reason"]),
            outcome=Outcome(kept["outcome"]),
            sentence=str(kept["sentence"]),
        )

    def after(self, reading: Reading, spec: MeasureSpec, *, at: float) -> Series:
        """Return it after ``reading``, with the outcome that this comes to by the limits of ``spec``."""
        if self.failures > spec.failure_limit:
            return replace(self, at=at)
        if reading.error:
            return self._without(reading, spec, at=at)
        known = replace(self, at=at, errors=0)
        if reading.waiting:
            return replace(known, outcome=Outcome.WAITING, sentence=f"{reading.facts}: {reading.waiting}")
        if reading.failed:
            return known.failing(f"{reading.facts}: {reading.failed}", spec)
        if reading.unclear:
            return replace(
                known,
                inconclusive=self.inconclusive + 1,
                outcome=Outcome.INCONCLUSIVE,
                sentence=f"{reading.facts}: {reading.unclear}",
            )
        return replace(known, inconclusive=0, outcome=Outcome.SUCCESS, sentence=reading.facts)

    def failing(self, sentence: str, spec: MeasureSpec) -> Series:
        """Return it with a failure more, which its limit tolerates or does not."""
        failures = self.failures + 1
        condemned = failures > spec.failure_limit
        return replace(
            self,
            failures=failures,
            inconclusive=self.inconclusive + 1,
            reason=sentence,
            outcome=Outcome.FAILURE if condemned else Outcome.INCONCLUSIVE,
            sentence=sentence if condemned else f"{sentence} (failure {failures} of {spec.failure_limit} tolerated)",
        )

    def _without(self, reading: Reading, spec: MeasureSpec, *, at: float) -> Series:
        errors = self.errors + 1
        many = errors > spec.error_limit
        return replace(
            self,
            at=at,
            errors=errors,
            outcome=Outcome.ERROR if many else Outcome.WAITING,
            sentence=f"{reading.facts}: {reading.error} (error {errors} in a row, {spec.error_limit} are tolerated)",
        )

    def finding(self, spec: MeasureSpec, service: str, reading: Reading | None = None) -> Finding:
        """Return what it says; ``reading`` is the last one, if it was just made."""
        numbers = {
            "failures": float(self.failures),
            "errors": float(self.errors),
            "inconclusive": float(self.inconclusive),
        }
        if reading is not None:
            values = {"new": reading.new, "old": reading.old}
            numbers |= {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
        return Finding(
            measure=spec.name,
            service=service,
            outcome=self.outcome,
            sentence=self.sentence,
            numbers=numbers,
            samples_new=0 if reading is None else reading.samples_new,
            samples_old=0 if reading is None else reading.samples_old,
        )


def assessed(spec: MeasureSpec, facts: str, new: float | None, old: float | None) -> Reading:
    """Return the reading of a value by the thresholds of ``spec`` and by comparison with ``old``.

    More is worse, unless ``spec`` has only a lower threshold. What is not a number is an error.
    """
    if new is None or not math.isfinite(new):
        return Reading(facts=facts, error="there is no value" if new is None else "the value is not a number")
    failed = _broken(spec, new) or _worse(spec, new, old)
    judged = spec.at_least is not None or spec.at_most is not None or (spec.compare and _comparable(old))
    unclear = "" if judged else "nothing is asked of it, and there is nothing to compare it with"
    return Reading(facts=facts, failed=failed, unclear=unclear, new=new, old=old, samples_new=1)


def _broken(spec: MeasureSpec, new: float) -> str:
    if spec.at_least is not None and new < spec.at_least:
        return f"less than the {spec.at_least:g} that are asked"
    if spec.at_most is not None and new > spec.at_most:
        return f"more than the {spec.at_most:g} that are allowed"
    return ""


def _comparable(old: float | None) -> bool:
    return old is not None and math.isfinite(old)


def _worse(spec: MeasureSpec, new: float, old: float | None) -> str:
    if not spec.compare or old is None or not math.isfinite(old):
        return ""
    margin = abs(old) * spec.tolerance
    less_is_worse = spec.at_least is not None and spec.at_most is None
    worse = new < old - margin if less_is_worse else new > old + margin
    return f"worse than the old revision's by more than {spec.tolerance * 100:g} %" if worse else ""
