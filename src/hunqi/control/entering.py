"""Ways into running tasks, by the agent of the node on which each runs; volumes and health of containers likewise."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager

from hunqi.api.ports import Channel, Command, TaskRef
from hunqi.apps.errors import ServiceNotFoundError, TaskPathError
from hunqi.apps.operations import TaskView, Views
from hunqi.engine.errors import NotFoundError
from hunqi.nodes.agent_client import AgentClient
from hunqi.nodes.errors import AgentRefusedError
from hunqi.nodes.wire import ExecRequest


class Entrance:
    """The tasks of apps, reached through agents."""

    def __init__(self, views: Views, agents: AgentClient) -> None:
        self._views = views
        self._agents = agents

    @asynccontextmanager
    async def execute(self, app: str, task: TaskRef, command: Command) -> AsyncGenerator[Channel]:
        """Run a command; the channel ends with ``{"exit": code}``."""
        node, container = await self._find(app, task)
        request = ExecRequest(
            container=container,
            command=command.command,
            tty=command.tty,
            stdin=command.stdin,
            env=command.env,
            user=command.user,
            workdir=command.workdir,
            columns=command.columns,
            rows=command.rows,
        )
        async with self._agents.execute(node, request) as channel:
            yield channel

    @asynccontextmanager
    async def forward(self, app: str, task: TaskRef, port: int) -> AsyncGenerator[Channel]:
        """Connect to a TCP port of the task."""
        node, container = await self._find(app, task)
        async with self._agents.forward(node, container, port) as channel:
            yield channel

    @asynccontextmanager
    async def get_files(self, app: str, task: TaskRef, path: str) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Read a path as tar."""
        node, container = await self._find(app, task)
        with _path_in_task(path):
            async with self._agents.get_files(node, container, path) as chunks:
                yield chunks

    async def put_files(self, app: str, task: TaskRef, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Unpack a tar stream into a directory."""
        node, container = await self._find(app, task)
        with _path_in_task(path):
            await self._agents.put_files(node, container, path, chunks)

    async def _find(self, app: str, wanted: TaskRef) -> tuple[str, str]:
        """Return node and container of the task that is meant. Raises ``ServiceNotFoundError``."""
        services = [each.name for each in (await self._views.show(app)).services]
        if wanted.service and not wanted.task and wanted.service not in services:
            raise ServiceNotFoundError.among(app, wanted.service, services)
        tasks = [each for each in await self._views.tasks(app) if each.state == "running" and each.container]
        found = choose(tasks, wanted)
        return found.node_id, str(found.container)


@contextmanager
def _path_in_task(path: str) -> Generator[None]:
    """Say of a path that is not in a task just that, not what Docker calls it. Raises ``TaskPathError``."""
    try:
        yield
    except AgentRefusedError as error:
        if error.remote_code != NotFoundError.code:
            raise
        raise TaskPathError(f"there is no {path[:200]} in the task") from error


def choose(tasks: Sequence[TaskView], wanted: TaskRef) -> TaskView:
    """Return the running task that ``wanted`` names, of several the healthiest. Raises ``ServiceNotFoundError``."""
    if wanted.task:
        named = [each for each in tasks if each.id.startswith(wanted.task)]
        if len(named) > 1:
            raise ServiceNotFoundError(f"{wanted.task} is the beginning of {len(named)} tasks' ids: write more of it")
        if not named:
            raise ServiceNotFoundError(f"no task {wanted.task[:40]!r} runs: hunqi app show lists those that do")
        return named[0]
    fitting = [each for each in tasks if not wanted.service or each.service == wanted.service]
    if not fitting:
        what = f"of the service {wanted.service!r}" if wanted.service else "of this app"
        raise ServiceNotFoundError(f"no task {what} runs: hunqi app show says why")
    return max(fitting, key=lambda each: (each.healthy is not False, each.revision))
