"""``x-hunqi.rollout.measures``: what a rollout is judged by."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from hunqi.apps.compose.quantities import part, threshold
from hunqi.apps.compose.report import show, suggest
from hunqi.apps.compose.section import Section
from hunqi.apps.compose.xhunqi import seconds
from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec

MAX_MEASURES: Final = 50
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PATH = re.compile(r"/[\x21-\x7e]{0,1023}")
_ASKED: Final = (MeasureKind.PROMQL, MeasureKind.METRIC, MeasureKind.HTTP)
"""Kinds that are told what to look at."""
_ALONE: Final = frozenset({MeasureKind.PROMQL, MeasureKind.HTTP})
"""Kinds that know nothing of the old revision."""
_BUILT_IN: Final = {kind.value: kind for kind in MeasureKind if kind not in _ASKED}
_MEASURE: Final = MeasureSpec(name="", kind=MeasureKind.SUCCESS_RATE)


def measures_of(rollout: Section, services: Collection[str]) -> tuple[MeasureSpec, ...]:
    """Return the measures by name, in the order of the file; those that cannot be read are left out."""
    inner = rollout.section("measures")
    if len(inner.entries) > MAX_MEASURES:
        rollout.problem("measures", f"there are at most {MAX_MEASURES} measures")
    found = [_measure(inner, name, services) for name in list(inner.entries)[:MAX_MEASURES]]
    return tuple(each for each in found if each is not None)


def _measure(inner: Section, name: str, services: Collection[str]) -> MeasureSpec | None:
    if not _NAME.fullmatch(name):
        inner.problem(name, f"{show(name)} is no name: letters, digits and inner . - _, 63 at most")
        return None
    node = inner.entries[name]
    section = inner.section(name) if node.mapping is not None else Section(node.at({}), inner.below(name), inner.report)
    asked = [kind for kind in _ASKED if kind.value in section]
    kind, query = _BUILT_IN.get(name), ""
    if name in {each.value for each in _ASKED} and node.mapping is None:
        kind, query = MeasureKind(name), inner.text(name) or ""
    elif kind is None and len(asked) == 1:
        kind, query = asked[0], section.text(asked[0].value) or ""
    elif kind is not None and asked:
        section.problem(asked[0].value, f"{name} is measured already: give the measure another name")
    elif kind is not None and node.mapping is None and not node.null:
        inner.problem(name, f"a mapping is expected: {name}: {{at_least: …}}, or nothing after the colon")
    if kind is None:
        known = ", ".join(_BUILT_IN)
        inner.problem(name, f"a measure is one of {known}{suggest(name, _BUILT_IN)}, or has promql, metric or http")
        return None
    spec = _spec(section, name, kind, query)
    _check(section, spec, services)
    return spec


def _spec(section: Section, name: str, kind: MeasureKind, query: str) -> MeasureSpec:
    compare = section.boolean("compare")
    interval = section.duration_ns("interval")
    return MeasureSpec(
        name=name,
        kind=kind,
        services=section.texts("services"),
        query=query,
        source=section.text("source") or "",
        at_least=threshold(section, "at_least", kind),
        at_most=threshold(section, "at_most", kind),
        compare=kind not in _ALONE if compare is None else compare,
        tolerance=part(section, "tolerance", _MEASURE.tolerance, most=1000.0),
        confidence=part(section, "confidence", _MEASURE.confidence),
        min_samples=section.integer("min_samples", low=1, high=10**9) or _MEASURE.min_samples,
        interval_s=None if interval is None else interval / 10**9,
        initial_delay_s=seconds(section, "delay", _MEASURE.initial_delay_s),
        failure_limit=section.integer("failures", high=1000) or 0,
        inconclusive_limit=_or(section.integer("inconclusive", high=1000), _MEASURE.inconclusive_limit),
        error_limit=_or(section.integer("errors", high=1000), _MEASURE.error_limit),
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _check(section: Section, spec: MeasureSpec, services: Collection[str]) -> None:
    for name in spec.services:
        if name not in services:
            section.problem("services", f"there is no service {show(name)}{suggest(name, services)}")
    if spec.kind is MeasureKind.HTTP and not _PATH.fullmatch(spec.query):
        section.problem("http", f"{show(spec.query)} is no path; it begins with /")
    if spec.kind in _ASKED and not spec.query:
        section.problem(spec.kind.value, "it is empty")
    if spec.kind is MeasureKind.PROMQL and not spec.source:
        section.problem("source", "say which server answers: source: NAME, one of those of hunqi metrics source")
    if spec.compare and spec.kind in _ALONE:
        section.problem("compare", f"{spec.kind} cannot be compared with the old revision")
    if spec.at_least is None and spec.at_most is None and not spec.compare and spec.kind is not MeasureKind.HTTP:
        section.problem("compare", "nothing would ever fail it: give at_least or at_most, or compare with the old one")
    if spec.at_least is not None and spec.at_most is not None and spec.at_least > spec.at_most:
        section.problem("at_least", "it is above at_most")
    if not 0.5 <= spec.confidence < 1:
        section.problem("confidence", "it is from 50% to below 100%")
