"""A service of the file becomes a service of the spec."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hunqi.apps.compose import fields
from hunqi.apps.compose.container import container_spec, user_labels
from hunqi.apps.compose.context import Context
from hunqi.apps.compose.mounts import mounts
from hunqi.apps.compose.names import service_problem
from hunqi.apps.compose.networks import attachments
from hunqi.apps.compose.payloads import grants
from hunqi.apps.compose.report import show, suggest
from hunqi.apps.compose.resources import log_driver, placement, resources, restart_policy
from hunqi.apps.compose.routes import inside, routes
from hunqi.apps.compose.scale import scaled
from hunqi.apps.compose.section import Section
from hunqi.apps.compose.xhunqi import health, hunqi_of, metrics, schedule, seconds
from hunqi.apps.model import (
    Condition,
    Dependency,
    Grant,
    HealthSpec,
    Mode,
    Mount,
    Order,
    ServiceSpec,
)
from hunqi.errors import UserError
from hunqi.oci.reference import ImageReference

_NANO: Final = 10**9
_SIGNAL = re.compile(
    "HUP|INT|QUIT|ILL|TRAP|ABRT|BUS|FPE|KILL|USR1|SEGV|USR2|PIPE|ALRM|TERM|STKFLT|CHLD|CONT|STOP|TSTP|TTIN|TTOU|URG"
    r"|XCPU|XFSZ|VTALRM|PROF|WINCH|IO|PWR|SYS|RTMIN(?:\+[0-9]{1,2})?|RTMAX(?:-[0-9]{1,2})?"
)
_SERVICE: Final = ServiceSpec(name="", image="")
_MAX_REPLICAS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Links:
    """What services are to each other: names by ``container_name`` and ``links``, and who is waited for to complete."""

    aliases: Mapping[str, tuple[str, ...]]
    completed: frozenset[str]


def build_service(name: str, section: Section, top: Section, links: Links, context: Context) -> ServiceSpec:
    """Return the spec of a service; problems go to the report."""
    if (wrong := service_problem(context.project.name, name)) is not None:
        section.report.problem(section.node, section.path, wrong)
    own = hunqi_of(section, fields.SERVICE)
    mode = _mode(section, own, name, links)
    replicas = _replicas(section, mode)
    made, granted = mounts(section, context)
    ways = routes(section, own, [item for item in top.items("routes") if item.text("service") == name], context)
    internal, ports, protocol = inside(section, own, top, ways)
    job = mode in {Mode.REPLICATED_JOB, Mode.GLOBAL_JOB}
    if job and ways:
        section.problem("deploy", "a job is not routed: remove its ports and routes, or its mode")
    order = _order(section, own, top, made, context, http=internal == "gateway")
    deploy = section.section("deploy")
    spec = ServiceSpec(
        name=name,
        image=_image(name, section, context),
        mode=mode,
        replicas=replicas,
        completions=replicas if mode is Mode.REPLICATED_JOB else None,
        template=_template(section, mode, context),
        service_labels=user_labels(deploy, "labels", deploy.pairs("labels")),
        networks=attachments(section, context, dict(links.aliases)),
        mounts=made,
        secrets=grants(section, "secrets", context),
        configs=_unique((*grants(section, "configs", context), *granted), section),
        depends_on=_dependencies(section, context),
        routes=ways,
        health=health(own, "health", health(top, "health", HealthSpec()) if internal == "gateway" else HealthSpec()),
        order=order,
        internal=internal,
        internal_ports=ports,
        internal_protocol=protocol,
        stop_signal=_signal(section),
        stop_grace_s=_grace(section),
        drain_s=seconds(own, "drain", seconds(top, "drain", _SERVICE.drain_s)),
        parallelism=deploy.section("update_config").integer("parallelism") or 0,
        ready_timeout_s=seconds(own, "ready_timeout", seconds(top, "ready_timeout", _SERVICE.ready_timeout_s)),
        schedule=schedule(own),
        metrics=metrics(own),
    )
    return scaled(spec, own, context.volumes)


def _unique(granted: tuple[Grant, ...], section: Section) -> tuple[Grant, ...]:
    if len({grant.target for grant in granted}) < len(granted):
        section.problem("configs", "two configs (or files of the project) have the same target")
    return granted


def _template(section: Section, mode: Mode, context: Context) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ContainerSpec": container_spec(section, context.files, context.variables),
        "Resources": resources(section),
        "RestartPolicy": restart_policy(section, mode),
        "Placement": placement(section),
        "LogDriver": log_driver(section),
    }
    return {key: held for key, held in found.items() if held}


def _image(name: str, section: Section, context: Context) -> str:
    image = context.project.images.get(name) or section.text("image")
    if image is None:
        hint = ": build and push it, then name it by image, or --image" if "build" in section else ""
        section.problem("image", f"a service needs an image{hint}")
        return ""
    if "build" in section:
        section.ignored("build", f"nothing is built: {show(image)} is deployed")
    try:
        ImageReference.parse(image)
    except UserError as error:
        section.problem("image", f"{show(image)} is no image: {error}")
    policy = section.text("pull_policy")
    if policy in {"never", "build"}:
        section.changed("pull_policy", "the image is pulled through the accelerator, as every image")
    return image


def _mode(section: Section, own: Section, name: str, links: Links) -> Mode:
    text = section.section("deploy").choice("mode", tuple(mode.value for mode in Mode))
    mode = Mode(text) if text else Mode.REPLICATED
    if "schedule" in own:
        if text is not None and mode not in {Mode.REPLICATED_JOB, Mode.GLOBAL_JOB}:
            own.problem("schedule", f"a service of the mode {mode} is always there; leave deploy.mode out")
        return mode if mode is Mode.GLOBAL_JOB else Mode.REPLICATED_JOB
    if name in links.completed and mode is Mode.REPLICATED:
        section.report.changed(section.node, section.path, "it runs as a job, since others wait for it to complete")
        return Mode.REPLICATED_JOB
    return mode


def _replicas(section: Section, mode: Mode) -> int:
    deploy = section.section("deploy")
    replicas = deploy.integer("replicas", high=_MAX_REPLICAS)
    scale = section.integer("scale", high=_MAX_REPLICAS)
    if None not in {replicas, scale} and replicas != scale:
        section.problem("scale", "scale and deploy.replicas say different things: leave one of them out")
    wanted = scale if replicas is None else replicas
    if mode in {Mode.GLOBAL, Mode.GLOBAL_JOB}:
        if wanted is not None:
            deploy.ignored("replicas" if replicas is not None else "mode", "a global service has one task on each node")
        return 1
    return 1 if wanted is None else wanted


def _order(
    section: Section, own: Section, top: Section, made: tuple[Mount, ...], context: Context, *, http: bool
) -> Order:
    update = section.section("deploy").section("update_config")
    choices = tuple(order.value for order in Order)
    written = own.choice("order", choices)
    if written is not None:
        return Order(written)
    pinned = any(mount.kind == "volume" and (not mount.source or _pins(mount, context)) for mount in made)
    configured = update.choice("order", choices)
    if pinned:
        if configured == Order.START_FIRST:
            update.changed("order", "stop-first, since two revisions would write to one volume; x-hunqi.order insists")
        return Order.STOP_FIRST
    if configured is not None:
        return Order(configured)
    general = top.choice("order", choices)
    if general is not None:
        return Order(general)
    return Order.START_FIRST if http else Order.STOP_FIRST


def _pins(mount: Mount, context: Context) -> bool:
    volume = context.volumes.get(mount.source)
    return volume is None or volume.pinning


def _dependencies(section: Section, context: Context) -> tuple[Dependency, ...]:
    services = context.root.section("services").entries
    found: dict[str, Dependency] = {}
    for name, inner in section.named("depends_on"):
        required = inner.boolean("required") is not False
        condition = inner.choice("condition", tuple(each.value for each in Condition)) or Condition.STARTED
        if name not in services:
            if required:
                section.problem(
                    "depends_on", f"there is no service {show(name)}{suggest(name, services)}, or its profile is off"
                )
            continue
        restart = inner.boolean("restart") is True
        found[name] = Dependency(service=name, condition=Condition(condition), required=required, restart=restart)
    for key in ("links", "volumes_from"):
        for text in section.texts(key):
            name = text.partition(":")[0]
            if name not in services:
                section.problem(key, f"there is no service {show(name)}{suggest(name, services)}")
            else:
                found.setdefault(name, Dependency(service=name))
    return tuple(found.values())


def _signal(section: Section) -> str:
    text = section.text("stop_signal")
    if text is None:
        return ""
    if text.isdigit() and 1 <= int(text[:4]) <= 64:
        return text
    name = text.upper().removeprefix("SIG")
    if not _SIGNAL.fullmatch(name):
        section.problem("stop_signal", f"{show(text)} is no signal; write SIGTERM")
        return ""
    return f"SIG{name}"


def _grace(section: Section) -> float:
    value = section.duration_ns("stop_grace_period")
    return _SERVICE.stop_grace_s if value is None else value / _NANO
