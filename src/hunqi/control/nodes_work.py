"""What the apps' room wants to know or do on nodes: volumes, and what a container's healthcheck said."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, Final

from hunqi.engine.client import Docker
from hunqi.engine.errors import ConflictError, EngineRefusedError, InUseError, NotFoundError
from hunqi.engine.model import LABEL_APP, LABEL_CLUSTER
from hunqi.errors import HunqiError

_IN_USE_S: Final = 20.0
_RETRY_S: Final = 1.0
_MOST_CHARACTERS: Final = 2000
_log: Final = logging.getLogger(__name__)


class NodeVolumes:
    """Volumes of this node. Those of other nodes are removed by the agents there."""

    def __init__(self, docker: Docker, *, cluster: str) -> None:
        self._docker = docker
        self._cluster = cluster

    async def remove(self, app: str) -> None:
        """Remove the app's volumes here; one that a container is just leaving is waited for."""
        deadline = asyncio.get_running_loop().time() + _IN_USE_S
        for volume in await self._docker.volumes.list({LABEL_CLUSTER: self._cluster, LABEL_APP: app}):
            while True:
                try:
                    await self._docker.volumes.remove(volume.name)
                except NotFoundError:
                    break
                except (InUseError, ConflictError):
                    if asyncio.get_running_loop().time() > deadline:
                        raise
                    await asyncio.sleep(_RETRY_S)
                else:
                    break


class ContainerHealth:
    """What healthchecks of containers of this node said last."""

    def __init__(self, docker: Docker, *, node: str) -> None:
        self._docker = docker
        self._node = node

    async def health(self, node: str, container: str) -> str:
        """Return it, empty if there is none or the container is on another node."""
        if node != self._node:
            return ""
        with suppress(NotFoundError, EngineRefusedError, HunqiError):
            found = await self._docker.containers.inspect(container)
            health: Any = found.detail.get("State", {}).get("Health") or {}
            said = [str(each.get("Output", "")).strip() for each in health.get("Log") or ()]
            return said[-1][:_MOST_CHARACTERS] if said else ""
        return ""
