"""Keeps the gateway's containers and networks on one node: level-triggered, so it can begin anywhere.

Each step looks at what Docker has and does what is missing: the sandbox, the networks of the apps that are routed (with
the names of their services), an Envoy of the wanted kind. An Envoy of another kind is left alone here: ``node`` has it
drained once the wanted one serves, and says when it may go.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hunqi.engine.client import Docker
from hunqi.engine.errors import ConflictError, EngineFailedError, EngineRefusedError, NotFoundError
from hunqi.engine.model import LABEL_CLUSTER, LABEL_HASH, LABEL_KIND, Container
from hunqi.gateway.boxes import KIND_ENVOY, Box, GatewaySettings, envoy_box, sandbox_box
from hunqi.gateway.model import Edge, NetworkJoin

_OWN: Final = frozenset({"bridge", "none", "host"})
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """What there is after a step."""

    sandbox: Container
    wanted: Box
    """The Envoy that is to serve."""
    envoys: Mapping[str, Container]
    """All running Envoys of ours by their ``hash``."""
    pid: int | None = None
    """The process of the wanted one, if it has run for a while."""


class Keeper:
    """The containers of one node's gateway."""

    def __init__(self, docker: Docker, settings: GatewaySettings) -> None:
        """``docker`` is the node's own engine."""
        self._docker = docker
        self._settings = settings

    async def sandbox(self, edge: Edge, image: str) -> Container:
        """Return the running sandbox, made or started if need be. Raises the engine's errors (a port is taken)."""
        box = sandbox_box(self._settings, edge, image)
        found = await self._find(box.name)
        if found is not None and found.labels.get(LABEL_HASH) != box.hash:
            _log.info("the gateway's ports have changed: its sandbox is made anew")
            for each in await self._envoys(stopped=True):
                await self._remove(each.id)
            await self._remove(found.id)
            found = None
        if found is None:
            await self._create(box)
        if found is None or not found.running:
            await self._docker.containers.start(box.name)
        return await self._docker.containers.inspect(box.name)

    async def join(self, sandbox: Container, joins: Sequence[NetworkJoin]) -> list[str]:
        """Put the sandbox into the networks it lacks, again where its names there have changed.

        Returns a sentence for each network that cannot be joined now; the others are joined all the same.
        """
        problems: list[str] = []
        there = _networks(sandbox)
        for join in joins:
            names = there.get(join.network)
            if names is not None and names == frozenset(join.aliases):
                continue
            try:
                if names is not None:
                    await self._leave(join.network, sandbox.id)
                await self._docker.networks.connect(join.network, sandbox.id, aliases=join.aliases)
            except EngineRefusedError as error:
                if "already" not in str(error):
                    problems.append(f"network {join.network} cannot be joined: {error}")
            except (EngineFailedError, ConflictError) as error:
                problems.append(f"network {join.network} cannot be joined now: {error}")
            except NotFoundError:
                problems.append(f"network {join.network} is not there (any more)")
        return problems

    async def leave(self, sandbox: Container, keep: Collection[str]) -> None:
        """Take the sandbox out of every network that is not one of ``keep``."""
        for network in _networks(sandbox).keys() - set(keep):
            await self._leave(network, sandbox.id)

    async def envoy(self, sandbox: Container, edge: Edge, image: str) -> Stand:
        """Start the wanted Envoy if it does not run, anew if it has lost the sandbox's namespace."""
        box = envoy_box(self._settings, edge, image, sandbox.id)
        found = await self._find(box.name)
        pid = None
        if found is None:
            await self._create(box)
            await self._docker.containers.start(box.name)
        elif not found.running:
            await self._docker.containers.start(box.name)
        elif _started(found) < _started(sandbox):
            _log.warning("the gateway's sandbox has been restarted: its Envoy is, too")
            await self._docker.containers.stop(box.name, grace_s=0)
            await self._docker.containers.start(box.name)
        else:
            pid = found.pid
        running = {each.labels[LABEL_HASH]: each for each in await self._envoys() if LABEL_HASH in each.labels}
        return Stand(sandbox=sandbox, wanted=box, envoys=running, pid=pid)

    async def remove_envoy(self, digest: str) -> None:
        """End an Envoy that is not wanted any more, running or not."""
        await self._remove(f"{self._settings.name}-{digest}")

    async def remove_all(self) -> None:
        """Remove the gateway from this node."""
        for each in await self._envoys(stopped=True):
            await self._remove(each.id)
        await self._remove(self._settings.name)

    async def dead_envoys(self) -> list[str]:
        """Return the ``hash`` of Envoys that do not run."""
        every = await self._envoys(stopped=True)
        return [each.labels[LABEL_HASH] for each in every if not each.running and LABEL_HASH in each.labels]

    async def _find(self, name: str) -> Container | None:
        try:
            found = await self._docker.containers.inspect(name)
        except NotFoundError:
            return None
        if found.labels.get(LABEL_CLUSTER) != self._settings.cluster:
            raise ConflictError(f"the container {name} is not ours: rename or remove it")
        return found

    async def _envoys(self, *, stopped: bool = False) -> list[Container]:
        labels = {LABEL_CLUSTER: self._settings.cluster, LABEL_KIND: KIND_ENVOY}
        found = await self._docker.containers.list(labels, stopped=stopped)
        return [each for each in found if each.name.lstrip("/").startswith(self._settings.name + "-")]

    async def _create(self, box: Box) -> None:
        # Whoever created it meanwhile was an earlier step of ours that did not hear the answer.
        with contextlib.suppress(ConflictError):
            await self._docker.containers.create(box.name, box.spec)

    async def _remove(self, container: str) -> None:
        with contextlib.suppress(NotFoundError, ConflictError):
            await self._docker.containers.remove(container, force=True)

    async def _leave(self, network: str, container: str) -> None:
        with contextlib.suppress(NotFoundError, EngineRefusedError):
            await self._docker.networks.disconnect(network, container, force=True)


def _networks(sandbox: Container) -> dict[str, frozenset[str]]:
    """Return the networks joined, each with the names there that Docker has not given itself."""
    settings: Any = sandbox.detail.get("NetworkSettings", {})
    given = {sandbox.id[:12], sandbox.name.lstrip("/"), "gateway"}
    return {
        str(name): frozenset(each.get("Aliases") or ()) - given
        for name, each in settings.get("Networks", {}).items()
        if name not in _OWN
    }


def _started(container: Container) -> str:
    """Times of Docker are UTC with trailing zeros cut off, so without the Z they compare as text."""
    state: Any = container.detail.get("State", {})
    return str(state.get("StartedAt", "")).rstrip("Z")
