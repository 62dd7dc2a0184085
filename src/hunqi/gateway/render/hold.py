"""Where requests wait while no task of their cluster is healthy, inside Envoy.

The hold is an internal listener. Its external authorization asks the node's agent over a unix socket, and the agent
answers when the cluster (or the one that has replaced it) has a healthy task, or when the time is up. Nothing of the
body is read meanwhile (flow control keeps it with the client), so a POST of any size waits and is sent once. The
answer may name another cluster. If the agent is away the request waits a second at a time here, a few times.
"""

from __future__ import annotations

from typing import Final

from hunqi.gateway.model import Edge, Place
from hunqi.gateway.render.clusters import internal_address, static_cluster
from hunqi.gateway.render.common import (
    HEADER_HELD,
    HEADER_HOLD,
    HEADER_MIRROR,
    HOLD,
    HOLD_AGENT,
    JSON,
    TYPE,
    header,
    message,
    typed,
)

AGENT_TIMEOUT_S: Final = 600.0
"""The agent decides how long a request waits; this only bounds an agent that has hung."""
_MARGIN: Final = 256
"""The agent itself refuses what is above the bound; this many more may be asking."""
_MOST_TURNS: Final = 10
_ALLOWED_BY_FAILURE: Final = "x-envoy-auth-failure-mode-allowed"


_REFUSED: Final[JSON] = {"filter": {"response_flag_filter": {"flags": ["UAEX"]}}, "status_code": 503}
"""An answer of 5xx by the agent would mean that the agent itself fails; it refuses with 4xx."""


_ASK_AGENT: Final = "ask_agent"
_NO_COPIES: Final[JSON] = {
    "match": {"prefix": "/", "headers": [{"name": HEADER_MIRROR, "present_match": True}]},
    "direct_response": {"status": 503},
    "typed_per_filter_config": {
        _ASK_AGENT: message("envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", disabled=True)
    },
}
"""Nobody waits for the answer to a copy: it takes no place from those who wait."""


def hold_clusters(place: Place, edge: Edge) -> list[JSON]:
    """Return the cluster of the hold itself, for routes without any target, and that of the agent's socket."""
    agent = static_cluster(HOLD_AGENT, {"pipe": {"path": place.hold_socket}}, max_requests=edge.max_held + _MARGIN)
    return [static_cluster(HOLD, internal_address()), agent]


def hold_listener() -> JSON:
    """Return the internal listener."""
    manager = typed(
        "hold",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="hold",
        codec_type="AUTO",
        route_config=_routes(),
        http_filters=[_ask_agent(), _wait_without_agent(), _router()],
        upgrade_configs=[{"upgrade_type": "websocket"}],
        use_remote_address=False,
        skip_xff_append=True,
        generate_request_id=False,
        preserve_external_request_id=True,
        server_header_transformation="PASS_THROUGH",
        stream_idle_timeout="0s",
        max_request_headers_kb=96,
        local_reply_config={"mappers": [_REFUSED]},
    )
    return {
        "@type": TYPE + "envoy.config.listener.v3.Listener",
        "name": HOLD,
        "internal_listener": {},
        "filter_chains": [{"filters": [manager]}],
    }


def _routes() -> JSON:
    again = {"prefix": "/", "headers": [{"name": HEADER_HOLD, "present_match": True}]}
    turned_often = {
        "name": HEADER_HELD,
        "string_match": {"safe_regex": {"regex": f"(1,){{{_MOST_TURNS},}}1"}},
    }
    return {
        "name": HOLD,
        "virtual_hosts": [
            {
                "name": HOLD,
                "domains": ["*"],
                "routes": [
                    _NO_COPIES,
                    {"match": {"prefix": "/", "headers": [turned_often]}, "direct_response": {"status": 503}},
                    {
                        "match": again,
                        "request_headers_to_add": [header(HEADER_HELD, "1", append=True)],
                        "request_headers_to_remove": [HEADER_HOLD, _ALLOWED_BY_FAILURE],
                        "route": {
                            "cluster_header": HEADER_HOLD,
                            "cluster_not_found_response_code": "SERVICE_UNAVAILABLE",
                            "timeout": "0s",
                            "idle_timeout": "0s",
                            "retry_policy": {
                                "retry_on": "connect-failure,refused-stream,reset-before-request",
                                "num_retries": 3,
                            },
                        },
                    },
                    {"match": {"prefix": "/"}, "direct_response": {"status": 503}},
                ],
            }
        ],
    }


def _ask_agent() -> JSON:
    exact = [{"exact": HEADER_HOLD}]
    return typed(
        _ASK_AGENT,
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        transport_api_version="V3",
        failure_mode_allow=True,
        failure_mode_allow_header_add=True,
        clear_route_cache=True,
        allowed_headers={"patterns": exact},
        disallowed_headers={"patterns": [{"exact": "authorization"}]},
        http_service={
            "server_uri": {"uri": "http://agent", "cluster": HOLD_AGENT, "timeout": f"{AGENT_TIMEOUT_S:.0f}s"},
            "path_prefix": "/hold",
            "authorization_response": {
                "allowed_upstream_headers": {"patterns": exact},
                "allowed_client_headers": {"patterns": [{"exact": "retry-after"}, {"exact": "content-type"}]},
            },
        },
    )


def _wait_without_agent() -> JSON:
    return typed(
        "wait_without_agent",
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        delay={"fixed_delay": "1s", "percentage": {"numerator": 100}},
        headers=[{"name": _ALLOWED_BY_FAILURE, "present_match": True}],
        max_active_faults=1024,
    )


def _router() -> JSON:
    # Whoever held the request counts it, in the cluster that it was for: counted here too it would count twice.
    kind = "envoy.extensions.filters.http.router.v3.Router"
    return typed("router", kind, suppress_envoy_headers=True, dynamic_stats=False)
