"""``x-hunqi.scale``: bounds and targets of a service, read and checked against what the service is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Final

from hunqi.apps.compose.report import show
from hunqi.apps.compose.section import Section, size_bytes
from hunqi.apps.compose.xhunqi import seconds
from hunqi.apps.model import ServiceSpec, VolumeSpec
from hunqi.apps.scale_faults import scale_faults
from hunqi.apps.scale_spec import (
    DEFAULT_DOWN,
    DEFAULT_UP,
    MOST,
    Behavior,
    Policy,
    PolicyKind,
    Queue,
    Rules,
    ScaleSpec,
    Select,
    Slot,
    Target,
    Zero,
    zero_allowed,
)

_ZERO: Final = Zero()


def scaled(spec: ServiceSpec, own: Section, volumes: Mapping[str, VolumeSpec]) -> ServiceSpec:
    """Return the service with the scaling that ``own`` (its ``x-hunqi``) says; problems go to the report."""
    if "scale" not in own:
        return spec
    section = own.section("scale")
    scale = ScaleSpec(
        min=_whole(section, "min", 0, 1),
        max=_whole(section, "max", 1, 1),
        cpu=_target(section, "cpu"),
        memory=_target(section, "memory"),
        rps=_number(section, "rps"),
        concurrency=_number(section, "concurrency"),
        p95_ms=_number(section, "p95_ms"),
        queue=_queue(section),
        schedule=tuple(_slot(item) for item in section.items("schedule")),
        behavior=_behavior(section.section("behavior")),
        zero=_zero(section),
        predict=section.boolean("predict") or False,
    )
    for field, text in scale_faults(scale, spec, volumes):
        head = field.partition(".")[0]
        if head:
            section.problem(head, text)
        else:
            own.problem("scale", text)
    return replace(spec, scale=zero_allowed(scale))


def _whole(section: Section, key: str, low: int, default: int) -> int:
    found = section.integer(key, low=low, high=MOST)
    return default if found is None else found


def _number(section: Section, key: str) -> float | None:
    found = section.number(key)
    return None if found is None else float(found)


def _target(section: Section, key: str) -> Target | None:
    text = section.text(key)
    if text is None:
        return None
    found = target_of(text, memory=key == "memory")
    if found is None:
        example = "80% or 400m" if key == "memory" else "70% or 0.5"
        section.problem(key, f"{show(text)} is neither a percentage nor an amount; write {example}")
    return found


def target_of(text: str, *, memory: bool) -> Target | None:
    """Return what ``70%``, ``0.5`` (cores) or ``400m`` (memory) stands for, None if it is none of these."""
    stripped = text.strip()[:40]
    percent = stripped.endswith("%")
    if memory and not percent:
        size = size_bytes(stripped)
        return Target(amount=float(size)) if size else None
    try:
        value = Decimal(stripped.removesuffix("%").strip())
    except InvalidOperation:
        return None
    if not value.is_finite() or not 0 < value <= 10**6:
        return None
    return Target(percent=float(value)) if percent else Target(amount=float(value))


def _queue(section: Section) -> Queue | None:
    if "queue" not in section:
        return None
    inner = section.section("queue")
    return Queue(
        query=inner.text("query") or "",
        per_replica=_number(inner, "per_replica") or 0.0,
        source=inner.text("source") or "",
    )


def _slot(item: Section) -> Slot:
    return Slot(
        cron=item.text("cron") or "",
        min=item.integer("min", high=MOST),
        max=item.integer("max", low=1, high=MOST),
        timezone=item.text("timezone") or "UTC",
    )


def _zero(section: Section) -> Zero | None:
    node = section.get("zero")
    if node is None:
        return None
    if node.mapping is None:
        return Zero() if section.boolean("zero") else None
    inner = section.section("zero")
    return Zero(
        cooldown_s=seconds(inner, "cooldown", _ZERO.cooldown_s),
        initial_cooldown_s=seconds(inner, "initial_cooldown", _ZERO.initial_cooldown_s),
    )


def _behavior(section: Section) -> Behavior:
    return Behavior(up=_rules(section.section("up"), DEFAULT_UP), down=_rules(section.section("down"), DEFAULT_DOWN))


def _rules(section: Section, default: Rules) -> Rules:
    """Only what is written differs from the default (HPA, *Default Behavior*)."""
    select = section.choice("select", tuple(each.value for each in Select))
    tolerance = _number(section, "tolerance")
    return Rules(
        window_s=seconds(section, "window", default.window_s),
        policies=tuple(_policy(item) for item in section.items("policies")) or default.policies,
        select=Select(select) if select else default.select,
        tolerance=default.tolerance if tolerance is None else tolerance,
    )


def _policy(item: Section) -> Policy:
    kind = item.choice("type", tuple(each.value for each in PolicyKind))
    return Policy(
        kind=PolicyKind(kind) if kind else PolicyKind.TASKS,
        value=item.integer("value", low=1) or 1,
        period_s=seconds(item, "period", 15.0),
    )
