"""The page of metrics says what the code exports: names, types, labels, kinds of requests and their outcomes."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from hunqi.kit.rpc import Session
from hunqi.mirror.process.metrics import Metrics, World
from hunqi.mirror.serve.accounts import Counters
from hunqi.mirror.serve.asking import Trace

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
SERVE = [path.read_text(encoding="utf-8") for path in ROOT.glob("src/hunqi/mirror/serve/*.py")]


def _world() -> World:
    """Return a world in which everything has a value, so that every metric has a sample with its labels."""
    hints = get_type_hints(World)
    values: dict[str, Any] = {one.name: _value(hints[one.name]) for one in fields(World)}
    return World(**values)


def _value(hint: Any) -> object:
    return {"upstream:docker.io": 1} if str(hint).startswith("dict[str") else hint(1)


def _exported() -> set[tuple[str, str, frozenset[str]]]:
    counters = Counters()
    counters.count(Trace(), status=200, length=1, seconds=0.1)
    metrics = Metrics(_world)
    metrics.take(object.__new__(Session), counters.report())
    families = list(text_string_to_metric_families(metrics.text()))
    assert [family.name for family in families if not family.samples] == []
    return {
        (family.name, family.type, frozenset({label for one in family.samples for label in one.labels} - {"le"}))
        for family in families
    }


def _documented() -> set[tuple[str, str, frozenset[str]]]:
    rows = re.findall(r"^\| `(hunqi_\w+)` \| (\w+) \| ([^|]*) ?\| .+ \|$", PAGE, re.MULTILINE)
    return {(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def _words_of(section: str) -> set[str]:
    body = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", body, re.MULTILINE))


def _assigned(attribute: str) -> set[str]:
    """Return the texts that the endpoints give to an attribute of the trace."""
    lines = re.findall(rf"trace\.{attribute} = (.+)", "\n".join(SERVE))
    return {word for line in lines for word in re.findall(r'"([^"]+)"', line)}


def test_every_metric_stands_on_the_page_and_every_one_of_the_page_is_exported() -> None:
    assert _documented() == _exported()


def test_metrics_named_in_expressions_are_exported() -> None:
    names = {name for name, _, _ in _exported()}

    used = {re.sub(r"_(total|bucket|sum|count)$", "", word) for word in re.findall(r"hunqi_mirror_\w+", PAGE)}

    assert used - names == set()


def test_every_kind_of_request_stands_on_the_page() -> None:
    assert _words_of("Kinds") == _assigned("kind") | {Trace().kind}


def test_every_outcome_stands_on_the_page() -> None:
    assert _words_of("Outcomes") == _assigned("outcome") | {Trace().outcome, "hit"}
