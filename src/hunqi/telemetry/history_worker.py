"""The process that DuckDB runs in: one question by standard input, the answer by standard output, and then its end.

DuckDB and its libraries take 100 MB and more while they work, of which control is to keep nothing. Reading a file that
is damaged is no failure: it is put out of the way, named, and the question is asked again without it. Started as
``python -m hunqi.telemetry.history_worker``.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import orjson

from hunqi.telemetry.history_files import KINDS, Files, Held, looks_whole
from hunqi.telemetry.history_sql import COLUMNS, bins, keep_journal, lines_of, roll_up, select
from hunqi.telemetry.settings import HistoryLimits, Level

_SETTLED_S: Final = 60
"""So long after its span a journal gets no more rows."""
_MOST_BAD: Final = 100


class Worker:
    """Answers one question."""

    def __init__(self, files: Files, memory_bytes: int) -> None:
        self._files = files
        self._database = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,
                "memory_limit": f"{memory_bytes // 1024**2}MiB",
                "temp_directory": str(files.root / "spill"),
                "max_temp_directory_size": "512MiB",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        self.problems: list[str] = []

    def tidy(self, now: float) -> int:
        """Make files of journals, and coarser ones of finer ones; remove what is too old. Return how many were made."""
        made = sum(self._keep(journal) for journal in self._files.journals() if self._is_settled(journal, now))
        for finer, coarser in zip(self._files.limits.levels, self._files.limits.levels[1:], strict=False):
            made += sum(self._roll_up(finer, coarser, kind, now) for kind in KINDS)
        self.problems += self._files.retain(now)
        return made

    def bins(self, asked: dict[str, Any]) -> list[Any]:
        """Return the bins of a question, each with its group and its time."""
        width, kind = asked["step"], asked["kind"]
        found: list[Any] = []
        for level_s, source, paths, start, end in self._sources(kind, asked["start"], asked["end"], width):
            service, revision = asked["service"], asked["revision"]
            metric, labels = asked["metric"], asked["labels"]
            chosen = select(source, service=service is not None, revision=revision is not None)
            text = bins(kind, chosen, by=asked["by"], metric=metric is not None, labels=labels is not None)
            given = [max(width, level_s), None, asked["app"], start, end, service, revision, metric, labels]

            def ask(good: Sequence[str], text: str = text, given: Sequence[Any] = given) -> list[Any]:
                values = [given[0], list(good), *(each for each in given[2:] if each is not None)]
                return self._database.execute(text, values).fetchall()

            answered: list[Any] = self._robustly(paths, ask) or []
            found += [(*row, level_s) for row in answered]
        return sorted(found, key=lambda row: (row[0], row[1]))

    def rows(self, start: int) -> Iterator[Sequence[Any]]:
        """Yield the finest rows from a moment on, each with its kind, by time."""
        kinds = [sorted(self._rows(kind, start), key=lambda row: row[1]) for kind in KINDS]
        return heapq.merge(*kinds, key=lambda row: row[1])

    def _rows(self, kind: str, start: int) -> Iterator[Sequence[Any]]:
        columns = ", ".join(f'"{name}"' for name in COLUMNS[kind])
        for level_s, source, paths, low, high in self._sources(kind, start, 2**40, 1):
            if level_s != self._files.finest.step_s:
                continue
            text = f'SELECT {columns} FROM {source} WHERE "at" >= ? AND "at" < ? AND app IS NOT NULL ORDER BY "at"'  # noqa: S608

            def ask(good: Sequence[str], text: str = text, span: tuple[int, int] = (low, high)) -> list[Any]:
                return self._database.execute(text, [list(good), *span]).fetchall()

            answered: list[Any] = self._robustly(paths, ask) or []
            yield from ((kind, *row) for row in answered)

    def _is_settled(self, journal: Held, now: float) -> bool:
        return journal.start + self._files.finest.span_s + _SETTLED_S <= now

    def _keep(self, journal: Held) -> bool:
        """Make a file of a journal, and remove it."""
        level = self._files.finest
        target = self._files.of_level(level, journal.kind, journal.start)
        if not target.exists():
            damaged = f'SELECT count(*) FROM {lines_of(journal.kind)} WHERE "at" IS NULL'  # noqa: S608  (our names)
            ((count,),) = self._database.execute(damaged, [[str(journal.path)]]).fetchall()
            if count:
                self.problems.append(f"{journal.path.name}: {count} damaged lines were passed over")
            if not self._write(target, keep_journal(journal.kind), [str(journal.path)]):
                return False
        journal.path.unlink(missing_ok=True)
        return True

    def _roll_up(self, finer: Level, coarser: Level, kind: str, now: float) -> int:
        spans: dict[int, list[str]] = {}
        there = {held.start for held in self._files.of(coarser) if held.kind == kind}
        waiting = {each.start - each.start % coarser.span_s for each in self._files.journals() if each.kind == kind}
        for held in self._files.of(finer):
            start = held.start - held.start % coarser.span_s
            over = start + coarser.span_s + finer.span_s + _SETTLED_S <= now
            if held.kind == kind and over and start not in there and start not in waiting:
                spans.setdefault(start, []).append(str(held.path))
        text = roll_up(kind, coarser.step_s)
        return sum(self._write(self._files.of_level(coarser, kind, start), text, spans[start]) for start in spans)

    def _write(self, target: Path, text: str, paths: Sequence[str]) -> bool:
        """Write what a question answers to a file, whole or not at all."""
        new = target.with_name(f"{target.name}.new")
        quoted = str(new).replace("'", "''")

        def write(good: Sequence[str]) -> bool:
            options = "(FORMAT parquet, COMPRESSION zstd)"
            self._database.execute(f"COPY ({text}) TO '{quoted}' {options}", [list(good)])
            return True

        try:
            if not self._robustly(paths, write):
                return False
            _sync(new)
            new.rename(target)
            _sync(target.parent)
        except (OSError, duckdb.Error) as error:
            self.problems.append(f"{target.parent.name}/{target.name} could not be written: {_said(error)}")
            return False
        finally:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
        return True

    def _robustly(self, paths: Sequence[str], ask: Callable[[Sequence[str]], Any]) -> Any:
        """Ask over files; without those that cannot be read, if there are any. Raises ``duckdb.Error``."""
        good = [each for each in paths if Path(each).exists()]
        for each in [each for each in good if each.endswith(".parquet") and not looks_whole(Path(each))]:
            good.remove(each)
            self.problems.append(self._files.set_aside(Path(each), "it is not whole"))
        if not good:
            return None
        try:
            return ask(good)
        except duckdb.Error:
            bad = [each for each in good if not self._is_readable(each)]
            if not bad:
                raise
        good = [each for each in good if each not in bad]
        return ask(good) if good else None

    def _is_readable(self, path: str) -> bool:
        if path.endswith(".ndjson"):
            return True
        kind = Path(path).name.partition("-")[0]
        columns = ", ".join(f'max("{name}"::VARCHAR)' for name in COLUMNS[kind])
        try:
            self._database.execute(f"SELECT {columns} FROM read_parquet(?)", [[path]]).fetchall()  # noqa: S608
        except duckdb.Error as error:
            self.problems.append(self._files.set_aside(Path(path), _said(error)))
            return False
        return True

    def _sources(self, kind: str, start: int, end: int, step: int) -> Iterator[tuple[int, str, list[str], int, int]]:
        """Yield (resolution, source, its files, from, to) so that each moment is in one: the coarsest that will do."""
        levels = self._files.limits.levels
        fitting = [level for level in reversed(levels) if level.step_s <= step]
        unit = self._files.finest.span_s
        covered: set[int] = set()
        for level in [*fitting, *(level for level in levels if level not in fitting)]:
            whole: list[str] = []
            for held in self._files.of(level):
                if held.kind != kind or held.start >= end or held.start + level.span_s <= start:
                    continue
                units = set(range(held.start, held.start + level.span_s, unit))
                if not units & covered:
                    whole.append(str(held.path))
                else:
                    for one in sorted(units - covered):
                        low, high = max(start, one), min(end, one + unit)
                        yield level.step_s, "read_parquet(?)", [str(held.path)], low, high
                covered |= units
            if whole:
                yield level.step_s, "read_parquet(?)", whole, start, end
        new = [str(each.path) for each in self._files.journals() if each.kind == kind and each.start not in covered]
        if new:
            yield self._files.finest.step_s, lines_of(kind), new, start, end


def _said(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _limits(asked: dict[str, Any]) -> HistoryLimits:
    levels = tuple(Level(**each) for each in asked["levels"])
    return HistoryLimits(levels=levels, days=asked["days"], most_bytes=asked["most_bytes"])


def main() -> None:
    """Answer the question that standard input holds, in lines of JSON; the last one names the problems."""
    os.nice(10)
    asked = orjson.loads(sys.stdin.buffer.read())
    files = Files(Path(asked["root"]), _limits(asked))
    worker = Worker(files, asked["memory_bytes"])
    out = sys.stdout.buffer
    made = 0
    match asked["do"]:
        case "tidy":
            made = worker.tidy(asked.get("now", time.time()))
        case "bins":
            for row in worker.bins(asked):
                out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        case _:
            for row in worker.rows(asked["start"]):
                out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    out.write(orjson.dumps({"problems": worker.problems[:_MOST_BAD], "made": made}))


if __name__ == "__main__":
    main()
