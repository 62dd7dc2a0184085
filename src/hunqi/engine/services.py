"""Swarm services, through a manager."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from hunqi.engine import parse
from hunqi.engine.logs import Lines, open_lines
from hunqi.engine.model import JSON, RegistryAuth, Service, TaskState
from hunqi.engine.transport import Transport, auth_headers, filters, labelled, quoted

_CLEARED_S: Final = 5.0
"""The leader clears four times a second; what takes longer is not being cleared."""
_CLEARED_LOOK_S: Final = 0.1
_ENDED: Final = frozenset(
    {
        TaskState.COMPLETE,
        TaskState.SHUTDOWN,
        TaskState.FAILED,
        TaskState.REJECTED,
        TaskState.REMOVE,
        TaskState.ORPHANED,
    }
)


class Services:
    """Services; every method raises ``NotManagerError`` on a worker, and ``EngineUnreachableError``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(
        self, labels: Mapping[str, str] | None = None, *, names: Iterable[str] | None = None
    ) -> list[Service]:
        """Return the services with all of these labels (an empty value: the label with any), of these names."""
        params = {"filters": filters(label=labelled(labels), name=names)}
        return [
            parse.service(item)
            for item in parse.items(await self._transport.call("GET", "/services", params=params), "services")
        ]

    async def inspect(self, service: str) -> Service:
        """Return a service by id or name. Raises ``NotFoundError``."""
        return parse.service(parse.fields(await self._transport.call("GET", f"/services/{quoted(service)}"), "service"))

    async def create(self, spec: JSON, *, registry_auth: RegistryAuth | None = None) -> str:
        """Create a service of the API's ``ServiceSpec`` and return its id.

        Raises ``ConflictError`` where the name is taken, ``EngineRefusedError`` for a spec that means nothing.
        """
        answer = await self._transport.call("POST", "/services/create", body=spec, headers=auth_headers(registry_auth))
        return parse.fields(answer, "service")["ID"]

    async def update(
        self, service: str, version: int, spec: JSON, *, registry_auth: RegistryAuth | None = None
    ) -> None:
        """Replace the spec of the service at ``version``; without a login the one it has stays.

        Raises ``ConflictError`` if it was changed since, ``NotFoundError``, ``EngineRefusedError``.
        """
        await self._transport.call(
            "POST",
            f"/services/{quoted(service)}/update",
            params={"version": version, "registryAuthFrom": "spec"},
            body=spec,
            headers=auth_headers(registry_auth),
        )

    async def remove(self, service: str) -> None:
        """Remove a service; its tasks are stopped afterwards. Raises ``NotFoundError``.

        Tasks that have ended after a scaling down are cleared away by the Swarm's leader a moment later. A service that
        is removed just then kills the leader's daemon: it looks such a task up once more and goes on with nothing
        (``SetServiceTasksRemove`` of swarmkit; seen in Docker 20.10.24 once in some tens of removals). So they are
        waited for.
        """
        found = await self.inspect(service)
        for _ in range(round(_CLEARED_S / _CLEARED_LOOK_S)):
            if not await self._clears(found.id):
                break
            await asyncio.sleep(_CLEARED_LOOK_S)
        await self._transport.call("DELETE", f"/services/{quoted(service)}")

    async def _clears(self, service: str) -> bool:
        """Whether tasks of the service (its id) are about to be cleared away."""
        params = {"filters": filters(service=[service])}
        found = parse.items(await self._transport.call("GET", "/tasks", params=params), "tasks")
        tasks = [parse.task(item) for item in found]
        return any(task.desired_state is TaskState.REMOVE and task.state in _ENDED for task in tasks)

    @asynccontextmanager
    async def logs(
        self,
        service: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_s: int | None = None,
        tty: bool = False,
    ) -> AsyncGenerator[Lines]:
        """Open the lines of all tasks of a service; ``since_s`` in seconds of Unix time."""
        params = {"follow": follow, "tail": "all" if tail is None else str(tail), "since": since_s}
        path = f"/services/{quoted(service)}/logs"
        async with open_lines(self._transport, path, params=params, detailed=True, tty=tty) as lines:
            yield lines
