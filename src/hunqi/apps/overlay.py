"""What is kept for an app beside its file (variables, secrets, routes), and how it is laid over a revision's spec.

A revision is stored as its file has it, with what was kept at that time in its ``extensions``; what runs is the one
laid over the other. So a variable that is forgotten leaves the file's own value, and a rollback brings back what was
kept then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hunqi.apps.model import AppSpec, PayloadSpec, RouteSpec, ServiceSpec
from hunqi.apps.swarm import literal
from hunqi.kit.codec import decode, encode

KEY: Final = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRoute:
    """A route of a service that was added by a command."""

    id: str
    service: str
    spec: RouteSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """What is kept of an app. ``secrets``: name → digest of the value."""

    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    routes: tuple[KeptRoute, ...] = ()


def with_overlay(spec: AppSpec, overlay: Overlay) -> AppSpec:
    """Return the spec to store: the file's, and what is kept."""
    extensions: dict[str, Any] = {key: held for key, held in spec.extensions.items() if key != KEY}
    if overlay != Overlay():
        extensions[KEY] = encode(overlay)
    return replace(spec, extensions=extensions)


def overlay_of(spec: AppSpec) -> Overlay:
    """Return what was kept when ``spec`` was stored."""
    return decode(Overlay, spec.extensions.get(KEY, {}))


def effective(spec: AppSpec) -> AppSpec:
    """Return what runs: the stored spec with what was kept laid over it."""
    overlay = overlay_of(spec)
    if overlay == Overlay():
        return spec
    services = {name: _service(each, overlay) for name, each in spec.services.items()}
    secrets = {key: _secret(each, overlay) for key, each in spec.secrets.items()}
    return replace(spec, services=services, secrets=secrets)


def _service(service: ServiceSpec, overlay: Overlay) -> ServiceSpec:
    routes = tuple(each.spec for each in overlay.routes if each.service == service.name)
    template = service.template
    if overlay.environment:
        container: Mapping[str, Any] = template.get("ContainerSpec", {})
        env: list[str] = list(container.get("Env") or ())
        own = [text for text in env if text.partition("=")[0] not in overlay.environment]
        laid = [*own, *(f"{name}={literal(value)}" for name, value in sorted(overlay.environment.items()))]
        template = {**template, "ContainerSpec": {**container, "Env": laid}}
    return replace(service, template=template, routes=(*service.routes, *routes))


def _secret(payload: PayloadSpec, overlay: Overlay) -> PayloadSpec:
    if payload.digest is None and payload.external is not None and payload.external in overlay.secrets:
        return replace(payload, digest=overlay.secrets[payload.external])
    return payload
