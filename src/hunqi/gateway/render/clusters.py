"""Clusters and their endpoints: whom Envoy sends to, how it checks them, and when it gives one up.

Each cluster has at priority 0 the tasks and, if its requests may wait, at priority 1 the *hold*: an internal listener
that takes over only while no task is healthy (see ``hold``). A task is given up on the second failed connection in a
row (nothing was sent yet, so any request may go to another), long before its active check has failed, and taken in
again on the first check that passes.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from hunqi.apps.model import HealthSpec, Protocol
from hunqi.gateway.model import Cluster, Endpoint, EndpointState, Place
from hunqi.gateway.render.common import (
    HEADER_HOLD,
    HOLD,
    JSON,
    METADATA,
    TYPE,
    address,
    file_name,
    file_source,
    header,
    message,
    metadata,
    seconds,
    typed,
)

CLUSTER: Final = TYPE + "envoy.config.cluster.v3.Cluster"
UPSTREAM_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_NO_SPILL: Final = 1_000_000
"""Over-provisioning, in per cent: one healthy task of 10,000 still keeps all traffic away from the hold."""
_UNLIMITED: Final = 1_000_000
"""Connections and requests are bounded for the whole gateway (``bootstrap``), not for each cluster."""

_DEAD_PEER_S: Final = 1.5
"""After this without an acknowledgement the kernel gives a connection up: a node that was cut off silently."""
_IPPROTO_TCP: Final = 6
_TCP_USER_TIMEOUT: Final = 18


class ClusterKind(NamedTuple):
    """What clusters may have in common."""

    protocol: Protocol
    health: HealthSpec
    host: str
    connect_timeout_s: float
    idle_timeout_s: float
    held: bool


_COMMON: Final[JSON] = {
    "type": "EDS",
    "lb_policy": "LEAST_REQUEST",
    "ignore_health_on_host_removal": True,
    "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
    "circuit_breakers": {
        "thresholds": [
            {
                "max_connections": _UNLIMITED,
                "max_pending_requests": _UNLIMITED,
                "max_requests": _UNLIMITED,
                "max_retries": 1024,
            }
        ]
    },
    "outlier_detection": {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 2,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "interval": "0.5s",
        "base_ejection_time": "1s",
        "max_ejection_time": "5s",
        "max_ejection_percent": 100,
    },
    "upstream_connection_options": {
        "tcp_keepalive": {"keepalive_time": 1, "keepalive_interval": 1, "keepalive_probes": 2}
    },
    "upstream_bind_config": {
        "socket_options": [
            {
                "description": "give up on a silent peer",
                "level": _IPPROTO_TCP,
                "name": _TCP_USER_TIMEOUT,
                "int_value": int(_DEAD_PEER_S * 1000),
                "state": "STATE_PREBIND",
            }
        ]
    },
}
_HOLD_FILTERS: Final[list[JSON]] = [
    typed(
        "hold",
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        mutations={
            "request_mutations": [
                {"append": header(HEADER_HOLD, f"%UPSTREAM_METADATA({METADATA}:hold)%", keep_empty=False)},
            ]
        },
    ),
    typed("codec", "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"),
]
"""Names to the hold, and to nobody else, the cluster that the request waits for."""


def cluster_head(cluster: Cluster, place: Place) -> JSON:
    """Return what of a CDS resource is this cluster's alone; its endpoints come by a file (``render_endpoints``)."""
    return {
        "@type": CLUSTER,
        "name": cluster.name,
        "eds_cluster_config": {"eds_config": file_source(_path(cluster, place))},
        "metadata": metadata(app=cluster.app, service=cluster.service, revision=str(cluster.revision)),
    }


def cluster_kind(cluster: Cluster) -> ClusterKind:
    """Return what the rest of the resource is made of; it is the same for many clusters."""
    return ClusterKind(
        protocol=cluster.protocol,
        health=cluster.health,
        host=cluster.service or cluster.name,
        connect_timeout_s=cluster.connect_timeout_s,
        idle_timeout_s=cluster.idle_timeout_s,
        held=cluster.hold_s > 0,
    )


def cluster_rest(kind: ClusterKind) -> JSON:
    """Return the rest of the CDS resource."""
    rendered: JSON = {**_COMMON, "connect_timeout": seconds(kind.connect_timeout_s)}
    if kind.protocol is not Protocol.UDP:
        rendered["health_checks"] = [_health_check(kind.health, kind.host, kind.protocol)]
    if kind.protocol in {Protocol.HTTP1, Protocol.HTTP2}:
        rendered["typed_extension_protocol_options"] = {
            UPSTREAM_OPTIONS: _http_options(kind.protocol, kind.idle_timeout_s, held=kind.held)
        }
    if kind.protocol is Protocol.UDP:
        del rendered["upstream_connection_options"], rendered["upstream_bind_config"], rendered["outlier_detection"]
    return rendered


def render_endpoints(cluster: Cluster) -> JSON:
    """Return the EDS resource of ``cluster``."""
    udp = cluster.protocol is Protocol.UDP
    groups: list[JSON] = [
        {"locality": {}, "lb_endpoints": [_endpoint(each, cluster.health, udp=udp) for each in cluster.endpoints]}
    ]
    if cluster.hold_s > 0 and cluster.protocol in {Protocol.HTTP1, Protocol.HTTP2}:
        groups.append({"locality": {}, "priority": 1, "lb_endpoints": [_hold_endpoint(cluster.name)]})
    return message(
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        cluster_name=cluster.name,
        endpoints=groups,
        policy={"overprovisioning_factor": _NO_SPILL},
    )


def static_cluster(name: str, where: JSON, *, options: JSON | None = None, max_requests: int = _UNLIMITED) -> JSON:
    """Return a cluster of one fixed address, without checks."""
    endpoint: JSON = {"endpoint": {"address": where}}
    if options:
        endpoint.update(options)
    return {
        "@type": CLUSTER,
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": _UNLIMITED, "max_pending_requests": max_requests, "max_requests": max_requests}
            ]
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def internal_address() -> JSON:
    """Return the address of the hold inside this Envoy."""
    return {"envoy_internal_address": {"server_listener_name": HOLD}}


def _path(cluster: Cluster, place: Place) -> str:
    return f"{place.folder}/eds/{file_name(cluster.name)}"


def _http_options(protocol: Protocol, idle_timeout_s: float, *, held: bool) -> JSON:
    version = "http2_protocol_options" if protocol is Protocol.HTTP2 else "http_protocol_options"
    options = message(
        UPSTREAM_OPTIONS,
        explicit_http_config={version: {}},
        common_http_protocol_options={"idle_timeout": seconds(idle_timeout_s)},
    )
    if held:
        options["http_filters"] = _HOLD_FILTERS
    return options


def _health_check(health: HealthSpec, host: str, protocol: Protocol) -> JSON:
    check: JSON = {
        "timeout": seconds(health.timeout_s),
        "interval": seconds(health.interval_s),
        "no_traffic_interval": seconds(health.interval_s),
        "no_traffic_healthy_interval": seconds(health.interval_s),
        "unhealthy_interval": seconds(min(health.interval_s, 0.5)),
        "unhealthy_edge_interval": seconds(min(health.interval_s, 0.5)),
        "healthy_threshold": health.healthy_after,
        "unhealthy_threshold": health.unhealthy_after,
        "reuse_connection": False,
    }
    if health.path is None:
        check["tcp_health_check"] = {}
    else:
        http: JSON = {"path": health.path, "expected_statuses": [{"start": 200, "end": 400}]}
        http["host"] = health.host or host
        if protocol is Protocol.HTTP2:
            http["codec_client_type"] = "HTTP2"
        check["http_health_check"] = http
    return check


def _endpoint(each: Endpoint, health: HealthSpec, *, udp: bool) -> JSON:
    endpoint: dict[str, Any] = {"address": address(each.address, each.port, udp=udp)}
    if health.port and health.port != each.port:
        endpoint["health_check_config"] = {"port_value": health.port}
    status = "DRAINING" if each.state is EndpointState.DRAINING else "UNKNOWN"
    return {
        "endpoint": endpoint,
        "health_status": status,
        "metadata": metadata(task=each.task, node=each.node),
    }


def _hold_endpoint(name: str) -> JSON:
    return {
        "endpoint": {"address": internal_address(), "health_check_config": {"disable_active_health_check": True}},
        "metadata": metadata(hold=name),
    }
