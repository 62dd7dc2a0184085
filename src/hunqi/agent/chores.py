"""Small work on this node for control: what a healthcheck said, volumes of an app that is removed."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from hunqi.agent.errors import BadRequestError, NotOursError
from hunqi.engine.client import Docker
from hunqi.engine.errors import ConflictError, InUseError, NotFoundError
from hunqi.engine.model import JSON, LABEL_APP, LABEL_CLUSTER, Container
from hunqi.nodes.wire import HealthSaid, RemovedVolumes

IN_USE_S: Final = 20.0
_RETRY_S: Final = 1.0
_MOST_CHARACTERS: Final = 2000
_CONTAINER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


async def find_ours(docker: Docker, container: str, *, cluster: str) -> Container:
    """Return a container (id or name) of the cluster on this node. Raises :class:`NotOursError`."""
    if not _CONTAINER.fullmatch(container):
        raise NotOursError(container)
    try:
        found = await docker.containers.inspect(container)
    except NotFoundError as error:
        raise NotOursError(container) from error
    if found.labels.get(LABEL_CLUSTER) != cluster:
        raise NotOursError(container)
    return found


class Chores:
    """Answers what is asked of containers and volumes."""

    def __init__(self, docker: Docker, *, cluster: str) -> None:
        self._docker = docker
        self._cluster = cluster

    async def health(self, container: str) -> HealthSaid:
        """Return what the container's healthcheck wrote last; it may have ended since."""
        found = await find_ours(self._docker, container, cluster=self._cluster)
        state: JSON = found.detail.get("State") or {}
        health: JSON = state.get("Health") or {}
        log: list[JSON] = health.get("Log") or []
        return HealthSaid(text=str(log[-1].get("Output", "")).strip()[:_MOST_CHARACTERS] if log else "")

    async def remove_volumes(self, app: str) -> RemovedVolumes:
        """Remove the app's volumes here; one that a container is just leaving is waited for. Raises ``UserError``."""
        if not app:
            raise BadRequestError("say of which app")
        labels = {LABEL_CLUSTER: self._cluster, LABEL_APP: app}
        removed: list[str] = []
        left = [volume.name for volume in await self._docker.volumes.list(labels)]
        for _ in range(int(IN_USE_S / _RETRY_S)):
            left = [name for name in left if not await self._remove(name, removed)]
            if not left:
                break
            await asyncio.sleep(_RETRY_S)
        return RemovedVolumes(removed=tuple(removed), in_use=tuple(left))

    async def _remove(self, volume: str, removed: list[str]) -> bool:
        try:
            await self._docker.volumes.remove(volume)
        except NotFoundError:
            return True
        except (InUseError, ConflictError):
            return False
        removed.append(volume)
        return True
