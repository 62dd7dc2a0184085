"""What the observer holds between looks, and which of it has to be looked at again. No I/O.

Tasks of one service are one tuple, newest first, and the mappings are copied only when a snapshot is asked for after
a change, so that a snapshot never changes under its reader.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from hunqi.engine.model import Network, Node, Payload, Service, Snapshot, Task, TaskState

_OVER: Final = frozenset({
    TaskState.COMPLETE, TaskState.SHUTDOWN, TaskState.FAILED, TaskState.REJECTED, TaskState.REMOVE, TaskState.ORPHANED,
})  # fmt: skip
_UNWANTED: Final = frozenset({TaskState.SHUTDOWN, TaskState.REMOVE})


@dataclass(slots=True, kw_only=True)
class Dirty:
    """What has to be looked at again."""

    everything: bool = False
    nodes: bool = False
    services: set[str] = field(default_factory=set[str])
    tasks: set[str] = field(default_factory=set[str])
    """Ids of services whose tasks changed."""
    networks: set[str] = field(default_factory=set[str])
    secrets: set[str] = field(default_factory=set[str])
    configs: set[str] = field(default_factory=set[str])

    def __bool__(self) -> bool:
        """Whether there is anything."""
        sets = (self.services, self.tasks, self.networks, self.secrets, self.configs)
        return self.everything or self.nodes or any(sets)

    def add(self, other: Dirty) -> None:
        """Take in what another has."""
        self.everything |= other.everything
        self.nodes |= other.nodes
        self.services |= other.services
        self.tasks |= other.tasks
        self.networks |= other.networks
        self.secrets |= other.secrets
        self.configs |= other.configs


class Observed:
    """The last known state. ``revision`` grows with every change."""

    def __init__(self) -> None:
        self.services: Final[dict[str, Service]] = {}
        """By id."""
        self.tasks: Final[dict[str, tuple[Task, ...]]] = {}
        """By service id."""
        self.nodes: dict[str, Node] = {}
        self.networks: Final[dict[str, Network]] = {}
        self.secrets: Final[dict[str, Payload]] = {}
        self.configs: Final[dict[str, Payload]] = {}
        self.moving: Final[set[str]] = set()
        """Ids of services whose tasks are on their way to another state."""
        self.revision = 0
        self._snapshot: tuple[int, Snapshot] | None = None

    def put_services(self, services: Iterable[Service], *, gone: Collection[str] = ()) -> set[str]:
        """Take in services as they are now and forget those gone; return the ids of the changed."""
        changed: set[str] = set()
        for service in services:
            held = self.services.get(service.id)
            # An answer can be older than what an earlier one said: versions only grow.
            if held is None or held.version < service.version:
                self.services[service.id] = service
                changed.add(service.id)
        for id_ in gone:
            if self.services.pop(id_, None) is not None:
                changed.add(id_)
        self._settle(changed)
        return changed

    def put_tasks(self, service_ids: Iterable[str], tasks: Iterable[Task]) -> set[str]:
        """Take in all tasks of these services; return the ids of the services whose tasks changed."""
        by_service: dict[str, list[Task]] = {id_: [] for id_ in service_ids}
        for task in tasks:
            by_service.setdefault(task.service_id, []).append(task)
        changed: set[str] = set()
        for id_, found in by_service.items():
            found.sort(key=lambda task: (task.created_at, task.id), reverse=True)
            now = tuple(found)
            if self.tasks.get(id_, ()) == now:
                continue
            changed.add(id_)
            if now:
                self.tasks[id_] = now
            else:
                self.tasks.pop(id_, None)
        self._settle(changed)
        return changed

    def put_nodes(self, nodes: Iterable[Node]) -> None:
        """Take in all nodes."""
        now = {node.id: node for node in nodes}
        if now != self.nodes:
            self.nodes = now
            self._settle(self.services.keys())

    def put_networks(self, networks: Iterable[Network], *, gone: Collection[str] = ()) -> None:
        """Take in networks, forget those gone (ids)."""
        self._count(_put(self.networks, {each.id: each for each in networks}, gone))

    def put_payloads(self, held: dict[str, Payload], found: Iterable[Payload], *, gone: Collection[str] = ()) -> None:
        """Take in secrets or configs (``held`` is this object's), forget those gone (ids)."""
        self._count(_put(held, {each.id: each for each in found}, gone))

    @property
    def unallocated(self) -> set[str]:
        """Ids of networks that the Swarm has given no driver and subnet yet; no event tells when it has."""
        return {
            id_ for id_, each in self.networks.items() if each.scope == "swarm" and not (each.driver and each.subnets)
        }

    @property
    def orphans(self) -> list[Task]:
        """Tasks of services that are gone."""
        return [task for id_, tasks in self.tasks.items() if id_ not in self.services for task in tasks]

    def snapshot(self, taken_at: float) -> Snapshot:
        """Return the state as a value."""
        if self._snapshot is None or self._snapshot[0] != self.revision:
            made = Snapshot(
                services={each.name: each for each in self.services.values()},
                tasks=dict(self.tasks),
                nodes=dict(self.nodes),
                networks={each.name: each for each in self.networks.values()},
                secrets={each.name: each for each in self.secrets.values()},
                configs={each.name: each for each in self.configs.values()},
                taken_at=taken_at,
            )
            self._snapshot = (self.revision, made)
        return self._snapshot[1]

    def _settle(self, changed: Collection[str]) -> None:
        for id_ in changed:
            if self._is_moving(id_):
                self.moving.add(id_)
            else:
                self.moving.discard(id_)
        self._count(changed)

    def _is_moving(self, service_id: str) -> bool:
        service, tasks = self.services.get(service_id), self.tasks.get(service_id, ())
        if service is None:
            return False
        if any(self._is_on_its_way(task) for task in tasks):
            return True
        replicas = service.replicas
        return replicas is not None and sum(task.serving for task in tasks) != replicas

    def _is_on_its_way(self, task: Task) -> bool:
        if task.state in _OVER:
            return False
        node = self.nodes.get(task.node_id or "")
        if node is not None and node.state == "down":
            return False
        return task.desired_state in _UNWANTED or task.state is not TaskState.RUNNING

    def _count(self, changed: Collection[str]) -> None:
        if changed:
            self.revision += 1


def _put(
    held: dict[str, Network] | dict[str, Payload], found: dict[str, Network] | dict[str, Payload], gone: Collection[str]
) -> set[str]:
    changed: set[str] = {id_ for id_ in gone if held.pop(id_, None) is not None}
    for id_, each in found.items():
        if held.get(id_) != each:
            held[id_] = each  # pyright: ignore[reportArgumentType]  # both mappings are of one kind
            changed.add(id_)
    return changed
