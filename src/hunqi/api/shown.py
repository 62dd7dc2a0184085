"""What of a value is shown: the hashes of basic auth stay inside."""

from __future__ import annotations

from dataclasses import replace

from hunqi.apps.model import RouteSpec
from hunqi.apps.operations import AppView


def without_logins(spec: RouteSpec) -> RouteSpec:
    """Return the route with the names of its basic auth only."""
    if not spec.basic_auth:
        return spec
    return replace(spec, basic_auth=tuple(line.partition(":")[0] + ":…" for line in spec.basic_auth))


def shown_app(app: AppView) -> AppView:
    """Return the app as it is shown to everybody who may see it."""
    services = tuple(
        replace(service, routes=tuple(without_logins(route) for route in service.routes)) for service in app.services
    )
    return replace(app, services=services)
