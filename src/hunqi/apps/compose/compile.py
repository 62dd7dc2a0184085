"""A Compose project, read whole, becomes an app spec."""

from __future__ import annotations

from hunqi.apps.compose.project import Project
from hunqi.apps.compose.report import Report
from hunqi.apps.compose.section import Section
from hunqi.apps.compose.tree import Node, TreeError, read
from hunqi.apps.model import AppSpec, Attachment, Compiled, NetworkSpec, ServiceSpec


def compile_project(project: Project) -> Compiled:
    """Return the app that ``project`` describes.

    Raises ``NeedsError`` (files or variables that were not sent) and ``InvalidError`` (each problem with its line).
    """
    report = Report()
    root = _root(project, report)
    report.checkpoint()
    services = {name: _service(section) for name, section in Section(root, "", report).named("services")}
    report.checkpoint()
    spec = AppSpec(name=project.name, services=services, networks={"default": NetworkSpec(name="default")})
    return Compiled(spec=spec, payloads={}, notes=report.notes)


def _root(project: Project, report: Report) -> Node:
    path = project.entry[0]
    place = Node(value={}, file=path, line=1)
    text = project.files.get(path)
    if text is None:
        report.need_file(path)
        return place
    try:
        documents = read(text if isinstance(text, str) else text.decode(), path)
    except TreeError as error:
        report.problem(Node(value=None, file=path, line=error.line), "", error.text)
        return place
    return documents[0] if documents else place


def _service(section: Section) -> ServiceSpec:
    image = section.text("image")
    if image is None:
        section.problem("image", "a service needs an image")
    environment = section.pairs("environment")
    container = {"Env": [f"{name}={value or ''}" for name, value in sorted(environment.items())]}
    return ServiceSpec(
        name=section.path.rpartition(".")[2],
        image=image or "",
        template={"ContainerSpec": container} if environment else {},
        networks=(Attachment(network="default"),),
    )
