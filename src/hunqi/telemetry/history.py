"""What was measured, on disk: written every some seconds, rolled up, asked for, read back at the start.

New rows go to journals by a thread; everything that DuckDB does, it does in a process of its own (``history_worker``),
one at a time for upkeep and few for questions. When control is killed, what was written last is lost and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from hunqi.telemetry import journal
from hunqi.telemetry.errors import HistoryError
from hunqi.telemetry.history_files import Files
from hunqi.telemetry.live import Live
from hunqi.telemetry.rows import CustomRow, ServiceRow, Step, TaskRow
from hunqi.telemetry.settings import HistoryLimits
from hunqi.telemetry.steps import horizon, steps_of

_WORKER: Final = (sys.executable, "-m", "hunqi.telemetry.history_worker")
_LINE_BYTES: Final = 1024 * 1024
_MOST_QUESTIONS: Final = 2
_MOST_STEPS: Final = 30
"""So many steps are written at once at most."""
_MOST_BEHIND_S: Final = 3600
"""What could not be written for so long is given up."""
_PATIENCE_S: Final = 30.0
_MOST_PROBLEMS: Final = 20
_AT_ONCE: Final = 5
"""So many steps are read back before others get their turn."""
_log: Final = logging.getLogger(__name__)


class History:
    """The history below a directory."""

    def __init__(
        self,
        root: Path,
        live: Live,
        *,
        limits: HistoryLimits | None = None,
        clock: Callable[[], float] = time.time,
        worker: Sequence[str] = _WORKER,
    ) -> None:
        self.limits = limits or HistoryLimits()
        self.root = root
        self._files = Files(root, self.limits)
        self._live = live
        self._clock = clock
        self._worker = tuple(worker)
        self._step_s = self.limits.levels[0].step_s
        self._written_until = 0
        self._questions = asyncio.Semaphore(_MOST_QUESTIONS)
        self._problems: dict[str, None] = {}

    @property
    def problems(self) -> Sequence[str]:
        """What went wrong of late, in sentences."""
        return list(self._problems)

    async def run(self) -> None:
        """Read the last hours back, then write what is measured and keep the files, until cancelled."""
        await self.begin()
        while True:
            await asyncio.sleep(self.limits.flush_s)
            await self.write()
            await self.tidy()

    async def begin(self) -> None:
        """Make the directories and read the last hours back into memory."""
        try:
            await asyncio.to_thread(self._files.prepare)
        except OSError as error:
            self._note(f"the history cannot be kept in {self._files.root}: {error.strerror}")
        with self._live.restoring() as put:
            try:
                await self._read_back(put)
            except HistoryError as error:
                self._note(f"the last hours could not be read back: {error}")
        now = self._clock()
        self._written_until = int(now - now % self._step_s) + self._step_s

    async def write(self) -> None:
        """Write the steps that are over; say what is not measured."""
        for problem in self._live.kept.problems.values():
            self._note(problem)
        if self._written_until < self._clock() - _MOST_BEHIND_S:
            self._written_until = int(self._clock()) // self._step_s * self._step_s
        end = min(horizon(self._live, patience_s=_PATIENCE_S), self._written_until + _MOST_STEPS * self._step_s)
        steps = steps_of(self._live, start=self._written_until, end=end, step_s=self._step_s)
        if not steps:
            return
        try:
            await asyncio.to_thread(journal.append, self._files, steps)
        except OSError as error:
            self._note(f"what was measured could not be written: {error.strerror}")
            return
        self._written_until = steps[-1].at + self._step_s

    async def tidy(self) -> None:
        """Have journals made into files, files rolled up, and what is too old removed, where that is due."""
        if not await asyncio.to_thread(self._files.due, self._clock() - 2 * self._step_s - 60):
            return
        try:
            async with self._asking({"do": "tidy", "now": self._clock()}) as lines:
                async for _ in lines:
                    pass
        except HistoryError as error:
            self._note(str(error))

    async def bins(self, question: Mapping[str, Any]) -> list[list[Any]]:
        """Return bins: see ``history_worker``. Raises ``HistoryError``."""
        async with self._asking({"do": "bins", **question}) as lines:
            return [row async for row in lines]

    async def _read_back(self, put: Callable[[Step], None]) -> None:
        now = self._clock()
        start = int(now - self._live.keep_s)
        step: Step | None = None
        done = 0
        async with self._asking({"do": "rows", "start": start}) as lines:
            async for kind, *row in lines:
                if step is None or step.at != row[0]:
                    if step is not None:
                        put(step)
                        done += 1
                        if done % _AT_ONCE == 0:
                            await asyncio.sleep(0)
                    step = Step(row[0])
                if row[0] + self._step_s <= now:
                    _add(step, kind, row)
        if step is not None:
            put(step)
            _log.info("read %d s of measurements back", (done + 1) * self._step_s)

    @contextlib.asynccontextmanager
    async def _asking(self, question: Mapping[str, Any]) -> AsyncGenerator[AsyncIterator[list[Any]]]:
        """Ask a worker and give its lines. Raises ``HistoryError``."""
        limits = self.limits
        asked = {
            "root": str(self._files.root),
            "levels": [asdict(level) for level in limits.levels],
            "days": limits.days,
            "most_bytes": limits.most_bytes,
            "memory_bytes": limits.memory_bytes,
            **question,
        }
        try:
            async with asyncio.timeout(limits.patience_s), self._questions, self._process() as process:
                if process.stdin is not None:
                    process.stdin.write(orjson.dumps(asked))
                    process.stdin.close()
                yield self._lines(process)
        except TimeoutError as error:
            raise HistoryError(f"the history did not answer within {limits.patience_s:.0f} s") from error

    async def _lines(self, process: asyncio.subprocess.Process) -> AsyncIterator[list[Any]]:
        problems: list[str] | None = None
        async for line in process.stdout or _empty():
            read: Any = orjson.loads(line)
            if isinstance(read, list):
                yield read
            else:
                problems = read["problems"]
        said = (await process.stderr.read(_LINE_BYTES)).decode(errors="replace") if process.stderr else ""
        if await process.wait() != 0 or problems is None:
            why = said.strip().rpartition("\n")[2][:300] or "its process was killed"
            raise HistoryError(f"the history could not be asked: {why}")
        for problem in problems:
            self._note(problem)

    @contextlib.asynccontextmanager
    async def _process(self) -> AsyncGenerator[asyncio.subprocess.Process]:
        pipe = asyncio.subprocess.PIPE
        environment = {name: value for name in ("PATH", "LANG", "PYTHONPATH") if (value := os.environ.get(name))}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._worker, stdin=pipe, stdout=pipe, stderr=pipe, limit=_LINE_BYTES, env=environment
            )
        except OSError as error:
            raise HistoryError(f"the history could not be asked: {error.strerror}") from error
        try:
            yield process
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def _note(self, problem: str) -> None:
        if problem not in self._problems:
            _log.warning("%s", problem)
        self._problems.pop(problem, None)
        self._problems[problem] = None
        while len(self._problems) > _MOST_PROBLEMS:
            self._problems.pop(next(iter(self._problems)))


async def _empty() -> AsyncIterator[bytes]:
    for line in ():
        yield line


def _add(step: Step, kind: str, row: Sequence[Any]) -> None:
    at, app, service, revision, *rest = row
    match kind:
        case "services":
            seconds, requests, classes, buckets, counts, active, held = rest
            step.services.append(
                ServiceRow(
                    at=at,
                    app=app,
                    service=service,
                    revision=revision,
                    seconds=seconds,
                    requests=requests,
                    classes=tuple(classes),
                    buckets=tuple(buckets),
                    counts=tuple(counts),
                    active=active,
                    held=held,
                )
            )
        case "tasks":
            task, node, cpu, memory, ooms = rest
            step.tasks.append(
                TaskRow(
                    at=at,
                    app=app,
                    service=service,
                    revision=revision,
                    task=task,
                    node=node,
                    cpu=cpu,
                    memory=memory,
                    ooms=ooms,
                )
            )
        case _:
            task, node, metric, labels, value = rest
            step.custom.append(
                CustomRow(
                    at=at,
                    app=app,
                    service=service,
                    revision=revision,
                    task=task,
                    node=node,
                    metric=metric,
                    labels=labels,
                    value=value,
                )
            )
