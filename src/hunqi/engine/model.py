"""What Docker's engine says, as values. Names and states are those of the Engine API (v1.41 to v1.54).

Specs that we send stay JSON objects in the API's own shape (``JSON``): the API is their schema. What we read is
parsed once, here; a field that we do not use is not parsed. ``spec`` of a service is kept whole, since an update
must send back all that it does not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

JSON: TypeAlias = Mapping[str, Any]
"""An object of the Engine API; its values are whatever JSON holds."""

LABEL_PREFIX: Final = "io.hunqi."
"""Every object of ours carries labels below this; nothing without them is ever touched."""
LABEL_CLUSTER: Final = LABEL_PREFIX + "cluster"
LABEL_APP: Final = LABEL_PREFIX + "app"
LABEL_SERVICE: Final = LABEL_PREFIX + "service"
LABEL_REVISION: Final = LABEL_PREFIX + "revision"
LABEL_HASH: Final = LABEL_PREFIX + "hash"
LABEL_KIND: Final = LABEL_PREFIX + "kind"
LABEL_STOP_SIGNAL: Final = LABEL_PREFIX + "stop-signal"
"""On containers that are stopped by way of a drain: the app's own stop signal (``SIGTERM``), sent after it."""
LABEL_DRAIN_S: Final = LABEL_PREFIX + "drain-s"
"""Beside it: the longest wait for requests in flight, in seconds."""
DRAIN_SIGNAL: Final = "SIGURG"
"""The StopSignal of such containers: processes ignore it by default; its ``kill`` event has the number 23."""


class TaskState(StrEnum):
    """The states of a Swarm task, in the order of its life."""

    NEW = "new"
    PENDING = "pending"
    ASSIGNED = "assigned"
    ACCEPTED = "accepted"
    PREPARING = "preparing"
    READY = "ready"
    STARTING = "starting"
    RUNNING = "running"
    COMPLETE = "complete"
    SHUTDOWN = "shutdown"
    FAILED = "failed"
    REJECTED = "rejected"
    REMOVE = "remove"
    ORPHANED = "orphaned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Swarm service. ``version`` guards updates: an update with an old one is refused as a conflict."""

    id: str
    version: int
    name: str
    labels: Mapping[str, str]
    spec: JSON
    created_at: str
    updated_at: str
    network_ids: tuple[str, ...] = ()

    @property
    def replicas(self) -> int | None:
        """The replicas asked for; None for a global service or a job."""
        mode = self.spec.get("Mode", {})
        return mode["Replicated"].get("Replicas", 1) if "Replicated" in mode else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of a service: at most one container, on one node, never moved."""

    id: str
    service_id: str
    node_id: str | None
    slot: int | None
    state: TaskState
    desired_state: TaskState
    message: str
    error: str
    exit_code: int | None
    container_id: str | None
    pid: int | None
    addresses: Mapping[str, str]
    """Network id → the task's own IPv4 address there, without the prefix length."""
    image: str
    created_at: str
    updated_at: str
    spec_version: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def serving(self) -> bool:
        """Whether it runs (so its healthcheck passed) and nobody wants it to stop."""
        return self.state is TaskState.RUNNING and self.desired_state is TaskState.RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of the Swarm."""

    id: str
    version: int
    hostname: str
    role: str
    """``manager`` or ``worker``."""
    availability: str
    """``active``, ``pause`` or ``drain``."""
    state: str
    """``ready``, ``down``, ``unknown`` or ``disconnected``."""
    address: str
    labels: Mapping[str, str]
    is_leader: bool
    reachable: bool
    nano_cpus: int
    memory_bytes: int
    engine_version: str
    platform: str
    """``linux/x86_64``."""
    spec: JSON

    @property
    def ready(self) -> bool:
        """Whether tasks can run and be placed there."""
        return self.state == "ready" and self.availability == "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network; ``subnets`` in CIDR."""

    id: str
    name: str
    driver: str
    scope: str
    attachable: bool
    labels: Mapping[str, str]
    subnets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A Swarm secret or config; the data of a secret cannot be read back."""

    id: str
    version: int
    name: str
    labels: Mapping[str, str]
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume of one node."""

    name: str
    driver: str
    labels: Mapping[str, str]
    mountpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened: ``kind`` (service, node, network, container, …), ``action`` (create, kill, …)."""

    kind: str
    action: str
    id: str
    attributes: Mapping[str, str]
    time_ns: int
    scope: str = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the Swarm is, observed at once; only objects that carry our cluster's label, nodes excepted."""

    services: Mapping[str, Service]
    """By name."""
    tasks: Mapping[str, tuple[Task, ...]]
    """By service id, newest first."""
    nodes: Mapping[str, Node]
    """By id."""
    networks: Mapping[str, Network]
    """By name."""
    secrets: Mapping[str, Payload]
    """By name."""
    configs: Mapping[str, Payload]
    """By name."""
    taken_at: float
    """The clock's seconds."""

    def tasks_of(self, name: str) -> tuple[Task, ...]:
        """Return the tasks of the service ``name``, none if there is no such service."""
        service = self.services.get(name)
        return self.tasks.get(service.id, ()) if service else ()
