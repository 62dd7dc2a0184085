"""Network filters of listeners: the HTTP connection manager with what stands in front of routes, and plain bytes."""

from __future__ import annotations

from typing import Any, Final

from hunqi.gateway.model import Edge, Place
from hunqi.gateway.render.common import JSON, METADATA, cidr, file_name, file_source, message, typed
from hunqi.gateway.render.lanes import lane_filter
from hunqi.gateway.render.policies import policy_filters

_MANAGER: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_XFF: Final = "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig"

_LOG_FIELDS: Final[JSON] = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "app": f"%METADATA(ROUTE:{METADATA}:app)%",
    "service": f"%METADATA(ROUTE:{METADATA}:service)%",
    "lane": f"%METADATA(ROUTE:{METADATA}:lane)%",
    "revision": f"%METADATA(CLUSTER:{METADATA}:revision)%",
    "task": f"%METADATA(UPSTREAM_HOST:{METADATA}:task)%",
    "host": "%REQ(:AUTHORITY)%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH):2048%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "detail": "%RESPONSE_CODE_DETAILS%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "task_ms": "%RESPONSE_DURATION%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream": "%UPSTREAM_HOST%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "agent": "%REQ(USER-AGENT):256%",
}


def access_log(place: Place, *, kind: str) -> list[JSON]:
    """Return the access log: a line of JSON for each request (or connection) to standard output."""
    fields = {"node": place.node, "kind": kind, **_LOG_FIELDS}
    return [
        typed(
            "access",
            "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            log_format={"json_format": fields, "omit_empty_values": True},
        )
    ]


def http_manager(routes: str, place: Place, edge: Edge, *, kind: str, trusting: bool = False) -> JSON:
    """Return the connection manager that works by the route configuration ``routes``.

    A ``trusting`` one believes X-Forwarded-For and X-Forwarded-Proto of trusted proxies; others write these anew.
    """
    whom: JSON = {"use_remote_address": True}
    if trusting:
        trusted = {"cidrs": [cidr(each) for each in edge.trusted_proxies]}
        detection = typed("xff", _XFF, xff_trusted_cidrs=trusted, skip_xff_append=False)
        whom = {"use_remote_address": False, "original_ip_detection_extensions": [detection]}
    return typed(
        "http",
        _MANAGER,
        stat_prefix=kind,
        codec_type="AUTO",
        rds={
            "route_config_name": routes,
            "config_source": file_source(f"{place.folder}/rds/{file_name(routes)}"),
        },
        http_filters=[*([lane_filter(), *policy_filters()] if kind == "public" else ()), _ROUTER],
        upgrade_configs=[{"upgrade_type": "websocket"}],
        access_log=access_log(place, kind=kind),
        server_header_transformation="PASS_THROUGH",
        normalize_path=True,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        max_request_headers_kb=edge.max_request_headers_kib,
        common_http_protocol_options={"idle_timeout": "620s", "max_headers_count": 200},
        http2_protocol_options={
            "max_concurrent_streams": 128,
            "initial_stream_window_size": 256 * 1024,
            "initial_connection_window_size": 1024 * 1024,
        },
        request_headers_timeout="15s",
        stream_idle_timeout="300s",
        delayed_close_timeout="1s",
        drain_timeout="5s",
        local_reply_config=_LOCAL_REPLIES,
        **whom,
    )


def tcp_proxy(cluster: JSON, place: Place, *, idle_timeout: str, kind: str) -> JSON:
    """Return the filter that carries bytes to the targets in ``cluster`` (``cluster`` or ``weighted_clusters``)."""
    return typed(
        "tcp",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=kind,
        idle_timeout=idle_timeout,
        max_connect_attempts=4,
        access_log=access_log(place, kind=kind),
        **cluster,
    )


def udp_proxy(cluster: str, *, idle_timeout: str) -> JSON:
    """Return the listener filter that carries datagrams, answers included."""
    route = message("envoy.extensions.filters.udp.udp_proxy.v3.Route", cluster=cluster)
    return typed(
        "udp",
        "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
        stat_prefix="udp",
        idle_timeout=idle_timeout,
        matcher={"on_no_match": {"action": {"name": "route", "typed_config": route}}},
    )


def health_manager(place: Place) -> JSON:
    """Return the manager of the ready listener: 200 at ``/ready`` while this gateway takes traffic, else 503."""
    ready: JSON = {"name": ":path", "string_match": {"exact": "/ready"}}
    check = typed(
        "ready",
        "envoy.extensions.filters.http.health_check.v3.HealthCheck",
        pass_through_mode=False,
        headers=[ready],
    )
    host = {
        "name": "*",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 404}}],
    }
    return typed(
        "http",
        _MANAGER,
        stat_prefix="ready",
        route_config={"name": f"ready-{place.node}", "virtual_hosts": [host]},
        http_filters=[check, _ROUTER],
        generate_request_id=False,
    )


_ROUTER: Final[Any] = typed("router", "envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True)
_LOCAL_REPLIES: Final[JSON] = {
    "mappers": [
        {
            "filter": {"response_flag_filter": {"flags": ["UH", "UF", "UC", "LR", "UR", "NC", "URX"]}},
            "body": {"inline_string": "The service does not answer at the moment.\n"},
            "headers_to_add": [
                {"header": {"key": "cache-control", "value": "no-store"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            ],
        }
    ],
    "body_format": {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}},
}
