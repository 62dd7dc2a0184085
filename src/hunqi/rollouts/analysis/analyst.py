"""A look at every measure of a rollout: what is new is gathered, judged, and what must be known next time kept.

Looks may be as often or as seldom as one likes, and end between any two: an interval is counted once, when it is whole
and every gateway was heard, and a source that is down is an error, never an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hunqi.apps.model import Revision
from hunqi.apps.rollout_spec import MeasureSpec
from hunqi.apps.shifting import Shifting
from hunqi.errors import DependencyError, UserError
from hunqi.rollouts.analysis.cases import OF_REQUESTS, cases_of
from hunqi.rollouts.analysis.gathering import Moment, Sources, new_windows, past_windows, read
from hunqi.rollouts.analysis.model import Finding, Looked, Memory
from hunqi.rollouts.analysis.readings import Reading, Series
from hunqi.rollouts.analysis.requests import Case, judge, remember
from hunqi.rollouts.analysis.trial import Trial
from hunqi.telemetry.errors import NotMeasuredError

INTERVAL_S: Final = 5.0
"""Between looks, where neither measure nor rollout says."""
_DEADLINE_S: Final = 10.0
_STALE_S: Final = 15.0
"""So late, or three intervals, may what was measured be; then its source counts as down."""
_WHOLE: Final = 0.9
"""A look that is early by less than the rest of an interval is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    finding: Finding
    kept: Mapping[str, Any]


class Analyst:
    """Looks at rollouts; holds nothing between looks."""

    def __init__(self, sources: Sources) -> None:
        """Look by ``sources``."""
        self._sources = sources

    async def look(
        self, shifting: Shifting, specs: Sequence[MeasureSpec], memory: Memory, *, since: float, now: float
    ) -> Looked:
        """Return what ``specs`` say of the new revision of ``shifting``, and the memory for the next look.

        ``since`` is when the new revision got its first request of this rollout, and stays the same for all looks;
        ``now`` is the time of the caller's clock (seconds since the epoch). ``memory`` is what the look before gave, or
        empty. ``specs`` are all measures of the rollout at every look, for they share its chance of a false abort.
        Errors of sources are findings; it waits for them ten seconds at most.
        """
        of = f"{shifting.deploy}:{shifting.target.number}:{shifting.stable.number}"
        known: Mapping[str, Any] = memory.get("measures", {}) if memory.get("of") == of else {}
        cases = cases_of(self._sources.telemetry, shifting, specs, since=since, now=now)
        judged: dict[str, _Judged] = {}

        async def one(case: Case) -> None:
            key = f"{case.spec.name}/{case.service}"
            judged[key] = await self._one(shifting, case, known.get(key, {}), since=since, now=now)

        async with asyncio.TaskGroup() as group:
            for case in cases:
                group.create_task(one(case))
        found = [judged[f"{case.spec.name}/{case.service}"] for case in cases]
        kept = {key: each.kept for key, each in judged.items()}
        return Looked(findings=tuple(each.finding for each in found), memory={"of": of, "measures": {**known, **kept}})

    async def _one(
        self, shifting: Shifting, case: Case, kept: Mapping[str, Any], *, since: float, now: float
    ) -> _Judged:
        moment = Moment(app=shifting.app, since=since, now=now, interval_s=_interval_s(shifting, case.spec))
        if case.spec.kind in OF_REQUESTS:
            return self._requests(case, kept, moment)
        return await self._reading(shifting, case, kept, moment)

    def _requests(self, case: Case, kept: Mapping[str, Any], moment: Moment) -> _Judged:
        series = Series.of(kept.get("series", {}))
        known = kept.get("trial")
        telemetry = self._sources.telemetry
        trial = Trial.of(known) if known else None
        if trial is None:
            trial = remember(case, Trial(), past_windows(telemetry, case, moment))
        if trial.failures > case.spec.failure_limit:
            return _Judged(finding=judge(case, trial, [], since=moment.since)[1], kept={"trial": trial.kept()})
        try:
            start = max(trial.until, moment.since)
            found = new_windows(telemetry, case, moment, start=start)
            late_s = moment.now - max(telemetry.measured_until(moment.app), moment.since)
        except NotMeasuredError as error:
            return self._unmeasured(case, trial, series, moment, str(error))
        if late_s > max(_STALE_S, 3 * moment.interval_s):
            return self._unmeasured(case, trial, series, moment, f"nothing was measured for {late_s:.0f} s")
        trial, finding = judge(case, trial, found, since=moment.since)
        return _Judged(finding=finding, kept={"trial": trial.kept()})

    def _unmeasured(self, case: Case, trial: Trial, series: Series, moment: Moment, why: str) -> _Judged:
        kept: dict[str, Any] = {"trial": trial.kept(), "series": series.kept()}
        if moment.now - series.at < _WHOLE * moment.interval_s:
            return _Judged(finding=series.finding(case.spec, case.service), kept=kept)
        reading = Reading(facts=f"{case.service}: {case.spec.name}", error=why)
        series = series.after(reading, case.spec, at=moment.now)
        return _Judged(finding=series.finding(case.spec, case.service), kept={**kept, "series": series.kept()})

    async def _reading(self, shifting: Shifting, case: Case, kept: Mapping[str, Any], moment: Moment) -> _Judged:
        series = Series.of(kept.get("series", {}))
        spec, reading = case.spec, None
        delay_s = moment.since + spec.initial_delay_s - moment.now
        if delay_s > 0:
            waiting = Reading(facts=_name(case), waiting=f"looked at for the first time in {delay_s:.0f} s")
            return _Judged(finding=Series().after(waiting, spec, at=moment.now).finding(spec, case.service), kept={})
        if moment.now - series.at >= _WHOLE * moment.interval_s:
            reading = await self._read(shifting, case, moment)
            series = series.after(reading, spec, at=moment.now)
        return _Judged(finding=series.finding(spec, case.service, reading), kept={"series": series.kept()})

    async def _read(self, shifting: Shifting, case: Case, moment: Moment) -> Reading:
        tasks = (
            shifting.shift.replicas.get(case.service, _replicas(shifting.target, case.service)),
            _replicas(shifting.stable, case.service),
        )
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await read(self._sources, case, moment, tasks)
        except TimeoutError:
            return Reading(facts=_name(case), error=f"no answer within {_DEADLINE_S:.0f} s")
        except (DependencyError, UserError) as error:
            return Reading(facts=_name(case), error=str(error) or error.code)


def _name(case: Case) -> str:
    return f"{case.service}: {case.spec.name}" if case.service else case.spec.name


def _interval_s(shifting: Shifting, spec: MeasureSpec) -> float:
    rollout = shifting.target.spec.rollout
    return spec.interval_s or (rollout.interval_s if rollout is not None else INTERVAL_S)


def _replicas(revision: Revision, service: str) -> int:
    spec = revision.spec.services.get(service)
    return 0 if spec is None else spec.replicas
