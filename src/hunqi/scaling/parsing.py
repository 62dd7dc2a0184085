"""What a user sets by the interface: the fields of ``x-hunqi.scale``, read by the same reader as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from hunqi.apps.compose import fields
from hunqi.apps.compose.project import InvalidError
from hunqi.apps.compose.report import Report
from hunqi.apps.compose.scale import scaled
from hunqi.apps.compose.section import Section
from hunqi.apps.compose.tree import Node, Value
from hunqi.apps.compose.xhunqi import hunqi_of
from hunqi.apps.model import AppSpec
from hunqi.apps.scale_spec import ScaleSpec
from hunqi.scaling.errors import AutoscaleError

_FILE = "request"
_MOST_DEPTH = 8


def scale_of(given: Mapping[str, Any], app: AppSpec, service: str) -> ScaleSpec:
    """Return the spec that ``given`` is for a service of ``app``. Raises ``AutoscaleError``."""
    report = Report()
    node = _node({"x-hunqi": {"scale": dict(given)}})
    own = hunqi_of(Section(node, "", report), fields.SERVICE)
    made = scaled(replace(app.services[service], scale=None), own, app.volumes)
    try:
        report.checkpoint(end=True)
    except InvalidError as error:
        raise AutoscaleError(
            service, tuple(f"{_short(each.path)}: {each.instead}" for each in error.problems)
        ) from error
    if made.scale is None:
        raise AutoscaleError(service, ("nothing is said of how",))
    return made.scale


def _short(path: str) -> str:
    return path.removeprefix("x-hunqi.").removeprefix("scale.")


def _node(value: Any, depth: int = 0) -> Node:
    held: Value = None
    if depth <= _MOST_DEPTH:
        match value:
            case dict():
                entries = cast("dict[str, Any]", value)  # JSON
                held = {key[:200]: _node(each, depth + 1) for key, each in entries.items()}
            case list() | tuple():
                held = tuple(_node(each, depth + 1) for each in cast("list[Any]", value))
            case str() | bool() | int() | float() | None:
                held = value
            case _:
                held = str(value)
    return Node(value=held, file=_FILE, line=1)
