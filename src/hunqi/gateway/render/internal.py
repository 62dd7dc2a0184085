"""Routes inside apps: a service's name at its port, for requests that come from the app's own networks.

Each (port, subnet) has a filter chain that matches the subnet as source *and* as destination, and a route
configuration of its own. Nothing that comes in by a published port has an address of that subnet as its destination,
so no client from outside can reach these, whatever its address and its Host header say.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from hunqi.apps.model import Protocol
from hunqi.gateway.model import InternalRoute, RouteTable
from hunqi.gateway.render.common import HEADER_HELD, HEADER_HOLD, HOLD, JSON, header, message, metadata
from hunqi.gateway.render.routes import forwarding, render_targets

_RETRIES: Final = 2


def group_internal(table: RouteTable) -> dict[tuple[int, str], list[InternalRoute]]:
    """Return the HTTP routes by port and subnet, in a stable order."""
    groups: dict[tuple[int, str], list[InternalRoute]] = defaultdict(list)
    for route in table.internal:
        if route.protocol in {Protocol.HTTP1, Protocol.HTTP2}:
            for subnet in route.subnets:
                groups[route.port, subnet].append(route)
    return dict(sorted(groups.items()))


def internal_name(port: int, subnet: str) -> str:
    """Return the name of the route configuration of a port and a subnet."""
    return f"internal:{port}:{subnet}"


def render_inside(name: str, routes: list[InternalRoute]) -> JSON:
    """Return the route configuration ``name``."""
    hosts: dict[str, InternalRoute] = {}
    for route in sorted(routes, key=lambda each: (each.app, each.service)):
        hosts.setdefault(route.host.lower(), route)
    return message(
        "envoy.config.route.v3.RouteConfiguration",
        name=name,
        ignore_port_in_host_matching=True,
        request_headers_to_remove=[HEADER_HOLD, HEADER_HELD],
        most_specific_header_mutations_wins=True,
        virtual_hosts=[_host(host, route) for host, route in sorted(hosts.items())],
    )


def _host(host: str, route: InternalRoute) -> JSON:
    action = {**render_targets(route.targets), "timeout": "0s", "idle_timeout": "3600s"}
    entry: JSON = {"metadata": metadata(app=route.app, service=route.service)}
    if action.get("cluster") == HOLD:
        entry["request_headers_to_add"] = [header(HEADER_HOLD, f"{route.app}/{route.service}:{route.port}")]
    return {
        "name": host,
        "domains": [host],
        "routes": forwarding({"prefix": "/"}, entry, action, retries=_RETRIES),
    }
