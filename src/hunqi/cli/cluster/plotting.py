"""A plot in the terminal: lines of braille dots over time, with its scale and legend."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from rich.text import Text

_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Of Unicode's braille patterns, by row and column within a character."""
_BLANK: Final = 0x2800
COLOURS: Final = ("cyan", "magenta", "yellow", "green", "blue", "red")
Points = Sequence[tuple[float, float]]


def plot(
    lines: Mapping[str, Points],
    *,
    start: float,
    end: float,
    width: int = 60,
    height: int = 8,
    show: Callable[[float], str],
) -> list[Text]:
    """Return a plot of lines (moment and value) over a time; ``show`` writes a value. Values are drawn from 0 up."""
    top = max((value for points in lines.values() for _, value in points if math.isfinite(value)), default=0.0)
    top = top if top > 0 else 1.0
    labels = [show(top), show(top / 2), show(0.0)]
    margin = max(map(len, labels))
    cells = [[_BLANK] * width for _ in range(height)]
    colours = [[""] * width for _ in range(height)]
    for number, points in enumerate(lines.values()):
        _draw(points, (start, end, top), cells, colours, COLOURS[number % len(COLOURS)])
    drawn: list[Text] = []
    marks = {0: labels[0], height // 2: labels[1], height - 1: labels[2]}
    for row in range(height):
        text = Text(f"{marks.get(row, ''):>{margin}} ┤" if row in marks else f"{'':>{margin}} │", style="dim")
        for cell, colour in zip(cells[row], colours[row], strict=True):
            text.append(chr(cell), style=colour or None)
        drawn.append(text)
    drawn.append(Text(f"{'':>{margin}} └{'─' * width}", style="dim"))
    first, last = _clock(start, end - start), _clock(end, end - start)
    drawn.append(Text(f"{'':>{margin}}  {first}{' ' * max(1, width - len(first) - len(last))}{last}", style="dim"))
    if len(lines) > 1 or next(iter(lines), ""):
        legend = Text(" " * (margin + 2))
        for number, name in enumerate(lines):
            legend.append("● ", style=COLOURS[number % len(COLOURS)])
            legend.append(f"{name}   ")
        drawn.append(legend)
    return drawn


def _draw(
    points: Points, scale: tuple[float, float, float], cells: list[list[int]], colours: list[list[str]], colour: str
) -> None:
    start, end, top = scale
    height, width = len(cells), len(cells[0])
    for x, y in _dots(points, start, end, top, columns=width * 2, rows=height * 4):
        row, column = (height * 4 - 1 - y) // 4, x // 2
        cells[row][column] |= _DOTS[(height * 4 - 1 - y) % 4][x % 2]
        colours[row][column] = colour


def _dots(points: Points, start: float, end: float, top: float, *, columns: int, rows: int) -> list[tuple[int, int]]:
    """Return the dots of a line; where two points are in neighbouring columns they are joined by a stroke."""
    length = max(end - start, 1e-9)
    placed: dict[int, list[float]] = {}
    for at, value in points:
        if start <= at <= end and math.isfinite(value):
            placed.setdefault(min(columns - 1, int((at - start) / length * columns)), []).append(value)
    found: list[tuple[int, int]] = []
    before: tuple[int, int] | None = None
    reach = max(2, 2 * columns // max(1, len(points)))
    for x in sorted(placed):
        y = min(rows - 1, max(0, round(sum(placed[x]) / len(placed[x]) / top * (rows - 1))))
        if before is not None and x - before[0] <= reach:
            steps = max(x - before[0], abs(y - before[1]))
            found += [
                (before[0] + round((x - before[0]) * step / steps), before[1] + round((y - before[1]) * step / steps))
                for step in range(steps)
            ]
        found.append((x, y))
        before = (x, y)
    return found


def _clock(moment: float, length_s: float) -> str:
    """Return a moment in local time, with the date where the plot is longer than a day."""
    return datetime.fromtimestamp(moment).astimezone().strftime("%m-%d %H:%M" if length_s > 86_400 else "%H:%M:%S")
