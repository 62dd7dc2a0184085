"""What keeps a service from being scaled as a spec says; the same for files and for the interface. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from hunqi.apps.model import Mode, Protocol, ServiceSpec, VolumeSpec
from hunqi.apps.scale_spec import LONGEST_PERIOD_S, LONGEST_S, MOST, Rules, ScaleSpec, Slot, Target
from hunqi.engine.model import JSON

_NANO = 10**9
_METRIC = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,62}/)?[A-Za-z_:][A-Za-z0-9_:]{0,199}(?:\{[^{}]{0,500}\})?")
_WEB = frozenset({Protocol.HTTP1, Protocol.HTTP2})


def scale_faults(
    scale: ScaleSpec, service: ServiceSpec, volumes: Mapping[str, VolumeSpec]
) -> Iterator[tuple[str, str]]:
    """Yield (field, sentence with what to do) for each fault."""
    if service.mode is not Mode.REPLICATED:
        yield "", f"it runs as {service.mode} and has no replicas that load could move: leave scale out"
        return
    yield from _bounds(scale, service, volumes)
    yield from _measures(scale, service)
    for field, rules in (("behavior.up", scale.behavior.up), ("behavior.down", scale.behavior.down)):
        yield from ((field, text) for text in _rules(rules))
    for slot in scale.schedule:
        yield from (("schedule", text) for text in _slot(slot, scale))


def is_web(service: ServiceSpec) -> bool:
    """Whether requests come to the service by way of the gateways, where they are counted and can be held."""
    return service.internal == "gateway" or any(each.protocol in _WEB for each in service.routes)


def alone_on(service: ServiceSpec, volumes: Mapping[str, VolumeSpec]) -> str:
    """Return the volume that keeps the service to one task, empty if none does: a local one that it writes to."""
    for mount in service.mounts:
        held = volumes.get(mount.source)
        if mount.kind == "volume" and not mount.read_only and (held is None or held.pinning):
            return mount.source or mount.target
    return ""


def basis(service: ServiceSpec, resource: str) -> float | None:
    """Return what a task reserves of ``NanoCPUs`` (in cores) or ``MemoryBytes``; its limit where it reserves none."""
    resources: JSON = service.template.get("Resources") or {}
    for kind in ("Reservations", "Limits"):
        given: JSON = resources.get(kind) or {}
        value: int | None = given.get(resource)
        if value:
            return value / _NANO if resource == "NanoCPUs" else float(value)
    return None


def _bounds(scale: ScaleSpec, service: ServiceSpec, volumes: Mapping[str, VolumeSpec]) -> Iterator[tuple[str, str]]:
    if not 0 <= scale.min <= scale.max or not 1 <= scale.max <= MOST:
        yield "max", f"min and max are 0 ≤ min ≤ max, and max is 1 to {MOST}: not {scale.min} and {scale.max}"
    if (volume := alone_on(service, volumes)) and scale.max > 1:
        yield (
            "max",
            f"{service.name} writes to the volume {volume}, which lies on one node: max is 1, or use a shared volume",
        )
    if scale.zero is None and scale.min > 0:
        return
    if any(each.protocol not in _WEB for each in service.routes):
        yield "zero", f"{service.name} has a TCP or UDP route: only HTTP requests are held at zero; write min: 1"
    if scale.queue is not None and not scale.queue.source and "/" not in scale.queue.query:
        yield (
            "queue",
            f"at zero no task of {service.name} counts: name another service's metric (api/jobs_waiting), or a source",
        )
    if not is_web(service) and scale.queue is None and not scale.schedule:
        yield (
            "zero",
            f"nothing would wake {service.name}: only HTTP requests are held at zero; give it a queue, or min: 1",
        )


def _measures(scale: ScaleSpec, service: ServiceSpec) -> Iterator[tuple[str, str]]:
    if not scale.measured and not scale.schedule and scale.zero is None and scale.min > 0:
        more = " p95_ms alone asks for more tasks but never for fewer" if scale.p95_ms is not None else ""
        yield "", f"name what moves it: cpu, memory, rps, concurrency, queue, schedule or zero.{more}"
    for name, key, target in (("cpu", "NanoCPUs", scale.cpu), ("memory", "MemoryBytes", scale.memory)):
        if target is not None:
            yield from ((name, text) for text in _target(target, service, name, key))
    for name, value in (("rps", scale.rps), ("concurrency", scale.concurrency), ("p95_ms", scale.p95_ms)):
        if value is None:
            continue
        if not 0 < value <= 10**9:
            yield name, "it is more than 0"
        if not is_web(service):
            yield name, f"{service.name} gets no HTTP requests by way of the gateway: nobody counts them"
    if scale.queue is not None and not (0 < scale.queue.per_replica <= 10**12 and scale.queue.query.strip()):
        yield "queue", "it has a query, and a per_replica of more than 0"
    if scale.queue is not None and not scale.queue.source and not _METRIC.fullmatch(scale.queue.query):
        yield (
            "queue",
            "without a source the query is the name of a metric of the app's own: jobs_waiting, api/jobs_waiting",
        )
    if scale.predict and scale.rps is None and scale.concurrency is None and scale.cpu is None:
        yield "predict", "history foretells load by rps, concurrency or cpu: name one of them"


def _target(target: Target, service: ServiceSpec, name: str, key: str) -> Iterator[str]:
    value = target.percent if target.percent is not None else target.amount
    if value is None or not 0 < value <= 10**15:
        yield "it is more than 0: 70%, or an amount"
    elif target.percent is not None and basis(service, key) is None:
        where = "cpus" if name == "cpu" else "memory"
        amount = "cpu: 0.5 (cores)" if name == "cpu" else "memory: 400m"
        yield (
            f"a percentage is one of what is reserved, and {service.name} reserves no {name}: set "
            f"deploy.resources.reservations.{where}, or write {amount}"
        )


def _rules(rules: Rules) -> Iterator[str]:
    if not 0 <= rules.window_s <= LONGEST_S:
        yield f"window is at most {LONGEST_S:.0f}s"
    if not 0 <= rules.tolerance < 1:
        yield "tolerance is 0 or more, and less than 1"
    if not rules.policies:
        yield "there is at least one policy; select: disabled turns the direction off"
    for each in rules.policies:
        if each.value < 1 or not 1 <= each.period_s <= LONGEST_PERIOD_S:
            yield f"a policy's value is 1 or more, its period 1s to {LONGEST_PERIOD_S:.0f}s"


def _slot(slot: Slot, scale: ScaleSpec) -> Iterator[str]:
    try:
        zone = ZoneInfo(slot.timezone)
        if len(slot.cron.split()) != 5:
            raise CronSimError("there are not five fields")
        next(CronSim(slot.cron, datetime(2026, 1, 1, tzinfo=UTC).astimezone(zone)))
    except (CronSimError, StopIteration) as error:
        yield f"{slot.cron!r} is no schedule of five fields: {error or 'it never comes'}"
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield f"{slot.timezone!r} is no time zone; write Europe/Berlin"
    if slot.min is None and slot.max is None:
        yield "a slot has a min, a max or both"
    low, high = scale.min if slot.min is None else slot.min, scale.max if slot.max is None else slot.max
    if not 0 <= low <= high or not 1 <= high <= MOST:
        yield f"min and max of a slot are 0 ≤ min ≤ max ≤ {MOST}, not {low} and {high}"
