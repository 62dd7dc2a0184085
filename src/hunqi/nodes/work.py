"""What apps want known or done on nodes, by the agents there (their ports ``Volumes`` and ``Diagnosis``)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Final, Protocol

from hunqi.errors import HunqiError
from hunqi.nodes.errors import NodeRefusedError
from hunqi.nodes.wire import RemovedVolumes

_log: Final = logging.getLogger(__name__)


class WorkAgents(Protocol):
    """The agents."""

    @property
    def nodes(self) -> Collection[str]:
        """Ids of the nodes that have one."""
        ...

    async def health(self, node: str, container: str) -> str:
        """Return what a healthcheck said last."""
        ...

    async def remove_volumes(self, node: str, app: str) -> RemovedVolumes:
        """Remove an app's volumes there."""
        ...


class NodeWork:
    """Volumes of all nodes, and what healthchecks said on any."""

    def __init__(self, agents: WorkAgents) -> None:
        self._agents = agents

    async def remove(self, app: str) -> None:
        """Remove the app's volumes on every node that can be reached.

        Raises ``NodeRefusedError`` if some are in use by something that is not the app's.
        """
        async with asyncio.TaskGroup() as group:
            tasks = {node: group.create_task(self._remove(node, app)) for node in self._agents.nodes}
        left = {node: answer.in_use for node, task in tasks.items() if (answer := task.result()) and answer.in_use}
        if left:
            said = "; ".join(f"{', '.join(names)} on node {node}" for node, names in sorted(left.items()))
            raise NodeRefusedError(f"volumes of {app} are still in use: {said}; stop what uses them")

    async def health(self, node: str, container: str) -> str:
        """Return what the container's healthcheck wrote last, empty if it has none or the node does not answer."""
        try:
            return await self._agents.health(node, container)
        except HunqiError as error:
            _log.info("%s", error)
            return ""

    async def _remove(self, node: str, app: str) -> RemovedVolumes | None:
        try:
            return await self._agents.remove_volumes(node, app)
        except HunqiError as error:
            _log.warning("volumes of %s stay on node %s: %s", app, node, error)
            return None
