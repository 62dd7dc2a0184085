"""What every gateway of the cluster is told: one table of routes, clusters and certificates.

The table is a value made by control (``table.py``) from the apps that run and the tasks that serve them; each node's
agent renders it into Envoy's resources (``render``, pure) and writes those as files. Its JSON is what travels, over
mutual TLS; keys of certificates are in it, so it is never logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hunqi.apps.lanes import LaneKey, LaneMatch
from hunqi.apps.model import HealthSpec, Protocol, RouteSpec


class EndpointState(StrEnum):
    """Whether a task takes new requests."""

    SERVING = "serving"
    DRAINING = "draining"
    """It keeps what it has and gets nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A task at its own address on a network that the gateways share with it."""

    address: str
    port: int
    task: str
    node: str
    state: EndpointState = EndpointState.SERVING


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The tasks of one Swarm service at one port, named ``<swarm service>:<port>`` (``shop_web-r7:8080``)."""

    name: str
    protocol: Protocol
    health: HealthSpec
    endpoints: tuple[Endpoint, ...] = ()
    connect_timeout_s: float = 1.0
    idle_timeout_s: float = 1.5
    """Shorter than any app's own, so that no request is sent on a connection that the app is closing."""
    app: str = ""
    service: str = ""
    revision: int = 0
    hold_s: float = 0.0
    """How long a request waits here while no endpoint is healthy; 0 refuses it at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A share of a route's traffic; the weights of a route sum to 100."""

    cluster: str
    weight: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AppLane:
    """Who of an app's requests from outside take the routes of its lane ``name``, and what else they may mean.

    A user's number is a hash of ``salt`` and what ``key`` names, below 10,000: it is in the lane if it is below
    ``weight``, or if one of ``matches`` holds.
    """

    app: str
    name: str
    salt: str
    weight: int
    matches: tuple[LaneMatch, ...] = ()
    key: LaneKey = field(default_factory=LaneKey)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Of ``share`` hundredths of a percent of a route's safe requests a copy is sent; its answer goes nowhere."""

    lane: str
    share: int
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route from outside. ``held`` says that requests wait while no endpoint is healthy."""

    app: str
    service: str
    spec: RouteSpec
    targets: tuple[Target, ...]
    maintenance: str | None = None
    """The text of the app's maintenance page; nothing is forwarded then."""
    lane: str = ""
    """The lane whose requests alone take this route; empty means those of no lane."""
    mirror: Mirror | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalRoute:
    """A service's name inside its app: requests from the app's ``subnets`` for ``host`` at ``port``."""

    app: str
    service: str
    host: str
    port: int
    subnets: tuple[str, ...]
    protocol: Protocol
    targets: tuple[Target, ...]
    hold_s: float = 30.0
    lane: str = ""
    """Only requests that carry this in ``x-hunqi-lane``; empty means all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkJoin:
    """A network of an app that each gateway joins while the app runs, under the names of the app's HTTP services."""

    network: str
    """The name in the engine."""
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A chain and its key, PEM, for the server names ``hosts``."""

    hosts: tuple[str, ...]
    chain_pem: str
    key_pem: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """How gateways meet the world: ports, whom to believe, limits."""

    http_port: int = 80
    https_port: int = 443
    tcp_ports: tuple[int, int] = (20000, 20099)
    """First and last port of the range that ``ports:`` may publish."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose X-Forwarded-For is believed."""
    proxy_protocol: bool = False
    redirect_to_https: bool = True
    acme_challenge: str | None = None
    """``address:port`` of control's answers to /.well-known/acme-challenge/."""
    max_request_headers_kib: int = 60
    ready_port: int = 8404
    """Where a load balancer asks ``/ready`` before it sends this gateway anything."""
    max_connections: int = 50_000
    max_held: int = 1024
    """Requests that wait at one gateway at a time for a task to be healthy; further ones are refused with 503."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """All that a gateway knows. ``version`` grows with each change; equal tables have equal versions."""

    version: int
    edge: Edge
    clusters: Mapping[str, Cluster]
    routes: tuple[Route, ...]
    internal: tuple[InternalRoute, ...] = ()
    networks: tuple[NetworkJoin, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    challenges: Mapping[str, str] = field(default_factory=dict[str, str])
    """Token → answer at /.well-known/acme-challenge/, at every host, over plain HTTP."""
    lanes: tuple[AppLane, ...] = ()
    """Of each app that has one into which requests from outside can come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one Envoy runs: its node, its folder (as Envoy sees it) and the ports that it binds.

    Ports inside the sandbox are others than those that are published, so that a name inside an app may use port 80.
    """

    node: str
    folder: str = "/gateway"
    bind: str = "0.0.0.0"
    http_port: int = 61080
    https_port: int = 61443
    ready_port: int = 61404
    hold_socket: str = "/gateway/hold.sock"
    """The unix socket of the agent that says when a held request may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHealth:
    """What one gateway finds of one endpoint."""

    cluster: str
    address: str
    port: int
    healthy: bool
    active_requests: int
    failure: str = ""
    state: EndpointState = EndpointState.SERVING
    """What this gateway was last told, and works by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldService:
    """A service for which requests wait."""

    app: str
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayReport:
    """What one node's gateway has: the version that Envoy took in, and each endpoint's health."""

    node: str
    version: int
    running: bool
    endpoints: tuple[EndpointHealth, ...]
    problem: str = ""
    held: tuple[HeldService, ...] = ()
    """For whom requests wait now; the first one is reported at once."""
