"""What Envoy is started with: where its files are, its admin socket, and the limits of the whole process."""

from __future__ import annotations

from typing import Final

from hunqi.gateway.model import Edge, Place
from hunqi.gateway.render.common import JSON, file_source, typed

ADMIN_SOCKET: Final = "admin.sock"
"""In the place's folder."""

HEAP_BYTES: Final = 512 * 1024 * 1024


def render_bootstrap(place: Place, edge: Edge, *, heap_bytes: int = HEAP_BYTES) -> JSON:
    """Return the bootstrap of the Envoy at ``place``."""
    folder = place.folder
    return {
        "node": {"id": place.node, "cluster": "hunqi"},
        "admin": {"address": {"pipe": {"path": f"{folder}/{ADMIN_SOCKET}", "mode": 0o600}}},
        "dynamic_resources": {
            "cds_config": file_source(f"{folder}/cds.json"),
            "lds_config": file_source(f"{folder}/lds.json"),
        },
        "bootstrap_extensions": [
            typed(
                "envoy.bootstrap.internal_listener",
                "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
            )
        ],
        "stats_config": {"use_all_default_tags": False},
        # Only then are histograms of the threads put together: what is read is at most that old.
        "stats_flush_interval": "1s",
        "overload_manager": _overload(heap_bytes, edge.max_connections),
    }


def _overload(heap_bytes: int, connections: int) -> JSON:
    """Shed load before the kernel ends the process: first give memory back, then refuse what is new."""
    heap = "envoy.resource_monitors.fixed_heap"
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            typed(
                heap, "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=heap_bytes
            ),
            typed(
                "envoy.resource_monitors.global_downstream_max_connections",
                "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=connections,
            ),
        ],
        "actions": [
            _action("envoy.overload_actions.shrink_heap", heap, 0.90),
            _action("envoy.overload_actions.disable_http_keepalive", heap, 0.92),
            _action("envoy.overload_actions.stop_accepting_requests", heap, 0.97),
        ],
    }


def _action(name: str, resource: str, threshold: float) -> JSON:
    return {"name": name, "triggers": [{"name": resource, "threshold": {"value": threshold}}]}
