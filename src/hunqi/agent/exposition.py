"""What an app tells in the text formats of Prometheus (0.0.4) and OpenMetrics (1.0), as values. Pure.

Of both only what is needed: samples, and whether they are counters; of those that nobody asked for not even that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate
from typing import Final

LABELS_CHARACTERS: Final = 512
"""Samples with longer labels are left out."""
_SAMPLE: Final = re.compile(r'([A-Za-z_:][\w:]*)(?:\{((?:[^"{}]|"(?:[^"\\]|\\.)*")*)\})?[ \t]+(\S+)')
_TYPE: Final = re.compile(r"#[ \t]+TYPE[ \t]+(\S+)[ \t]+(\w+)")
_SUFFIX: Final = re.compile(r"_(?:total|bucket|count|sum|created|gcount|gsum|info)$")
_GROWING: Final = {
    "counter": frozenset({"", "_total"}),
    "histogram": frozenset({"_bucket", "_count", "_sum"}),
    "summary": frozenset({"_count", "_sum"}),
}
"""Kind of metric → the suffixes of those of its samples that only grow."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A value; ``labels`` as they were written, without the braces."""

    metric: str
    labels: str
    value: float
    grows: bool


@dataclass(frozen=True, slots=True)
class Exposition:
    """What was read: the samples, how many more there were than asked for, and how many lines were none."""

    samples: tuple[Sample, ...]
    left_out: int = 0
    unreadable: int = 0


def name_filter(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Return what says whether a metric's name fits one of ``patterns`` (``jobs_*``); all do without any."""
    if not patterns:
        return lambda _name: True
    fits = re.compile("|".join(translate(each) for each in patterns)).match
    return lambda name: fits(name) is not None


def parse_exposition(text: str, wanted: Callable[[str], bool], *, most: int) -> Exposition:
    """Return the finite samples of ``text`` whose metric is ``wanted``, at most so many, in their order."""
    kinds: dict[str, str] = {}
    samples: list[Sample] = []
    left_out = unreadable = 0
    for line in text.splitlines():
        if not line or line.isspace():
            continue
        if line[0] == "#":
            if found := _TYPE.match(line):
                kinds[found[1]] = found[2]
            continue
        found = _SAMPLE.match(line)
        value = _number(found[3]) if found else None
        if found is None or value is None:
            unreadable += 1
            continue
        name, labels = found[1], (found[2] or "").strip().removesuffix(",")
        suffix = tail[0] if (tail := _SUFFIX.search(name)) else ""
        family = name.removesuffix(suffix)
        if suffix == "_created" or not math.isfinite(value) or not (wanted(name) or wanted(family)):
            continue
        if len(samples) >= most or len(labels) > LABELS_CHARACTERS:
            left_out += 1
            continue
        samples.append(Sample(name, labels, value, _grows(name, family, suffix, kinds)))
    return Exposition(tuple(samples), left_out, unreadable)


def _grows(name: str, family: str, suffix: str, kinds: dict[str, str]) -> bool:
    if kind := kinds.get(name):
        return kind == "counter"
    if kind := kinds.get(family):
        return suffix in _GROWING.get(kind, ())
    return suffix == "_total"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
