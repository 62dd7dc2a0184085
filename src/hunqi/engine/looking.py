"""Looking at the engine for the observer: the least that answers what is dirty, in pieces of bounded size."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from hunqi.engine.errors import NotFoundError
from hunqi.engine.model import LABEL_CLUSTER, Network, Payload, Service, Task
from hunqi.engine.observed import Dirty, Observed
from hunqi.engine.ports import Engine, PayloadsPort

SERVICES_AT_ONCE: Final = 32
"""Of more services than this, tasks are asked for in several calls: an answer of a few hundred KiB parses in 10 ms."""
FEW: Final = 16
"""Up to so many objects are inspected one by one; beyond, their list is shorter."""

T = TypeVar("T")


class _Labelled(Protocol):
    @property
    def labels(self) -> Mapping[str, str]: ...


class Looking:
    """Brings ``observed`` up to date. Raises the engine's errors."""

    def __init__(self, engine: Engine, observed: Observed, *, cluster: str) -> None:
        self._engine: Final = engine
        self._observed: Final = observed
        self._ours: Final = {LABEL_CLUSTER: cluster}

    async def everything(self, labels: Mapping[str, str] | None = None) -> None:
        """Look at everything of ours, or at all that carries further ``labels`` too."""
        wanted = {**self._ours, **(labels or {})}
        observed = self._observed
        services = await self._engine.services.list(wanted)
        found = {service.id for service in services}
        observed.put_services(services, gone=_missing(observed.services, found, wanted))
        if labels:
            tasks = await self._engine.tasks.list(wanted)
            observed.put_tasks({*found, *(task.service_id for task in observed.orphans)}, tasks)
        else:
            await self.tasks(sorted(found))
        await self.orphans()
        networks = await self._engine.networks.list(wanted)
        observed.put_networks(networks, gone=_missing(observed.networks, {each.id for each in networks}, wanted))
        for port, held in ((self._engine.secrets, observed.secrets), (self._engine.configs, observed.configs)):
            payloads = await port.list(wanted)
            observed.put_payloads(held, payloads, gone=_missing(held, {each.id for each in payloads}, wanted))
        observed.put_nodes(await self._engine.nodes.list())

    async def dirty(self, dirty: Dirty) -> None:
        """Look at what is dirty."""
        if dirty.everything:
            await self.everything()
            return
        observed = self._observed
        if dirty.nodes:
            observed.put_nodes(await self._engine.nodes.list())
        if dirty.services:
            await self._services(dirty.services)
        # A new service's tasks are as new as it is.
        await self.tasks(sorted((dirty.tasks | dirty.services) & observed.services.keys()))
        if dirty.services - observed.services.keys():
            await self.orphans()
        if dirty.networks:
            await self._networks(dirty.networks)
        if dirty.secrets:
            await self._payloads(self._engine.secrets, observed.secrets, dirty.secrets)
        if dirty.configs:
            await self._payloads(self._engine.configs, observed.configs, dirty.configs)

    async def tasks(self, services: Sequence[str]) -> None:
        """Look at all tasks of these services; those that are gone meanwhile are forgotten."""
        for piece in _pieces(services, SERVICES_AT_ONCE):
            try:
                self._observed.put_tasks(piece, await self._engine.tasks.list(services=piece))
            except NotFoundError:
                # One of them was removed: Docker then refuses to list any.
                for service in piece:
                    await self._tasks_of(service)

    async def orphans(self) -> None:
        """Look at the tasks of services that are gone: they serve on until they have stopped."""
        for piece in _pieces(self._observed.orphans, SERVICES_AT_ONCE):
            left = await self._engine.tasks.list(ids=[task.id for task in piece])
            known: dict[str, dict[str, Task]] = {}
            for task in piece:
                known.setdefault(task.service_id, {each.id: each for each in self._observed.tasks[task.service_id]})
                known[task.service_id].pop(task.id, None)
            for task in left:
                known[task.service_id][task.id] = task
            self._observed.put_tasks(known, [task for tasks in known.values() for task in tasks.values()])

    async def _tasks_of(self, service: str) -> None:
        try:
            self._observed.put_tasks([service], await self._engine.tasks.list(services=[service]))
        except NotFoundError:
            self._observed.put_services((), gone=[service])

    async def _services(self, ids: Collection[str]) -> None:
        if len(ids) > FEW:
            services = await self._engine.services.list(self._ours)
            found = {service.id for service in services}
            self._observed.put_services(services, gone=set(ids) - found)
            return
        for id_ in sorted(ids):
            try:
                service: Service = await self._engine.services.inspect(id_)
            except NotFoundError:
                self._observed.put_services((), gone=[id_])
            else:
                if self._is_ours(service):
                    self._observed.put_services([service])

    async def _networks(self, ids: Collection[str]) -> None:
        if len(ids) > FEW:
            networks = await self._engine.networks.list(self._ours)
            self._observed.put_networks(networks, gone=set(ids) - {each.id for each in networks})
            return
        for id_ in sorted(ids):
            try:
                network: Network = await self._engine.networks.inspect(id_)
            except NotFoundError:
                self._observed.put_networks((), gone=[id_])
            else:
                if self._is_ours(network):
                    self._observed.put_networks([network])

    async def _payloads(self, port: PayloadsPort, held: dict[str, Payload], ids: Collection[str]) -> None:
        if len(ids) > FEW:
            payloads = await port.list(self._ours)
            self._observed.put_payloads(held, payloads, gone=set(ids) - {each.id for each in payloads})
            return
        for id_ in sorted(ids):
            try:
                payload = await port.inspect(id_)
            except NotFoundError:
                self._observed.put_payloads(held, (), gone=[id_])
            else:
                if self._is_ours(payload):
                    self._observed.put_payloads(held, [payload])

    def _is_ours(self, item: _Labelled) -> bool:
        return all(item.labels.get(key) == value for key, value in self._ours.items())


def _missing(held: Mapping[str, _Labelled], found: set[str], labels: Mapping[str, str]) -> list[str]:
    """Return the ids held that carry these labels and were not found."""
    return [
        id_
        for id_, item in held.items()
        if id_ not in found and all(item.labels.get(key) == value for key, value in labels.items())
    ]


def _pieces(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
