"""``x-hunqi.rollout`` of the file: how traffic moves to a new revision."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable
from typing import Final

from hunqi.apps.compose import fields
from hunqi.apps.compose.fields import Field
from hunqi.apps.compose.measures import measures_of
from hunqi.apps.compose.quantities import hundredths
from hunqi.apps.compose.report import show, suggest
from hunqi.apps.compose.section import Section
from hunqi.apps.compose.section import duration_ns as parse_duration_ns
from hunqi.apps.compose.tree import Node
from hunqi.apps.compose.xhunqi import check_fields, matches, networks, seconds
from hunqi.apps.lanes import ALL_USERS, KeyKind, LaneKey, LaneMatch
from hunqi.apps.rollout_spec import MeasureKind, RolloutSpec, Step, StepKind, Strategy

MAX_STEPS: Final = 50
_NANO: Final = 10**9
_SPEC: Final = RolloutSpec()
_WORDS: Final = tuple(kind.value for kind in StepKind)
_STRATEGIES: Final = tuple(strategy.value for strategy in Strategy)
_ALONE: Final = (StepKind.PAUSE, StepKind.ANALYSIS, StepKind.APPROVE)
_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ANALYSIS: Final = (
    Field(name="measures", kind=fields.Kind.TEXTS, text="Names of measures; all without it."),
    Field(name="for", kind=fields.Kind.DURATION, text="How long."),
)
_RUN: Final = (
    Field(name="service", kind=fields.Kind.TEXT, text="the service whose image is run", required=True),
    Field(name="command", kind=fields.Kind.TEXTS, text="what is run; a text is split as a shell would"),
    Field(name="timeout", kind=fields.Kind.DURATION, text="how long it may take"),
)


def rollout_of(top: Section, services: Collection[str]) -> RolloutSpec | None:
    """Return what ``x-hunqi`` at the top of the file says of rollouts, None if nothing; faults go to the report."""
    node = top.get("rollout")
    if node is None:
        return None
    if node.mapping is None:
        strategy = top.choice("rollout", _STRATEGIES)
        return RolloutSpec(strategy=Strategy(strategy)) if strategy is not None else None
    section = top.section("rollout")
    found = RolloutSpec(
        strategy=Strategy(section.choice("strategy", _STRATEGIES) or _SPEC.strategy),
        measures=measures_of(section, services),
        key=_key(section),
        interval_s=seconds(section, "interval", _SPEC.interval_s),
        keep_s=seconds(section, "keep", _SPEC.keep_s),
        undo_window=_or(section.integer("undo_window", high=100), _SPEC.undo_window),
    )
    if not 1.0 <= found.interval_s <= 3600.0:
        section.problem("interval", "it is from 1s to 1h")
    reader = _Reader(section, services, {each.name for each in found.measures})
    return RolloutSpec(
        strategy=found.strategy,
        steps=reader.steps(found.strategy),
        measures=found.measures,
        key=found.key,
        interval_s=found.interval_s,
        keep_s=found.keep_s,
        undo_window=found.undo_window,
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _key(section: Section) -> LaneKey:
    if "key" not in section:
        return _SPEC.key
    inner = section.section("key")
    given = [kind for kind in KeyKind if kind.value in inner]
    if len(given) != 1:
        section.problem("key", "one of cookie and header is expected")
        return _SPEC.key
    name = inner.text(given[0].value) or ""
    if not _KEY.fullmatch(name):
        inner.problem(given[0].value, f"{show(name)} is no name of a {given[0].value}: letters, digits, - _ and .")
        return _SPEC.key
    return LaneKey(kind=given[0], name=name.lower() if given[0] is KeyKind.HEADER else name)


class _Reader:
    """Reads the steps of one rollout."""

    def __init__(self, section: Section, services: Collection[str], measures: Collection[str]) -> None:
        self._section = section
        self._services = services
        self._measures = measures or {kind.value for kind in MeasureKind}

    def steps(self, strategy: Strategy) -> tuple[Step, ...]:
        """Return the steps; those that cannot be read are left out, their faults in the report."""
        node = self._section.get("steps")
        if node is None:
            return ()
        if node.sequence is None:
            if node.mapping is None:
                self._section.problem("steps", "a list is expected: - weight: 5")
            return ()
        if len(node.sequence) > MAX_STEPS:
            self._section.problem("steps", f"there are at most {MAX_STEPS} steps")
        found = [(item, self._step(item, index)) for index, item in enumerate(node.sequence[:MAX_STEPS])]
        self._check(strategy, found)
        return tuple(step for _, step in found if step is not None)

    def _check(self, strategy: Strategy, found: Iterable[tuple[Node, Step | None]]) -> None:
        before = 0
        for index, (item, step) in enumerate(found):
            at = f"{self._section.below('steps')}[{index}]"
            if strategy is Strategy.DIRECT:
                self._section.report.problem(item, at, "direct has no steps: write strategy gray, or leave them out")
            if step is None or step.kind is not StepKind.WEIGHT:
                continue
            if strategy is Strategy.BLUE_GREEN:
                self._section.report.problem(
                    item, at, "blue-green moves all users at once, after these steps: write strategy gray for weights"
                )
            elif step.weight <= before:
                self._section.report.problem(
                    item, at, f"weights only rise: {step.weight / 100:g} % comes after {before / 100:g} %"
                )
            before = max(before, step.weight)

    def _step(self, item: Node, index: int) -> Step | None:
        at = f"{self._section.below('steps')}[{index}]"
        if (word := item.text) is not None:
            if word in {kind.value for kind in _ALONE}:
                return Step(kind=StepKind(word))
            hint = f"{word} needs a value" if word in _WORDS else f"{show(word)} is no step{suggest(word, _WORDS)}"
            self._section.report.problem(item, at, f"{hint}; steps are {', '.join(_WORDS)}")
            return None
        section = Section(item, at, self._section.report)
        known = [name for name in section.entries if name in _WORDS]
        for name in section.entries:
            if name not in _WORDS:
                section.problem(name, f"{show(name)} is no step{suggest(name, _WORDS)}")
        if len(known) != 1 or len(section.entries) != 1:
            if len(known) > 1 or not section.entries:
                section.report.problem(item, at, "a step does one thing: write each as an entry of its own")
            return None
        return self._read(section, StepKind(known[0]))

    def _read(self, section: Section, kind: StepKind) -> Step | None:
        match kind:
            case StepKind.WEIGHT:
                return self._weight(section)
            case StepKind.MIRROR:
                share = hundredths(section, "mirror")
                return None if share is None else Step(kind=kind, mirror=share)
            case StepKind.PAUSE:
                return Step(kind=kind, for_s=_seconds(section, kind.value))
            case StepKind.MATCH:
                return Step(kind=kind, matches=self._matches(section))
            case StepKind.SCALE:
                return self._scale(section)
            case StepKind.ANALYSIS:
                return self._analysis(section)
            case StepKind.APPROVE:
                if section.get("approve") is not None:
                    section.problem("approve", "it has no value: write - approve")
                return Step(kind=kind)
            case StepKind.RUN:
                return self._run(section)

    def _weight(self, section: Section) -> Step | None:
        share = hundredths(section, "weight")
        if share == 0:
            section.problem("weight", "a weight is above 0: the new revision begins with none")
        return Step(kind=StepKind.WEIGHT, weight=share) if share else None

    def _matches(self, section: Section) -> tuple[LaneMatch, ...]:
        node = section.get("match")
        if node is None or node.mapping is not None:
            inner = section.section("match")
            return () if not inner.entries else (_match(inner),)
        if node.sequence is None:
            section.problem("match", 'conditions are expected: {headers: {x-beta: "1"}}')
        return tuple(_match(each) for each in section.items("match"))

    def _scale(self, section: Section) -> Step | None:
        node = section.get("scale")
        if node is None or node.mapping is None:
            share = hundredths(section, "scale")
            if share is None or share % 100 or share == 0:
                section.problem("scale", "whole percent above 0, or a mapping of services: {web: 3}")
                return None
            return Step(kind=StepKind.SCALE, percent=share // 100)
        inner = section.section("scale")
        self._known(inner, inner.entries)
        counts = {name: inner.integer(name, low=1, high=10_000) for name in inner.entries}
        return Step(kind=StepKind.SCALE, replicas={name: count for name, count in counts.items() if count is not None})

    def _analysis(self, section: Section) -> Step:
        node = section.get("analysis")
        if node is None or node.mapping is None:
            return Step(kind=StepKind.ANALYSIS, for_s=_seconds(section, "analysis"))
        inner = section.section("analysis")
        check_fields(inner, _ANALYSIS)
        names = inner.texts("measures")
        for name in names:
            if name not in self._measures:
                known = ", ".join(sorted(self._measures))
                inner.problem("measures", f"there is no measure {show(name)}{suggest(name, self._measures)}: {known}")
        return Step(kind=StepKind.ANALYSIS, measures=names, for_s=_seconds(inner, "for"))

    def _run(self, section: Section) -> Step:
        inner = section.section("run")
        check_fields(inner, _RUN)
        service = inner.text("service") or ""
        if service:
            self._known(inner, (service,), key="service")
        node = inner.get("command")
        command = inner.texts("command")
        if node is not None and node.text is not None:
            try:
                command = tuple(shlex.split(node.text))
            except ValueError as error:
                inner.problem("command", f"{show(node.text)} cannot be split into words: {error}")
        return Step(kind=StepKind.RUN, service=service, command=command, for_s=_seconds(inner, "timeout"))

    def _known(self, section: Section, names: Iterable[str], *, key: str | None = None) -> None:
        for name in names:
            if name not in self._services:
                section.problem(key or name, f"there is no service {show(name)}{suggest(name, self._services)}")


def _match(section: Section) -> LaneMatch:
    check_fields(section, fields.LANE_MATCH)
    users = hundredths(section, "users") if "users" in section else ALL_USERS
    found = LaneMatch(
        headers=matches(section, "headers", "header"),
        cookies=matches(section, "cookies", "cookie"),
        query=matches(section, "query", "parameter"),
        sources=networks(section, "source"),
        users=ALL_USERS if users is None else users,
    )
    if found == LaneMatch():
        section.report.problem(section.node, section.path, "it has no condition, and would match every request")
    return found


def _seconds(section: Section, key: str) -> float | None:
    node = section.get(key)
    if node is None:
        return None
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        section.problem(key, f"a duration has a unit: write {node.value}s")
        return None
    text = section.text(key)
    found = None if text is None else parse_duration_ns(text)
    if text is not None and (found is None or found == 0):
        section.problem(key, f"{show(text)} is no duration above 0; write 30s or 5m")
    return found / _NANO if found else None
