"""What an app is: the normalised spec that a Compose file becomes, and its revisions.

A spec is a value without names of the engine in it: the compiler to Swarm (``swarm.py``) gives those. Secrets and
configs stand in it as digests of their content; the bytes lie sealed in the state. Two specs with equal JSON are the
same spec, so a deploy of what runs already can be seen to be one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from hunqi.apps.lanes import Match
from hunqi.apps.metrics_spec import MetricsSpec
from hunqi.apps.rollout_spec import RolloutSpec
from hunqi.apps.scale_spec import ScaleSpec

NETWORK_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p"})
"""Types of the local volume driver whose data do not lie on the node."""


class Mode(StrEnum):
    """How Swarm runs a service."""

    REPLICATED = "replicated"
    GLOBAL = "global"
    REPLICATED_JOB = "replicated-job"
    GLOBAL_JOB = "global-job"


class Order(StrEnum):
    """How a service is replaced: both side by side with a switch of traffic, or the old one stopped first."""

    START_FIRST = "start-first"
    STOP_FIRST = "stop-first"


class Condition(StrEnum):
    """What a dependency must have reached (Compose ``depends_on.condition``)."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


class Protocol(StrEnum):
    """What the gateway speaks to the tasks."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """``service`` must have reached ``condition`` first; an optional one may be absent."""

    service: str
    condition: Condition = Condition.STARTED
    required: bool = True
    restart: bool = False
    """Whether the dependent is replaced too when a deploy or a restart replaces ``service``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A service on a network (a key of the spec's ``networks``), under more names than its own."""

    network: str
    aliases: tuple[str, ...] = ()
    driver_options: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A secret or config (a key of the spec's) shown to a service as a file."""

    source: str
    target: str
    """An absolute path, or a name below /run/secrets (secrets) or / (configs)."""
    uid: str = "0"
    gid: str = "0"
    mode: int = 0o444


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """``kind`` is volume, bind, tmpfs or npipe as the Engine API has it; ``source`` is a key of ``volumes``."""

    kind: str
    target: str
    source: str = ""
    read_only: bool = False
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """BindOptions, VolumeOptions or TmpfsOptions of the Engine API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """What a route answers to preflights; times in seconds."""

    origins: tuple[str, ...]
    methods: tuple[str, ...] = ("GET", "HEAD", "POST")
    headers: tuple[str, ...] = ()
    credentials: bool = False
    max_age_s: int = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """A token bucket per gateway: ``requests`` in each ``per_s`` seconds, ``burst`` at once."""

    requests: int
    per_s: float = 1.0
    burst: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """One way from the outside to a port of a service (``x-hunqi.routes``)."""

    port: int
    hosts: tuple[str, ...] = ()
    """Exact names or ``*.example.com``; empty with ``tcp_port``."""
    path: str = "/"
    """A prefix by whole segments; ``=`` before it means exactly this path."""
    headers: tuple[Match, ...] = ()
    protocol: Protocol = Protocol.HTTP1
    strip_prefix: bool = False
    replace_prefix: str | None = None
    host_rewrite: str | None = None
    redirect: str | None = None
    """An URL or ``https``; nothing is forwarded then."""
    redirect_code: int = 308
    cors: Cors | None = None
    body_limit_bytes: int | None = None
    rate_limit: RateLimit | None = None
    basic_auth: tuple[str, ...] = ()
    """Lines of htpasswd, ``user:{SHA}…``, as Envoy takes them."""
    allow: tuple[str, ...] = ()
    """Networks in CIDR that may come; empty means all."""
    request_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    response_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    timeout_s: float = 60.0
    """From the end of the request to the end of the answer; 0 means none. Upgraded streams have none."""
    idle_timeout_s: float = 300.0
    retries: int = 2
    """Of safe requests (GET, HEAD, OPTIONS, and what never reached a task); never a second POST."""
    hold_s: float = 30.0
    """How long a request waits for a healthy task while there is none."""
    tcp_port: int | None = None
    """A port of the published range, for TCP and UDP; 443 with ``hosts`` and protocol TCP is TLS passthrough."""
    tls: str = "auto"
    """``auto`` (given, ACME or local), ``off``, or ``passthrough``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSpec:
    """The gateway's own active check of each task (``x-hunqi.health``); seconds."""

    path: str | None = None
    """An HTTP path whose 2xx or 3xx is healthy; None only connects."""
    port: int | None = None
    host: str | None = None
    interval_s: float = 1.0
    timeout_s: float = 2.0
    healthy_after: int = 1
    unhealthy_after: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """One service of an app."""

    name: str
    image: str
    """As the user wrote it until the deploy pins it: then with ``@sha256:…``."""
    mode: Mode = Mode.REPLICATED
    replicas: int = 1
    completions: int | None = None
    template: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Parts of the Engine API's TaskTemplate that need no names of ours: ContainerSpec (without Image, Mounts, Secrets,
    Configs, StopSignal, StopGracePeriod), Resources, RestartPolicy, Placement, LogDriver, Runtime."""
    service_labels: Mapping[str, str] = field(default_factory=dict[str, str])
    networks: tuple[Attachment, ...] = ()
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[Grant, ...] = ()
    configs: tuple[Grant, ...] = ()
    depends_on: tuple[Dependency, ...] = ()
    routes: tuple[RouteSpec, ...] = ()
    health: HealthSpec = HealthSpec()
    order: Order = Order.START_FIRST
    internal: str = "tasks"
    """What the service's name resolves to inside the app: ``gateway`` (HTTP services) or ``tasks``."""
    internal_ports: tuple[int, ...] = ()
    """The HTTP ports at which the gateway stands for the service inside the app."""
    internal_protocol: Protocol = Protocol.HTTP1
    stop_signal: str = ""
    """The app's own, empty for that of its image; a drained service is given another by the compiler to Swarm."""
    stop_grace_s: float = 10.0
    drain_s: float = 15.0
    """How long requests in flight are waited for before the stop signal."""
    parallelism: int = 0
    """Tasks started at a time when the service is replaced; 0 means all."""
    ready_timeout_s: float = 300.0
    """How long a deploy waits for the service to be healthy."""
    schedule: str | None = None
    """Five fields of cron, for jobs."""
    restart_on_dependency: bool = False
    """Of revisions stored before their dependencies said so each for itself: ``restart`` of all of them."""
    scale: ScaleSpec | None = None
    """How load moves the replicas; None leaves them to the file and to users."""
    metrics: MetricsSpec | None = None
    """Where its tasks tell what they count themselves; None is nowhere."""

    @property
    def routed(self) -> bool:
        """Whether the gateway sends it traffic, from outside or from inside the app."""
        return bool(self.routes) or self.internal == "gateway"

    @property
    def drained(self) -> bool:
        """Whether its tasks are stopped by way of a drain: routed, and without volumes of its own."""
        return self.routed and not any(mount.kind == "volume" for mount in self.mounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A network of the app; ``external`` is the name of one that exists, ``shared`` a named one of ours."""

    name: str
    external: str | None = None
    shared: str | None = None
    internal: bool = False
    encrypted: bool = False
    driver_options: Mapping[str, str] = field(default_factory=dict[str, str])
    subnets: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpec:
    """A volume of the app; local ones pin their services to the node that holds them."""

    name: str
    external: str | None = None
    driver: str = "local"
    driver_options: Mapping[str, str] = field(default_factory=dict[str, str])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def pinning(self) -> bool:
        """Whether its data lie on one node: the local driver, unless it mounts a file system of the network."""
        return self.driver == "local" and self.driver_options.get("type", "") not in NETWORK_FILE_SYSTEMS


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadSpec:
    """A secret or config: the digest of its content (of secrets a keyed one), or the name of an external one."""

    name: str
    digest: str | None = None
    external: str | None = None
    """The name of one kept by ``hunqi secret``, or of a Swarm secret that is there."""
    template: str | None = None
    """The template driver, ``golang``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSpec:
    """A whole app. ``services`` are in the order of the file."""

    name: str
    services: Mapping[str, ServiceSpec]
    networks: Mapping[str, NetworkSpec] = field(default_factory=dict[str, NetworkSpec])
    volumes: Mapping[str, VolumeSpec] = field(default_factory=dict[str, VolumeSpec])
    secrets: Mapping[str, PayloadSpec] = field(default_factory=dict[str, PayloadSpec])
    configs: Mapping[str, PayloadSpec] = field(default_factory=dict[str, PayloadSpec])
    extensions: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of ``x-hunqi`` what later rooms read: scale, binding, snapshot; those of services below ``services``."""
    maintenance: str | None = None
    """The text of the maintenance page that answers instead of the app, while this spec is deployed."""
    rollout: RolloutSpec | None = None
    """How traffic moves to this revision; None switches at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A key of the file that is not honoured as written, and what happens instead."""

    file: str
    line: int
    path: str
    """``services.web.container_name``."""
    instead: str
    severity: str = "ignored"
    """``ignored``, ``changed`` (honoured otherwise) or ``error``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A Compose project read whole: its spec, the bytes of its payloads by digest, and what it dropped."""

    spec: AppSpec
    payloads: Mapping[str, bytes] = field(repr=False)
    notes: tuple[Note, ...]
    privileges: tuple[Note, ...] = ()
    """What the app asks of the machines beyond a container of its own (paths of the host, capabilities, the host's
    network, objects that exist): for those to allow who answer for the machines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """An immutable app spec with every image pinned by digest."""

    app: str
    number: int
    spec: AppSpec
    origin: Mapping[str, int]
    """Service → the revision in which it last changed: the number in the name of its Swarm service."""
    created_at: datetime
    actor: str
    reason: str


class DeployState(StrEnum):
    """Where a deploy is; the first five are on the way, the others are ends."""

    PENDING = "pending"
    STARTING = "starting"
    SHIFTING = "shifting"
    """Both revisions serve; a rollout decides who goes to which."""
    SWITCHING = "switching"
    DRAINING = "draining"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left to be done."""
        return self in {DeployState.SUCCEEDED, DeployState.FAILED, DeployState.CANCELLED, DeployState.SUPERSEDED}
