"""Routes inside apps: a service's name at its port, for requests that come from the app's own networks.

Each (port, subnet) has a filter chain that matches the subnet as source *and* as destination, and a route
configuration of its own. Nothing that comes in by a published port has an address of that subnet as its destination,
so no client from outside can reach these, whatever its address and its Host header say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from hunqi.apps.model import Protocol
from hunqi.gateway.model import InternalRoute, RouteTable
from hunqi.gateway.render.common import HEADER_HELD, HEADER_HOLD, HEADER_LANE, HOLD, JSON, header, message
from hunqi.gateway.render.routes import forwarding, held_for, render_targets, route_metadata

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
    hosts: dict[str, dict[str, InternalRoute]] = defaultdict(dict)
    for route in sorted(routes, key=lambda each: (each.lane == "", each.app, each.service)):
        hosts[route.host.lower()].setdefault(route.lane, route)
    return message(
        "envoy.config.route.v3.RouteConfiguration",
        name=name,
        ignore_port_in_host_matching=True,
        request_headers_to_remove=[HEADER_HOLD, HEADER_HELD],
        most_specific_header_mutations_wins=True,
        virtual_hosts=[_host(host, lanes.values()) for host, lanes in sorted(hosts.items())],
    )


def _host(host: str, routes: Iterable[InternalRoute]) -> JSON:
    """Those of lanes come first: whoever names none of them is served by the stable one."""
    return {"name": host, "domains": [host], "routes": [entry for each in routes for entry in _entries(each)]}


def _entries(route: InternalRoute) -> list[JSON]:
    action = {**render_targets(route.targets), "timeout": "0s", "idle_timeout": "3600s"}
    entry: JSON = {"metadata": route_metadata(route)}
    if action.get("cluster") == HOLD:
        entry["request_headers_to_add"] = [header(HEADER_HOLD, held_for(route, route.port))]
    match: JSON = {"prefix": "/"}
    if route.lane:
        match["headers"] = [{"name": HEADER_LANE, "string_match": {"exact": route.lane}}]
    return forwarding(match, entry, action, retries=_RETRIES)
