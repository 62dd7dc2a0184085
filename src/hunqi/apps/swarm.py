"""An app's service as the Engine API has it: pure functions from the spec to JSON, and the names that objects get.

Nothing here publishes a port or asks for a virtual IP: traffic comes by the gateway, to the tasks' own addresses. A
service that is drained is given a stop signal that programs ignore; its own stands in a label of the container, for
the agent to send once nothing is in flight.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hunqi.apps.model import (
    AppSpec,
    Attachment,
    Grant,
    HealthSpec,
    Mode,
    Mount,
    NetworkSpec,
    Order,
    PayloadSpec,
    Protocol,
    ServiceSpec,
    VolumeSpec,
)
from hunqi.engine.model import (
    DRAIN_SIGNAL,
    JSON,
    LABEL_APP,
    LABEL_CLUSTER,
    LABEL_DRAIN,
    LABEL_HASH,
    LABEL_KIND,
    LABEL_PREFIX,
    LABEL_REVISION,
    LABEL_SERVICE,
    LABEL_STOP_SIGNAL,
)
from hunqi.kit.codec import dumps

LABEL_STOP_GRACE: Final = LABEL_PREFIX + "stop-grace"
"""Of a container: the seconds that the app has between its signal and the kill."""
LABEL_PORTS: Final = LABEL_PREFIX + "ports"
"""Of a container: the ports that the gateway sends to, ``8080,9090``, when its service was made."""

_NANOSECONDS: Final = 10**9
_TEMPLATE = re.compile(
    r"""\{\{(?!\s*(\.(Service|Node|Task)\.[A-Za-z.]+|index\s+\.(Service|Node)\.[A-Za-z.]*Labels\s+"[^"{}]*")\s*\}\})"""
)
_DIGEST_CHARACTERS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An object of the engine: what refers to it by id also shows its name."""

    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The engine's objects of an app, by their keys in the spec."""

    networks: Mapping[str, str] = field(default_factory=dict[str, str])
    """Key → id or name."""
    secrets: Mapping[str, Target] = field(default_factory=dict[str, Target])
    configs: Mapping[str, Target] = field(default_factory=dict[str, Target])


def service_name(app: str, service: str, revision: int) -> str:
    """Return the name of a Swarm service: ``shop_web-r7``."""
    return f"{app}_{service}-r{revision}"


def network_name(app: str, network: NetworkSpec) -> str:
    """Return a network's name in the engine: ``shop_default``, or that of the shared or external one."""
    return network.external or network.shared or f"{app}_{network.name}"


def volume_name(app: str, volume: VolumeSpec) -> str:
    """Return a volume's name in the engine: ``shop_data``, or that of the external one."""
    return volume.external or f"{app}_{volume.name}"


def payload_name(app: str, payload: PayloadSpec) -> str:
    """Return the name of a secret or config in the engine: ``shop_key-0123456789ab``, so content decides identity."""
    if payload.digest is None:
        return payload.external or payload.name
    digest = payload.digest.removeprefix("sha256:")
    if payload.template:  # the same text, expanded by Swarm, is another payload
        digest = hashlib.sha256(f"{payload.template}:{digest}".encode()).hexdigest()
    return f"{app}_{payload.name}-{digest[:_DIGEST_CHARACTERS]}"


def literal(text: str) -> str:
    """Return ``text`` so that Swarm leaves it as it is: it expands environments, host names and mounts as templates.

    Its placeholders for services, nodes and tasks (``{{.Task.Slot}}``) stay, everything else is no template.
    """
    return _TEMPLATE.sub('{{"{{"}}', text)


def labels_of(cluster: str, app: str, kind: str) -> dict[str, str]:
    """Return the labels of an object of ``app``; ``kind`` is service, network, volume, secret or config."""
    return {LABEL_CLUSTER: cluster, LABEL_APP: app, LABEL_KIND: kind}


def swarm_service(
    app: AppSpec,
    service: ServiceSpec,
    *,
    revision: int,
    cluster: str,
    targets: Targets,
    image: str | None = None,
    replicas: int | None = None,
    node: str | None = None,
) -> dict[str, Any]:
    """Return the ServiceSpec for ``POST /services/create``.

    ``image`` is the pinned reference (the spec's, if None); ``replicas`` overrides the spec's; ``node`` is the id of
    the node that the tasks must run on (that of their volumes). Raises ``KeyError`` when ``targets`` lacks what the
    service refers to.
    """
    reference = image or service.image
    labels = labels_of(cluster, app.name, "service") | {
        LABEL_SERVICE: service.name,
        LABEL_REVISION: str(revision),
        LABEL_HASH: service_hash(app, service, reference),
    }
    task: dict[str, Any] = {
        **{key: held for key, held in service.template.items() if key not in {"ContainerSpec", "Placement"}},
        "ContainerSpec": _container(app, service, labels, targets, reference),
        "Networks": [_attachment(app, service, each, targets) for each in service.networks],
        "ForceUpdate": 0,
    }
    if placement := _placement(service, node):
        task["Placement"] = placement
    return {
        "Name": service_name(app.name, service.name, revision),
        "Labels": {**service.service_labels, **labels},
        "TaskTemplate": task,
        "Mode": _mode(service, replicas),
        "EndpointSpec": {"Mode": "dnsrr"},
    }


def service_hash(app: AppSpec, service: ServiceSpec, image: str | None = None) -> str:
    """Return what decides whether a service changed, so that its tasks must be replaced: 16 hexadecimal digits.

    Counts all that reaches a task, the content of its secrets and configs included. Does not count what is changed in
    place (replicas), and what the gateway and the deploy alone go by (routes, checks, order, dependencies).
    """
    plain = dataclasses.replace(
        service,
        image=image or service.image,
        replicas=1,
        depends_on=(),
        routes=(),
        health=HealthSpec(),
        order=Order.START_FIRST,
        internal_ports=(),
        internal_protocol=Protocol.HTTP1,
        parallelism=0,
        ready_timeout_s=0.0,
        schedule=None,
        restart_on_dependency=False,
        scale=None,
        metrics=None,
        drain_s=service.drain_s if service.drained else 0.0,
    )
    parts = (
        plain,
        service.drained,
        [app.networks[each.network] for each in service.networks],
        [app.volumes[each.source] for each in service.mounts if each.kind == "volume" and each.source],
        [app.secrets[each.source] for each in service.secrets],
        [app.configs[each.source] for each in service.configs],
    )
    return hashlib.sha256(dumps(parts).encode()).hexdigest()[:16]


def network_body(app: str, network: NetworkSpec, *, cluster: str) -> dict[str, Any]:
    """Return the body of ``POST /networks/create`` for an overlay that gateways can join."""
    options = dict(network.driver_options) | ({"encrypted": ""} if network.encrypted else {})
    body: dict[str, Any] = {
        "Name": network_name(app, network),
        "Driver": "overlay",
        "Attachable": True,
        "Internal": network.internal,
        "Options": options,
        "Labels": {**network.labels, **labels_of(cluster, app, "network")},
    }
    if network.subnets:
        body["IPAM"] = {"Driver": "default", "Config": [{"Subnet": subnet} for subnet in network.subnets]}
    return body


def payload_body(app: str, payload: PayloadSpec, data: str, *, cluster: str, kind: str) -> dict[str, Any]:
    """Return the body of ``POST /secrets/create`` or ``/configs/create``; ``data`` in base64, ``kind`` as in labels."""
    body: dict[str, Any] = {
        "Name": payload_name(app, payload),
        "Labels": labels_of(cluster, app, kind),
        "Data": data,
    }
    if payload.template:
        body["Templating"] = {"Name": payload.template}
    return body


def _container(
    app: AppSpec, service: ServiceSpec, labels: Mapping[str, str], targets: Targets, image: str
) -> dict[str, Any]:
    template: JSON = service.template.get("ContainerSpec", {})
    own = {key: labels[key] for key in (LABEL_CLUSTER, LABEL_APP, LABEL_SERVICE, LABEL_REVISION)}
    own[LABEL_STOP_GRACE] = _seconds(service.stop_grace_s)
    if service.stop_signal:
        own[LABEL_STOP_SIGNAL] = service.stop_signal
    if ports := sorted({route.port for route in service.routes} | set(service.internal_ports)):
        own[LABEL_PORTS] = ",".join(map(str, ports))
    signal, grace_s = service.stop_signal, service.stop_grace_s
    if service.drained:
        own[LABEL_DRAIN] = _seconds(service.drain_s)
        signal, grace_s = DRAIN_SIGNAL, service.drain_s + service.stop_grace_s
    body: dict[str, Any] = {
        **template,
        "Image": image,
        "Labels": {**template.get("Labels", {}), **own},
        "StopGracePeriod": round(grace_s * _NANOSECONDS),
    }
    if signal:
        body["StopSignal"] = signal
    if service.mounts:
        cluster = labels[LABEL_CLUSTER]
        body["Mounts"] = [_mount(app, mount, cluster) for mount in service.mounts]
    if service.secrets:
        body["Secrets"] = [_granted("Secret", grant, targets.secrets[grant.source]) for grant in service.secrets]
    if service.configs:
        body["Configs"] = [_granted("Config", grant, targets.configs[grant.source]) for grant in service.configs]
    return body


def _mount(app: AppSpec, mount: Mount, cluster: str) -> dict[str, Any]:
    body: dict[str, Any] = {"Type": mount.kind, "Target": literal(mount.target), "ReadOnly": mount.read_only}
    body |= mount.options
    if mount.kind != "volume":
        return body | ({"Source": literal(mount.source)} if mount.source else {})
    if not mount.source:  # an anonymous one, gone with its task
        return body
    volume = app.volumes[mount.source]
    body["Source"] = volume_name(app.name, volume)
    if volume.external is None:
        options: dict[str, Any] = {**mount.options.get("VolumeOptions", {})}
        labels = {**options.get("Labels", {}), **volume.labels, **labels_of(cluster, app.name, "volume")}
        options["Labels"] = {key: literal(held) for key, held in labels.items()}
        driver_options = {key: literal(held) for key, held in volume.driver_options.items()}
        options["DriverConfig"] = {"Name": volume.driver, "Options": driver_options}
        body["VolumeOptions"] = options
    return body


def _granted(kind: str, grant: Grant, target: Target) -> dict[str, Any]:
    file = {"Name": grant.target, "UID": grant.uid, "GID": grant.gid, "Mode": grant.mode}
    return {"File": file, f"{kind}ID": target.id, f"{kind}Name": target.name}


def _attachment(app: AppSpec, service: ServiceSpec, attachment: Attachment, targets: Targets) -> dict[str, Any]:
    """Return an attachment; the names of an HTTP service are the gateway's on the app's networks."""
    body: dict[str, Any] = {"Target": targets.networks[attachment.network]}
    if service.internal != "gateway" and app.networks[attachment.network].external != "host":
        body["Aliases"] = list(dict.fromkeys((service.name, *attachment.aliases)))
    if attachment.driver_options:
        body["DriverOpts"] = dict(attachment.driver_options)
    return body


def _placement(service: ServiceSpec, node: str | None) -> dict[str, Any]:
    placement: dict[str, Any] = {**service.template.get("Placement", {})}
    if node is not None:
        placement["Constraints"] = [*placement.get("Constraints", ()), f"node.id=={node}"]
    return placement


def _mode(service: ServiceSpec, replicas: int | None) -> dict[str, Any]:
    wanted = service.replicas if replicas is None else replicas
    match service.mode:
        case Mode.REPLICATED:
            return {"Replicated": {"Replicas": wanted}}
        case Mode.GLOBAL:
            return {"Global": {}}
        case Mode.REPLICATED_JOB:
            total = wanted if service.completions is None else service.completions
            return {"ReplicatedJob": {"MaxConcurrent": wanted, "TotalCompletions": total}}
        case Mode.GLOBAL_JOB:
            return {"GlobalJob": {}}


def _seconds(value: float) -> str:
    return f"{value:g}"
