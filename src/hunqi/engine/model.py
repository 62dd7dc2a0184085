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
LABEL_DRAIN: Final = LABEL_PREFIX + "drain"
"""Of a container that is stopped by way of a drain: the longest wait for requests in flight, in seconds."""
LABEL_STOP_SIGNAL: Final = LABEL_PREFIX + "stop-signal"
"""Of a container: the app's own stop signal, which the agent sends after the drain. Without it: the image's."""
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
    version: int = 0
    """Grows with each change of the task."""
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
    """A network; ``subnets`` in CIDR. An overlay has neither driver nor subnets for a moment after its creation."""

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
    template: str = ""
    """The driver that expands it for each task: ``golang``, or none."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAuth:
    """A login that travels in a header of one call; never in a spec, a log or a ``repr``."""

    username: str
    password: str = field(repr=False)
    server: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmState:
    """How this node stands to a Swarm."""

    state: str
    """``inactive``, ``pending``, ``active``, ``error`` or ``locked``."""
    is_manager: bool
    node_id: str
    node_address: str
    managers: tuple[str, ...]
    """``address:port`` of every manager that this node knows."""
    cluster_id: str
    error: str

    @property
    def active(self) -> bool:
        """Whether the node is in a Swarm and takes part."""
        return self.state == "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """A Docker daemon and its machine."""

    name: str
    """The host's name."""
    version: str
    os: str
    arch: str
    kernel: str
    cpus: int
    memory_bytes: int
    storage_driver: str
    cgroup_version: str
    data_root: str
    swarm: SwarmState
    log_driver: str = ""
    """Where containers write that say nothing else: ``json-file``, ``journald``, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmSettings:
    """The Swarm itself; only a manager sees it."""

    id: str
    version: int
    worker_token: str = field(repr=False)
    manager_token: str = field(repr=False)
    address_pools: tuple[str, ...]
    subnet_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of this node. ``detail`` is Docker's whole answer, empty when it came from a list."""

    id: str
    name: str
    image: str
    image_id: str
    state: str
    """``created``, ``running``, ``paused``, ``restarting``, ``exited``, ``removing`` or ``dead``."""
    labels: Mapping[str, str]
    addresses: Mapping[str, str]
    """Network name → IPv4 address there."""
    pid: int | None = None
    exit_code: int | None = None
    health: str = ""
    """``starting``, ``healthy`` or ``unhealthy``; empty without a healthcheck (or from a list)."""
    detail: JSON = field(default_factory=dict[str, Any], repr=False)

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.state == "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that this node holds."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    """``repository@sha256:…`` under which it was pulled."""
    size_bytes: int
    labels: Mapping[str, str]
    created: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line that a container wrote. ``time`` is RFC 3339 with nanoseconds, UTC."""

    text: str
    stream: str
    """``stdout`` or ``stderr``."""
    time: str
    task: str = ""
    node: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """A line of Docker's account of a pull."""

    status: str
    layer: str
    current_bytes: int | None = None
    total_bytes: int | None = None
