"""Why a deploy failed, gathered for the reader: the failing task's exit code, its last lines, what its checks said."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from typing import Final

from hunqi.apps.operations import Problem
from hunqi.apps.ports import Diagnosis
from hunqi.apps.situation import Situation
from hunqi.apps.steps import Fail
from hunqi.engine.model import Task
from hunqi.engine.ports import Engine, LineStream
from hunqi.errors import HunqiError

LINES: Final = 20
_TIMEOUT_S: Final = 5.0
_LINE_CHARACTERS: Final = 2000

_log = logging.getLogger(__name__)


class Diagnosing:
    """Looks at failing tasks."""

    def __init__(self, engine: Engine, diagnosis: Diagnosis) -> None:
        self._engine = engine
        self._diagnosis = diagnosis

    async def problem(self, step: Fail, at: Situation) -> Problem:
        """Return what is to be told of a failure; what cannot be found out in a few seconds is left out."""
        task = self._task(step, at)
        problem = Problem(code=step.code, message=step.sentence, remedy=step.remedy, service=step.service)
        if task is None:
            return problem
        return Problem(
            code=step.code,
            message=step.sentence,
            remedy=step.remedy,
            service=step.service,
            task=task.id,
            exit_code=task.exit_code,
            log=await self._lines(task) or await self._lines_of_service(step, at),
            health=await self._health(task, at),
        )

    def _task(self, step: Fail, at: Situation) -> Task | None:
        if at.target is None or step.service not in at.target.spec.services:
            return None
        standing = at.standings.get(at.name(at.target, step.service))
        tasks = standing.tasks if standing else ()
        named = next((task for task in tasks if task.id == step.task), None)
        failed = next((task for task in tasks if task.exit_code), None)
        return named or failed or next(iter(tasks), None)

    async def _lines(self, task: Task) -> tuple[str, ...]:
        return await _read(task.id, self._engine.tasks.logs(task.id, tail=LINES))

    async def _lines_of_service(self, step: Fail, at: Situation) -> tuple[str, ...]:
        """Return the last lines of all tasks: Docker has removed the one that failed already."""
        name = at.name(at.target, step.service) if at.target else step.service
        return await _read(name, self._engine.services.logs(name, tail=LINES))

    async def _health(self, task: Task, at: Situation) -> str:
        for report in at.facts.health.values():
            if task.id in report.failures:
                return report.failures[task.id]
        if task.node_id is None or task.container_id is None:
            return ""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await self._diagnosis.health(task.node_id, task.container_id)
        except (HunqiError, TimeoutError):
            return ""


async def _read(name: str, opening: AbstractAsyncContextManager[LineStream]) -> tuple[str, ...]:
    found: list[str] = []
    try:
        async with asyncio.timeout(_TIMEOUT_S), opening as lines:
            async for line in lines:
                found.append(line.text[:_LINE_CHARACTERS])  # noqa: PERF401 - what came before an error is kept
    except (HunqiError, TimeoutError) as error:
        _log.info("%s: its last lines cannot be read: %s", name, error or "in time")
    return tuple(found[-LINES:])
