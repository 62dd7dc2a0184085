"""Listeners: http, https, the inside of apps, TCP and UDP ports, and ``/ready``.

Public listeners bind other ports inside the sandbox than those that are published; names inside apps bind their own.
A change of one filter chain leaves the connections of all others alone (Envoy updates chains in place), so chains are
kept apart: one per certificate, one per subnet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from hunqi.apps.model import Protocol
from hunqi.gateway.model import Certificate, Edge, InternalRoute, Place, Route, RouteTable
from hunqi.gateway.render.common import HOLD, JSON, address, cidr, message, typed
from hunqi.gateway.render.filters import health_manager, http_manager, tcp_proxy, udp_proxy
from hunqi.gateway.render.hold import hold_listener
from hunqi.gateway.render.internal import group_internal, internal_name
from hunqi.gateway.render.routes import PUBLIC, render_targets
from hunqi.gateway.render.tls import secret_name, tls_socket

_LISTENER: Final = "envoy.config.listener.v3.Listener"
_TLS_INSPECTOR: Final = typed("tls_inspector", "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")
_PROXY_PROTOCOL: Final = typed("proxy_protocol", "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol")
_BUFFER_BYTES: Final = 256 * 1024


def render_listeners(table: RouteTable, place: Place) -> list[JSON]:
    """Return all listeners, in a stable order."""
    return [
        hold_listener(),
        _listener("ready", place.bind, place.ready_port, [{"filters": [health_manager(place)]}]),
        _http(table.edge, place),
        *_https(table, place),
        *_ports(table, place),
        *_inside(table, place),
    ]


def listener_needs(table: RouteTable) -> object:
    """Return what the listeners are made of, to compare: not the HTTP routes, which come by files of their own."""
    ports = [replace(each, mirror=None) for each in table.routes if each.spec.tcp_port is not None]
    return (
        table.edge,
        [each.hosts for each in table.certificates],
        ports,
        _passthrough(table.routes),
        list(group_internal(table)),
        [each for each in table.internal if each.protocol is Protocol.TCP],
    )


def _listener(name: str, bind: str, port: int, chains: list[JSON], *, filters: Iterable[JSON] = ()) -> JSON:
    listener = message(
        _LISTENER,
        name=name,
        address=address(bind, port),
        filter_chains=chains,
        enable_reuse_port=True,
        per_connection_buffer_limit_bytes=_BUFFER_BYTES,
        tcp_backlog_size=4096,
        listener_filters_timeout="10s",
    )
    if found := list(filters):
        listener["listener_filters"] = found
    return listener


def _proxied(edge: Edge) -> list[JSON]:
    return [_PROXY_PROTOCOL] if edge.proxy_protocol else []


def _http(edge: Edge, place: Place) -> JSON:
    return _listener("http", place.bind, place.http_port, _managers({}, "http", edge, place), filters=_proxied(edge))


def _https(table: RouteTable, place: Place) -> list[JSON]:
    """One chain per certificate; who names no host that we know gets the certificate without hosts, if there is one."""
    chains: list[JSON] = []
    taken: set[str] = set()
    for route in _passthrough(table.routes):
        hosts = _new_hosts(route.spec.hosts, taken)
        if hosts:
            chains.append({"name": f"passthrough:{hosts[0]}", "filter_chain_match": {"server_names": hosts}})
            chains[-1]["filters"] = [_carry(route, place, kind="passthrough")]
    for certificate in sorted(table.certificates, key=secret_name):
        hosts = _new_hosts(certificate.hosts or ("",), taken)
        if not hosts:
            continue
        match: JSON = {"transport_protocol": "tls"}
        if certificate.hosts:
            match["server_names"] = hosts
        chains += _secured(certificate, match, table.edge, place)
    if not chains:
        return []
    filters = [*_proxied(table.edge), _TLS_INSPECTOR]
    return [_listener("https", place.bind, place.https_port, chains, filters=filters)]


def _new_hosts(hosts: Iterable[str], taken: set[str]) -> list[str]:
    """Two chains may not answer for one name: the first has it."""
    fresh = [host for host in sorted({each.lower() for each in hosts}) if host not in taken]
    taken.update(fresh)
    return fresh


def _secured(certificate: Certificate, match: JSON, edge: Edge, place: Place) -> list[JSON]:
    chains = _managers(match, f"https:{secret_name(certificate)}", edge, place)
    for chain in chains:
        chain["transport_socket"] = tls_socket(certificate, place)
    return chains


def _managers(match: JSON, name: str, edge: Edge, place: Place) -> list[JSON]:
    """Return the chain for everyone and, where there are trusted proxies, one before it that believes them."""
    everyone: JSON = {"name": name, "filters": [http_manager(PUBLIC, place, edge, kind="public")]}
    if match:
        everyone["filter_chain_match"] = match
    if not edge.trusted_proxies:
        return [everyone]
    trusted = [cidr(each) for each in edge.trusted_proxies]
    return [
        {
            "name": f"{name}:trusted",
            "filter_chain_match": {**match, "direct_source_prefix_ranges": trusted},
            "filters": [http_manager(PUBLIC, place, edge, kind="public", trusting=True)],
        },
        everyone,
    ]


def _passthrough(routes: Iterable[Route]) -> list[Route]:
    """TLS that the app itself ends, found by the name that the client asks for; only on the https port."""
    return [
        each
        for each in routes
        if each.spec.hosts and each.spec.tcp_port in {None, 443} and (each.spec.tls == "passthrough" or _is_tcp(each))
    ]


def _is_tcp(route: Route) -> bool:
    return route.spec.protocol is Protocol.TCP


def _carry(route: Route, place: Place, *, kind: str) -> JSON:
    targets = render_targets(route.targets)
    return tcp_proxy(targets, place, idle_timeout=f"{max(route.spec.idle_timeout_s, 3600.0):.0f}s", kind=kind)


def _ports(table: RouteTable, place: Place) -> list[JSON]:
    """Return a listener for each published TCP or UDP port. The first route that asks for a port has it."""
    listeners: dict[str, JSON] = {}
    for route in sorted(table.routes, key=lambda each: (each.app, each.service, each.spec.port)):
        port, protocol = route.spec.tcp_port, route.spec.protocol
        if port is None or route.spec.hosts:
            continue
        name = f"{'udp' if protocol is Protocol.UDP else 'tcp'}:{port}"
        if name in listeners:
            continue
        if protocol is Protocol.UDP:
            listeners[name] = _udp(name, port, route, place)
        elif protocol is Protocol.TCP:
            chains = [{"filters": [_carry(route, place, kind="tcp")]}]
            listeners[name] = _listener(name, place.bind, port, chains, filters=_proxied(table.edge))
        else:
            chains = [{"filters": [http_manager(PUBLIC, place, table.edge, kind="public")]}]
            listeners[name] = _listener(name, place.bind, port, chains, filters=_proxied(table.edge))
    return [listeners[name] for name in sorted(listeners)]


def _udp(name: str, port: int, route: Route, place: Place) -> JSON:
    live = [each.cluster for each in route.targets if each.weight > 0]
    return message(
        _LISTENER,
        name=name,
        address=address(place.bind, port, udp=True),
        udp_listener_config={"downstream_socket_config": {"max_rx_datagram_size": 9000}},
        enable_reuse_port=True,
        listener_filters=[udp_proxy(live[0] if live else HOLD, idle_timeout="60s")],
    )


def _inside(table: RouteTable, place: Place) -> list[JSON]:
    """Return a listener for each port at which a service is known inside some app."""
    ports: dict[int, list[JSON]] = defaultdict(list)
    for port, subnet in group_internal(table):
        name = internal_name(port, subnet)
        ports[port].append(
            {
                "name": name,
                "filter_chain_match": _within(subnet),
                "filters": [http_manager(name, place, table.edge, kind="internal")],
            }
        )
    taken = set(group_internal(table))
    for route in table.internal:
        for subnet in route.subnets:
            if route.protocol is Protocol.TCP and (route.port, subnet) not in taken:
                taken.add((route.port, subnet))
                ports[route.port].append(_carried_inside(route, subnet, place))
    return [_listener(f"inside:{port}", place.bind, port, ports[port]) for port in sorted(ports)]


def _carried_inside(route: InternalRoute, subnet: str, place: Place) -> JSON:
    targets = render_targets(route.targets)
    return {
        "name": f"internal:{route.port}:{subnet}:tcp",
        "filter_chain_match": _within(subnet),
        "filters": [tcp_proxy(targets, place, idle_timeout="3600s", kind="internal")],
    }


def _within(subnet: str) -> JSON:
    return {"prefix_ranges": [cidr(subnet)], "source_prefix_ranges": [cidr(subnet)]}
