"""A Compose project, read whole, becomes an app spec.

Loaded and merged (``load``), without the services of profiles that are off, walked by the table of keys (``check``),
then each service with what it needs. Only what a service uses is in the spec, or asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hunqi.apps.compose import fields
from hunqi.apps.compose.check import check_keys
from hunqi.apps.compose.context import Context
from hunqi.apps.compose.graph import cycle
from hunqi.apps.compose.load import load
from hunqi.apps.compose.names import app_problem
from hunqi.apps.compose.project import Project
from hunqi.apps.compose.report import Report, show, suggest
from hunqi.apps.compose.rollout import rollout_of
from hunqi.apps.compose.section import Section
from hunqi.apps.compose.service import Links, build_service
from hunqi.apps.compose.source import Files, Variables
from hunqi.apps.compose.tree import Node
from hunqi.apps.compose.xhunqi import extensions, hunqi_of
from hunqi.apps.model import AppSpec, Compiled, Condition, Protocol, ServiceSpec

MAX_SERVICES: Final = 200
_COMPLETED: Final = Condition.COMPLETED.value


def compile_project(project: Project) -> Compiled:
    """Return the app that ``project`` describes.

    Raises ``NeedsError`` (files or variables that were not sent) and ``InvalidError`` (each problem with its line).
    """
    report = Report()
    files, variables = Files(project, report), Variables(project, report)
    tree = load(project, files, variables, report)
    if (wrong := app_problem(project.name)) is not None:
        report.problem(tree, "name", f"{show(project.name)}: {wrong}")
    report.checkpoint()
    root = Section(_profiled(tree, project), "", report)
    context = Context(project, files, variables, report, root)
    check_keys(root.node, report)
    _check_project(root, tree, context)
    report.checkpoint()
    top = hunqi_of(root, fields.TOP)
    spec = AppSpec(
        name=project.name,
        services=_services(root, top, context),
        networks=context.networks,
        volumes=context.volumes,
        secrets=context.secrets,
        configs=context.configs,
        extensions=_extensions(root, top),
        maintenance=top.text("maintenance"),
        rollout=rollout_of(top, root.section("services").entries),
    )
    _check_spec(root, spec)
    report.checkpoint(end=True)
    return Compiled(spec=spec, payloads=context.payloads, notes=report.notes, privileges=report.privileges)


def _profiled(tree: Node, project: Project) -> Node:
    """Return the project without the services whose profiles are off."""
    entries = dict(tree.mapping or {})
    services = entries.get("services")
    if services is None or services.mapping is None:
        return tree
    kept = {name: node for name, node in services.mapping.items() if _enabled(node, project)}
    return tree.at({**entries, "services": services.at(kept)})


def _enabled(node: Node, project: Project) -> bool:
    profiles = (node.mapping or {}).get("profiles")
    if profiles is None or not profiles.sequence or "*" in project.profiles:
        return True
    return any(item.text in project.profiles for item in profiles.sequence)


def _check_project(root: Section, tree: Node, context: Context) -> None:
    services = root.section("services")
    everything = Section(tree, "", root.report).section("services").entries
    if not services.entries:
        text = "no service is left: all of them have profiles that are off" if everything else "there are no services"
        root.problem("services", text)
    if len(services.entries) > MAX_SERVICES:
        root.report.fatal(root.node, "services", f"a project has at most {MAX_SERVICES} services")
    for name in context.project.images:
        if name not in everything:
            root.problem(
                "services", f"an image is given for {show(name)}, which is no service{suggest(name, everything)}"
            )
    name = root.text("name")
    if name is not None and name != context.project.name:
        root.changed("name", f"the app is called {context.project.name}, as asked")


def _services(root: Section, top: Section, context: Context) -> dict[str, ServiceSpec]:
    sections = dict(root.named("services"))
    links = Links(_aliases(sections), _completed(sections))
    for item in top.items("routes"):
        name = item.text("service")
        if name is not None and name not in sections:
            item.problem("service", f"there is no service {show(name)}{suggest(name, sections)}")
    return {name: build_service(name, section, top, links, context) for name, section in sections.items()}


def _aliases(sections: Mapping[str, Section]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, section in sections.items():
        if (container := section.text("container_name")) is not None and container != name:
            found.setdefault(name, []).append(container)
        for text in section.texts("links"):
            other, colon, alias = text.partition(":")
            if colon and alias != other:
                found.setdefault(other, []).append(alias)
    return {name: tuple(aliases) for name, aliases in found.items()}


def _completed(sections: Mapping[str, Section]) -> frozenset[str]:
    return frozenset(
        name
        for section in sections.values()
        for name, inner in section.named("depends_on")
        if inner.entries.get("condition") is not None and inner.entries["condition"].text == _COMPLETED
    )


def _extensions(root: Section, top: Section) -> dict[str, Any]:
    own = {name: found for name, section in root.named("services") if (found := extensions(section.section("x-hunqi")))}
    return {**extensions(top), **({"services": own} if own else {})}


def _check_spec(root: Section, spec: AppSpec) -> None:
    """Take in what is wrong between services: circles, and ports and routes that two claim."""
    services = root.section("services")
    edges = {name: [each.service for each in service.depends_on] for name, service in spec.services.items()}
    if circle := cycle(edges):
        services.problem(circle[0], f"services depend on each other in a circle: {' → '.join(circle)}")
    claimed: dict[object, str] = {}
    for name, service in spec.services.items():
        for route in service.routes:
            claims: list[object] = [(host, route.path, route.headers) for host in route.hosts]
            if route.tcp_port is not None and not route.hosts:
                claims.append((route.tcp_port, route.protocol is Protocol.UDP))
            for claim in claims:
                if claim in claimed:
                    shown = route.tcp_port if not route.hosts else f"{route.hosts[0]}{route.path}"
                    services.problem(
                        name, f"{shown} leads to {claimed[claim]} already: a port or route has one service"
                    )
                claimed.setdefault(claim, name)
        hosted = (spec.networks[each.network].external == "host" for each in service.networks)
        if service.routed and any(hosted):
            services.problem(name, "a service on the host's network is not reached by the gateway: remove its routes")
