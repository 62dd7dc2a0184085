"""What services stand on: networks, secrets and configs, there before them, away when nobody uses them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hunqi.apps.model import AppSpec, Grant, PayloadSpec, Revision
from hunqi.apps.situation import Situation
from hunqi.apps.steps import CreateNetwork, CreatePayload, RemoveNetwork, RemovePayload, Step
from hunqi.apps.swarm import network_name, payload_name
from hunqi.engine.model import LABEL_APP, Payload

_REFERENCES = {"secret": ("Secrets", "SecretName"), "config": ("Configs", "ConfigName")}


def missing_ground(situation: Situation, goal: Revision) -> list[Step]:
    """Return the steps that make the networks, secrets and configs of ``goal`` that are not there."""
    steps: list[Step] = []
    app, snapshot = situation.app.name, situation.snapshot
    for key, network in goal.spec.networks.items():
        name = network_name(app, network)
        if network.external is None and name not in snapshot.networks:
            steps.append(
                CreateNetwork(revision=goal.number, network=key, name=name, sentence=f"making the network {name}")
            )
    for kind, key, payload in _payloads(goal.spec):
        name = payload_name(app, payload)
        there = snapshot.secrets if kind == "secret" else snapshot.configs
        if payload.digest is not None and name not in there:
            steps.append(
                CreatePayload(
                    kind=kind,
                    key=key,
                    revision=goal.number,
                    name=name,
                    digest=payload.digest,
                    sentence=f"making the {kind} {name}",
                )
            )
    return steps


def surplus_ground(situation: Situation, goal: Revision | None) -> list[Step]:
    """Return the steps that remove what no service of the app needs any more."""
    app, snapshot = situation.app.name, situation.snapshot
    steps: list[Step] = []
    for kind, there in (("secret", snapshot.secrets), ("config", snapshot.configs)):
        needed = {payload_name(app, each) for of, _, each in _payloads(goal.spec) if of == kind} if goal else set[str]()
        needed |= set(_referred(situation, kind))
        steps.extend(_unneeded(app, kind, there, needed))
    kept = {network_name(app, each) for each in goal.spec.networks.values()} if goal else set[str]()
    for name, network in snapshot.networks.items():
        if network.labels.get(LABEL_APP) == app and name not in kept and network.id not in situation.networks_in_use:
            steps.append(RemoveNetwork(name=name, sentence=f"removing the network {name}: no service is on it"))
    return steps


def _unneeded(app: str, kind: str, there: Mapping[str, Payload], needed: set[str]) -> Iterator[Step]:
    for name, payload in there.items():
        if payload.labels.get(LABEL_APP) == app and name not in needed:
            yield RemovePayload(kind=kind, name=name, sentence=f"removing the {kind} {name}: no service uses it")


def _payloads(spec: AppSpec) -> Iterator[tuple[str, str, PayloadSpec]]:
    """Yield kind, key and spec of what services of the app are shown."""
    for kind, specs in (("secret", spec.secrets), ("config", spec.configs)):
        used: set[str] = set()
        for service in spec.services.values():
            grants: tuple[Grant, ...] = service.secrets if kind == "secret" else service.configs
            used |= {grant.source for grant in grants}
        for key, payload in specs.items():
            if key in used:
                yield kind, key, payload


def _referred(situation: Situation, kind: str) -> Iterator[str]:
    listed, named = _REFERENCES[kind]
    for standing in situation.standings.values():
        container: Mapping[str, Any] = standing.service.spec.get("TaskTemplate", {}).get("ContainerSpec", {})
        for each in container.get(listed) or ():
            yield each[named]
