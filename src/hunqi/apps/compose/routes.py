"""How a service is reached: from outside by ``x-hunqi.routes`` and ``ports``, from inside by its name."""

from __future__ import annotations

from typing import Final

from hunqi.apps.compose import short
from hunqi.apps.compose.context import Context
from hunqi.apps.compose.report import show
from hunqi.apps.compose.section import Section
from hunqi.apps.compose.xhunqi import PROTOCOLS, route
from hunqi.apps.model import Protocol, RouteSpec

_EVERYWHERE: Final = (None, "", "0.0.0.0", "::")
_HTTP: Final = (Protocol.HTTP1, Protocol.HTTP2)


def exposed(section: Section) -> tuple[int, ...]:
    """Return the TCP ports that ``expose`` names."""
    found: list[int] = []
    for text in section.texts("expose"):
        body, _, protocol = text.partition("/")
        ports = short.port_range(body)
        if ports is None or protocol not in {"", "tcp", "udp"}:
            section.problem("expose", f"{show(text)} is no port")
        elif protocol != "udp":
            found += ports
    return tuple(dict.fromkeys(found))


def routes(section: Section, own: Section, top: list[Section], context: Context) -> tuple[RouteSpec, ...]:
    """Return the routes of a service: those of ``x-hunqi``, then those of its published ports."""
    default = _only_port(section)
    found: list[RouteSpec] = []
    for item in (*own.items("routes"), *top):
        spec = route(item, default)
        if spec is not None:
            _in_range(item, spec, context)
            found.append(spec)
    return (*found, *_published(section, tuple(found), context))


def _only_port(section: Section) -> int | None:
    ports = set(exposed(section))
    for item in section.items("ports"):
        if (item.text("protocol") or "tcp") == "tcp" and (port := item.integer("target", low=1, high=65535)):
            ports.add(port)
    return ports.pop() if len(ports) == 1 else None


def _in_range(item: Section, spec: RouteSpec, context: Context) -> None:
    low, high = context.project.tcp_ports
    if spec.tcp_port is not None and spec.tls != "passthrough" and not low <= spec.tcp_port <= high:
        item.problem("tcp_port", f"the published ports are {low} to {high}, chosen at `hunqi up`")


def _published(section: Section, named: tuple[RouteSpec, ...], context: Context) -> tuple[RouteSpec, ...]:
    found: list[RouteSpec] = []
    for item in section.items("ports"):
        target = item.integer("target", low=1, high=65535)
        protocol = (item.text("protocol") or "tcp").lower()
        if target is None or protocol not in {"tcp", "udp"}:
            if "target" not in item:
                item.problem("target", "the port of the container is missing")
            elif target is not None:
                item.problem("protocol", f"{show(protocol)} is neither tcp nor udp")
            continue
        port = _publication(item, target, named, context)
        if port is not None:
            found.append(RouteSpec(port=target, protocol=PROTOCOLS[protocol], tcp_port=port, tls="off"))
        if item.choice("mode", ("host", "ingress")) == "host":
            item.changed("mode", "the gateways publish it, on every node that has one")
    return tuple(found)


def _publication(item: Section, target: int, named: tuple[RouteSpec, ...], context: Context) -> int | None:
    """Return the port at which a port of a container is published, None if it is not."""
    low, high = context.project.tcp_ports
    text = item.text("published")
    if text is None:
        item.report.changed(
            item.node, item.path, f"port {target} is not published; name a port of {low}-{high} to publish it"
        )
        return None
    ports = short.port_range(text)
    if ports is None:
        item.problem("published", f"{show(text)} is no port")
        return None
    address = item.text("host_ip")
    if address not in _EVERYWHERE:
        item.report.ignored(
            item.node,
            item.path,
            f"port {target} is not published, since gateways are not bound to {show(address)};"
            " `hunqi app port-forward` reaches it",
        )
        return None
    fitting = [port for port in ports if low <= port <= high]
    if fitting:
        if len(ports) > 1:
            item.changed("published", f"{fitting[0]} of them, the first in the range {low}-{high}")
        return fitting[0]
    if any(spec.port == target and spec.protocol in _HTTP for spec in named):
        item.report.ignored(item.node, item.path, f"port {target} is reached by its HTTP route, not at {text}")
        return None
    item.problem(
        "published",
        f"{text} is outside of the published ports {low}-{high}: choose one of them, or for HTTP write"
        f" x-hunqi: {{routes: [{{host: app.example.com, port: {target}}}]}}",
    )
    return None


def inside(
    section: Section, own: Section, top: Section, found: tuple[RouteSpec, ...]
) -> tuple[str, tuple[int, ...], Protocol]:
    """Return what the service's name leads to inside the app, and the ports and protocol if that is the gateway."""
    holder = own if "internal" in own else top
    node = holder.get("internal")
    inner = holder.section("internal") if node is not None and node.mapping is not None else None
    written = inner.text("to") if inner is not None else holder.text("internal") if node is not None else None
    if written not in {None, "gateway", "tasks", "direct"}:
        holder.problem("internal", f"{show(written)} is none of gateway, tasks, direct")
    http = [spec for spec in found if spec.protocol in _HTTP and spec.redirect is None]
    if written in {"tasks", "direct"} or (written is None and inner is None and not http):
        return "tasks", (), Protocol.HTTP1
    if holder is top and not http:
        return "tasks", (), Protocol.HTTP1
    ports = _internal_ports(inner) if inner is not None else ()
    ports = ports or tuple(sorted({spec.port for spec in http} | set(exposed(section))))
    if not ports:
        holder.problem("internal", "the HTTP ports are missing: name them by expose, a route, or internal.ports")
    protocols = {spec.protocol for spec in http}
    asked = inner.choice("protocol", ("http1", "http2", "grpc")) if inner is not None else None
    protocol = PROTOCOLS[asked] if asked else protocols.pop() if len(protocols) == 1 else Protocol.HTTP1
    return "gateway", ports, protocol


def _internal_ports(inner: Section) -> tuple[int, ...]:
    found: list[int] = []
    for text in inner.texts("ports"):
        ports = short.port_range(text)
        if ports is None:
            inner.problem("ports", f"{show(text)} is no port")
        else:
            found += ports
    return tuple(sorted(set(found)))
