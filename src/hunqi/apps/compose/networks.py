"""The networks of a service and of the project."""

from __future__ import annotations

import ipaddress
from typing import Final

from hunqi.apps.compose.context import Context
from hunqi.apps.compose.names import external_problem, is_alias, resource_problem
from hunqi.apps.compose.report import show, suggest
from hunqi.apps.compose.section import Section
from hunqi.apps.model import Attachment, NetworkSpec

DEFAULT: Final = "default"
HOST: Final = ":host"
"""The key of the host's own network, which no network of a file can have."""
_ENCRYPTED: Final = "encrypted"
_BRIDGE: Final = "com.docker.network.bridge."


def attachments(section: Section, context: Context, further: dict[str, tuple[str, ...]]) -> tuple[Attachment, ...]:
    """Return the networks of a service; ``further`` are names that it gets by ``container_name`` and by links."""
    name = section.path.rpartition(".")[2]
    mode = section.text("network_mode")
    if mode is not None and mode != "bridge":
        if section.entries.get("networks") is not None:
            section.problem("network_mode", "a service has networks or a network_mode, not both")
        return _by_mode(section, mode, name, context)
    if mode == "bridge":
        section.changed("network_mode", "the service is on the app's default network")
    found: list[Attachment] = []
    declared = section.section("networks")
    entries = [key for key, _ in section.named("networks")] or [DEFAULT]
    for network in entries:
        if not _known(declared, network, context):
            continue
        inner = declared.section(network)
        aliases = tuple(dict.fromkeys((*inner.texts("aliases"), *further.get(name, ()))))
        for alias in aliases:
            if not is_alias(alias):
                inner.problem("aliases", f"{show(alias)} is no host name")
        options = {key: value or "" for key, value in inner.pairs("driver_opts").items()}
        found.append(Attachment(network=network, aliases=aliases, driver_options=options))
    return tuple(found)


def _by_mode(section: Section, mode: str, name: str, context: Context) -> tuple[Attachment, ...]:
    if mode == "host":
        node, path = section.entries["network_mode"], section.below("network_mode")
        context.report.privilege(node, path, "is on the host's network")
        context.networks[HOST] = NetworkSpec(name=HOST, external="host")
        return (Attachment(network=HOST),)
    if mode == "none":
        section.changed("network_mode", "a network of its own without a way out")
        alone = f"none-{name}"
        context.networks[alone] = NetworkSpec(name=alone, internal=True)
        return (Attachment(network=alone),)
    section.problem(
        "network_mode",
        f"Swarm cannot run it in another's network ({show(mode)}); host, none and bridge are taken, or use networks",
    )
    return ()


def _known(declared: Section, network: str, context: Context) -> bool:
    if network in context.networks:
        return True
    sections = dict(context.root.named("networks"))
    if network != DEFAULT and network not in sections:
        declared.problem(
            network, f"{show(network)} is not among the networks of the project{suggest(network, sections)}"
        )
        return False
    if network not in sections:
        context.networks[network] = NetworkSpec(name=network)
        return True
    section = sections[network]
    if (wrong := resource_problem(context.project.name, network)) is not None:
        section.report.problem(section.node, section.path, wrong)
        return False
    context.networks[network] = _network(network, section, context)
    return True


def _network(name: str, section: Section, context: Context) -> NetworkSpec:
    written = section.text("name") or None
    if written is not None and (wrong := external_problem(written)) is not None:
        section.problem("name", wrong)
    if section.boolean("external"):
        context.report.privilege(section.node, section.path, f"joins the network {show(written or name)} that is there")
        return NetworkSpec(name=name, external=written or name)
    if written is not None:
        context.report.privilege(section.node, section.path, f"joins the shared network {show(written)}")
    driver = section.text("driver")
    if driver not in {None, "overlay", "default"}:
        section.changed("driver", "an overlay, which spans the nodes")
    if section.boolean("attachable") is False:
        section.changed("attachable", "the gateways join, so it is attachable")
    if section.boolean("enable_ipv4") is False:
        section.ignored("enable_ipv4", "overlays of Swarm have IPv4")
    options = {key: value or "" for key, value in section.pairs("driver_opts").items()}
    encrypted = _ENCRYPTED in options and options.pop(_ENCRYPTED).lower() != "false"
    for key in [key for key in options if key.startswith(_BRIDGE)]:
        section.ignored("driver_opts", f"{key} is of bridges; this is an overlay")
        del options[key]
    return NetworkSpec(
        name=name,
        shared=written,
        internal=section.boolean("internal") or False,
        encrypted=encrypted,
        driver_options=options,
        subnets=_subnets(section.section("ipam")),
        labels={key: value or "" for key, value in section.pairs("labels").items()},
    )


def _subnets(ipam: Section) -> tuple[str, ...]:
    found: list[str] = []
    for item in ipam.items("config"):
        text = item.text("subnet")
        if text is None:
            continue
        try:
            subnet = ipaddress.ip_network(text)
        except ValueError:
            item.problem("subnet", f"{show(text)} is no network; write 10.20.0.0/24")
            continue
        if subnet.version == 4 and not found:
            found.append(str(subnet))
        else:
            item.ignored("subnet", "overlays of Swarm have one network of IPv4")
    return tuple(found)
