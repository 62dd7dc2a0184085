"""An observer that asks again and again: what the tests of apps use in place of the one that follows events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from hunqi.engine.model import LABEL_CLUSTER, Snapshot, Task
from hunqi.engine.ports import Engine
from hunqi.errors import HunqiError


class PollingObserver:
    def __init__(self, engine: Engine, cluster: str, *, every_s: float = 0.02) -> None:
        self._engine = engine
        self._labels = {LABEL_CLUSTER: cluster}
        self._every_s = every_s
        self._snapshot: Snapshot | None = None
        self._new = asyncio.Event()

    @property
    def snapshot(self) -> Snapshot | None:
        return self._snapshot

    async def run(self) -> None:
        while True:
            with suppress(HunqiError):
                await self.refresh()
            await asyncio.sleep(self._every_s)

    async def follow(self) -> AsyncIterator[Snapshot]:
        while True:
            if self._snapshot is not None:
                yield self._snapshot
            waiting = self._new
            await waiting.wait()

    async def refresh(self, *, app: str | None = None) -> Snapshot:
        engine, taken = self._engine, time.monotonic()
        services = await engine.services.list(self._labels)
        tasks: dict[str, list[Task]] = {service.id: [] for service in services}
        for task in await engine.tasks.list():
            if task.service_id in tasks:
                tasks[task.service_id].append(task)
        snapshot = Snapshot(
            services={service.name: service for service in services},
            tasks={
                id_: tuple(sorted(held, key=lambda task: task.created_at, reverse=True)) for id_, held in tasks.items()
            },
            nodes={node.id: node for node in await engine.nodes.list()},
            networks={network.name: network for network in await engine.networks.list(self._labels)},
            secrets={payload.name: payload for payload in await engine.secrets.list(self._labels)},
            configs={payload.name: payload for payload in await engine.configs.list(self._labels)},
            taken_at=taken,
        )
        self._snapshot = snapshot
        self._new.set()
        self._new = asyncio.Event()
        return snapshot
