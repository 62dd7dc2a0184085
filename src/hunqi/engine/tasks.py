"""Tasks of Swarm services, through a manager."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager

from hunqi.engine import parse
from hunqi.engine.logs import Lines, open_lines
from hunqi.engine.model import JSON, Task
from hunqi.engine.transport import Transport, filters, labelled, quoted


class Tasks:
    """Tasks; every method raises ``NotManagerError`` on a worker, and ``EngineUnreachableError``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(
        self,
        labels: Mapping[str, str] | None = None,
        *,
        services: Iterable[str] | None = None,
        nodes: Iterable[str] | None = None,
        ids: Iterable[str] | None = None,
        desired: Iterable[str] | None = None,
    ) -> list[Task]:
        """Return tasks; those of several values of one filter are added, filters are intersected.

        ``labels`` are the *service's* labels, which each of its tasks carries. ``services`` are ids or names;
        a name matches as a prefix, as Docker has it, so give ids where it matters.
        """
        params = {
            "filters": filters(label=labelled(labels), service=services, node=nodes, id=ids, desired_state=desired)
        }
        answer = await self._transport.call("GET", "/tasks", params=params)
        return [parse.task(item) for item in parse.items(answer, "tasks")]

    async def inspect(self, task: str) -> Task:
        """Return a task by id. Raises ``NotFoundError``."""
        return parse.task(await self.detail(task))

    async def detail(self, task: str) -> JSON:
        """Return Docker's whole answer about a task: its spec, generic resources, mounts. Raises ``NotFoundError``."""
        return parse.fields(await self._transport.call("GET", f"/tasks/{quoted(task)}"), "task")

    @asynccontextmanager
    async def logs(
        self, task: str, *, follow: bool = False, tail: int | None = None, since_s: int | None = None, tty: bool = False
    ) -> AsyncGenerator[Lines]:
        """Open the lines of one task; ``since_s`` in seconds of Unix time."""
        params = {"follow": follow, "tail": "all" if tail is None else str(tail), "since": since_s}
        path = f"/tasks/{quoted(task)}/logs"
        async with open_lines(self._transport, path, params=params, detailed=True, tty=tty) as lines:
            yield lines
