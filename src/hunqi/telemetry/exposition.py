"""What is counted, as OpenMetrics 1.0 for others to scrape: sums over all gateways since this control leads.

Counters begin at zero when another control leads or this one is started again, as counters may.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from hunqi.telemetry.differences import CLASSES
from hunqi.telemetry.histogram import LAST, PER_DECADE, Histogram, upper_ms
from hunqi.telemetry.kept import ServiceSeries
from hunqi.telemetry.live import Live

MEDIA_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_BOUNDS: Final = tuple(range(0, LAST, PER_DECADE // 3))
"""Three buckets to a decade are shown: 0.1 ms, 0.22 ms, 0.46 ms, 1 ms … 1,000 s."""
_RECENT_S: Final = 60.0
Labels = Mapping[str, str]
Samples = Iterable[tuple[Labels, float]]


def expose(live: Live, apps: Collection[str], *, now: float) -> str:
    """Return the metrics of ``apps``; gauges are those of the last minute."""
    services = [(app, name, series) for (app, name), series in sorted(live.kept.services.items()) if app in apps]
    recent = live.rounds.within(now - _RECENT_S, now)
    lines: list[str] = []

    def family(name: str, kind: str, help_: str, sample: str, found: Samples, *, unit: str = "") -> None:
        lines.append(f"# TYPE {name} {kind}")
        if unit:
            lines.append(f"# UNIT {name} {unit}")
        lines.append(f"# HELP {name} {help_}")
        lines.extend(f"{sample}{_labels(labels)} {_number(value)}" for labels, value in found)

    family(
        "hunqi_app_requests", "counter", "Requests that ended, by class of status.", "hunqi_app_requests_total",
        _requests(services),
    )  # fmt: skip
    lines += ["# TYPE hunqi_app_request_seconds histogram", "# UNIT hunqi_app_request_seconds seconds"]
    lines.append("# HELP hunqi_app_request_seconds From a request's head to the end of its answer, of all gateways.")
    for labels, histogram in _histograms(services):
        lines.extend(_histogram_lines("hunqi_app_request_seconds", labels, histogram))
    last: Callable[[ServiceSeries], Iterator[tuple[Labels, float]]] = lambda service: _held(service, recent)  # noqa: E731
    family(
        "hunqi_app_held_requests", "gauge", "Requests that wait because no task is healthy.",
        "hunqi_app_held_requests", _each(services, last),
    )  # fmt: skip
    family(
        "hunqi_task_cpu_seconds", "counter", "CPU time of a task.", "hunqi_task_cpu_seconds_total",
        _each(services, _cpu), unit="seconds",
    )  # fmt: skip
    family(
        "hunqi_task_memory_bytes", "gauge", "Working set of a task: its memory without page cache.",
        "hunqi_task_memory_bytes", _each(services, lambda service: _memory(service, recent)), unit="bytes",
    )  # fmt: skip
    return "\n".join([*lines, "# EOF", ""])


Services = list[tuple[str, str, ServiceSeries]]


def _requests(services: Services) -> Iterator[tuple[Labels, float]]:
    for app, name, service in services:
        for revision, series in sorted(service.revisions.items()):
            for each, count in zip(CLASSES, series.total.classes, strict=True):
                yield {"app": app, "service": name, "revision": str(revision), "class": f"{each}xx"}, count


def _histograms(services: Services) -> Iterator[tuple[Labels, Histogram]]:
    for app, name, service in services:
        for revision, series in sorted(service.revisions.items()):
            yield {"app": app, "service": name, "revision": str(revision)}, Histogram(series.total.latency)


def _histogram_lines(name: str, labels: Labels, histogram: Histogram) -> Iterator[str]:
    total = histogram.total
    for bound in _BOUNDS:
        below = total - histogram.above(bound)
        yield f"{name}_bucket{_labels({**labels, 'le': _number(upper_ms(bound) / 1000)})} {below}"
    yield f"{name}_bucket{_labels({**labels, 'le': '+Inf'})} {total}"
    yield f"{name}_count{_labels(labels)} {total}"
    yield f"{name}_sum{_labels(labels)} {_number(histogram.sum_ms / 1000)}"


def _each(services: Services, of: Callable[[ServiceSeries], Iterable[tuple[Labels, float]]]) -> Samples:
    for app, name, service in services:
        for labels, value in of(service):
            yield {"app": app, "service": name, **labels}, value


def _held(service: ServiceSeries, recent: range) -> Iterator[tuple[Labels, float]]:
    if service.held_presence.overlaps(recent.start, recent.stop - 1):
        last = service.held_presence.last
        yield {}, sum(row[0] for _, row in service.held.rows(last, last))


def _cpu(service: ServiceSeries) -> Iterator[tuple[Labels, float]]:
    for task, series in sorted(service.tasks.items()):
        yield {"revision": str(series.counts.revision), "task": task, "node": series.node}, series.cpu_s


def _memory(service: ServiceSeries, recent: range) -> Iterator[tuple[Labels, float]]:
    for task, series in sorted(service.tasks.items()):
        if series.values.last >= recent.start:
            labels = {"revision": str(series.counts.revision), "task": task, "node": series.node}
            yield labels, series.counts.memory_bytes


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return f"{value:.6g}" if isinstance(value, float) and not value.is_integer() else str(int(value))
