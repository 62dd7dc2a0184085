"""From a revision to what the engine is sent for one of its services, with the ids of what it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from hunqi.apps.model import AppSpec, PayloadSpec, Revision, ServiceSpec
from hunqi.apps.swarm import Target, Targets, network_name, payload_name, swarm_service
from hunqi.engine.model import Payload, Snapshot
from hunqi.errors import DependencyError

FILES: Final = "json-file"
"""Docker's default log driver."""
_ROTATION: Final = {"max-size": "20m", "max-file": "3"}


class GroundMissingError(DependencyError):
    """A network, secret or config that a service stands on is not there (any more): observe again."""

    code: ClassVar[str] = "app.ground"


def service_body(
    revision: Revision,
    service: ServiceSpec,
    snapshot: Snapshot,
    *,
    cluster: str,
    replicas: int,
    node: str | None,
    external: Mapping[str, Target],
) -> dict[str, Any]:
    """Return the ServiceSpec of ``service``; ``external`` has secrets and configs that are not ours, by name.

    Raises ``GroundMissingError``.
    """
    app = revision.spec
    networks = {each.network: _network(app, each.network, snapshot) for each in service.networks}
    targets = Targets(
        networks=networks,
        secrets={
            each.source: _payload(app, app.secrets[each.source], snapshot.secrets, external) for each in service.secrets
        },
        configs={
            each.source: _payload(app, app.configs[each.source], snapshot.configs, external) for each in service.configs
        },
    )
    return swarm_service(
        app,
        service,
        revision=revision.origin[service.name],
        cluster=cluster,
        targets=targets,
        replicas=replicas,
        node=node,
    )


def with_rotation(body: dict[str, Any]) -> dict[str, Any]:
    """Return ``body`` with logs that are rotated, unless it says how to log: Docker's own files grow for ever."""
    task: dict[str, Any] = body["TaskTemplate"]
    if task.get("LogDriver"):
        return body
    return {**body, "TaskTemplate": {**task, "LogDriver": {"Name": FILES, "Options": dict(_ROTATION)}}}


def _network(app: AppSpec, key: str, snapshot: Snapshot) -> str:
    network = app.networks[key]
    name = network_name(app.name, network)
    if network.external is not None:
        return name
    there = snapshot.networks.get(name)
    if there is None:
        raise GroundMissingError(f"the network {name} is not there yet")
    return there.id


def _payload(
    app: AppSpec, payload: PayloadSpec, there: Mapping[str, Payload], external: Mapping[str, Target]
) -> Target:
    name = payload_name(app.name, payload)
    held = there.get(name)
    if held is not None:
        return Target(id=held.id, name=name)
    if payload.digest is None and name in external:
        return external[name]
    raise GroundMissingError(f"{name} is not there yet")
