"""A rollout over time: weight, errors and latency of both revisions, in the terminal or as an SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from xml.sax.saxutils import escape

from rich.text import Text

from hunqi.cli.cluster.plotting import Points, plot

JSON = Mapping[str, Any]
_LATENCIES: Final = ("p99", "p95", "p50")
_WIDTH: Final = 720
_HEIGHT: Final = 150
_LEFT: Final = 70
_GAP: Final = 56
_COLOURS: Final = {"new": "#c2185b", "old": "#1976d2", "weight": "#455a64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One plot of several: lines by name, over the same time."""

    title: str
    lines: Mapping[str, Points]
    show: Callable[[float], str]


def charts_of(looks: Sequence[JSON]) -> list[Chart]:
    """Return the plots of what was seen: weight, then error rate and latency where they were measured."""
    weights = [(float(each["at"]), each["weight"] / 100) for each in looks]
    found = [Chart(title="weight of the new revision", lines={"weight": _stairs(weights)}, show=_percent)]
    services = list(dict.fromkeys(each["service"] for look in looks for each in look["findings"]))
    for service in services:
        errors = _lines(looks, "success-rate", service, lambda value: 100 * value)
        if any(errors.values()):
            found.append(Chart(title=f"error rate of {service}", lines=errors, show=_percent))
        for name in _LATENCIES:
            latencies = _lines(looks, name, service, lambda value: value)
            if any(latencies.values()):
                found.append(Chart(title=f"{name} of {service}", lines=latencies, show=_milliseconds))
                break
    return found


def in_terminal(looks: Sequence[JSON], *, width: int) -> list[Text]:
    """Return the plots as lines of text."""
    if len(looks) < 2:
        return [Text("nothing to plot yet: measures have been looked at less than twice", style="dim")]
    start, end = float(looks[0]["at"]), float(looks[-1]["at"])
    drawn: list[Text] = []
    for chart in charts_of(looks):
        drawn.append(Text(chart.title, style="bold"))
        drawn += plot(chart.lines, start=start, end=end, width=width, height=6, show=chart.show)
        drawn.append(Text())
    return drawn[:-1]


def as_svg(looks: Sequence[JSON], *, title: str) -> str:
    """Return the plots as an SVG document."""
    charts = charts_of(looks)
    start = float(looks[0]["at"]) if looks else 0.0
    end = max(float(looks[-1]["at"]) if looks else 1.0, start + 1.0)
    whole = len(charts) * (_HEIGHT + _GAP) + _GAP
    box = f'viewBox="0 0 {_LEFT + _WIDTH + 20} {whole}" font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-weight="bold">{escape(title)}</text>',
    ]
    for number, chart in enumerate(charts):
        parts += _chart(chart, _GAP + number * (_HEIGHT + _GAP), start, end)
    return "\n".join([*parts, "</svg>", ""])


def _chart(chart: Chart, top: float, start: float, end: float) -> list[str]:
    highest = max((value for points in chart.lines.values() for _, value in points), default=0.0) or 1.0
    bottom = top + _HEIGHT
    parts = [
        f'<text x="{_LEFT}" y="{top - 8:.0f}">{escape(chart.title)}</text>',
        f'<path d="M{_LEFT} {top:.0f}V{bottom:.0f}H{_LEFT + _WIDTH}" fill="none" stroke="#90a4ae"/>',
    ]
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * _HEIGHT
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{escape(chart.show(highest * share))}</text>'
        )
    for at, anchor in ((start, "start"), (end, "end")):
        x = _LEFT + (at - start) / (end - start) * _WIDTH
        clock = datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")
        parts.append(f'<text x="{x:.0f}" y="{bottom + 16:.0f}" text-anchor="{anchor}">{clock}</text>')
    for place, (name, points) in enumerate(chart.lines.items()):
        colour = _COLOURS.get(name.split(" ", maxsplit=1)[0], "#555")
        drawn = " ".join(
            f"{_LEFT + (at - start) / (end - start) * _WIDTH:.1f},{bottom - value / highest * _HEIGHT:.1f}"
            for at, value in points
        )
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(chart.lines) > 1:
            x = _LEFT + _WIDTH - 80 * (len(chart.lines) - place)
            parts.append(f'<text x="{x}" y="{top - 8:.0f}" fill="{colour}">{escape(name)}</text>')
    return parts


def _lines(looks: Sequence[JSON], measure: str, service: str, made: Callable[[float], float]) -> dict[str, Points]:
    found: dict[str, list[tuple[float, float]]] = {"new": [], "old": []}
    for look in looks:
        for each in look["findings"]:
            if (each["measure"], each["service"]) == (measure, service):
                for name, points in found.items():
                    if name in each["numbers"]:
                        points.append((float(look["at"]), made(float(each["numbers"][name]))))
    return {name: points for name, points in found.items() if points}


def _stairs(points: Points) -> Points:
    """Return the line of a value that stays as it is until it changes."""
    found: list[tuple[float, float]] = []
    for at, value in points:
        if found and found[-1][1] != value:
            found.append((at, found[-1][1]))
        found.append((at, value))
    return found


def _percent(value: float) -> str:
    return f"{value:.3g} %"


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms"
