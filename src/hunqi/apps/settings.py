"""Secrets, variables and routes kept for an app, as users change them. A change of what runs is a deploy.

Implements ``Secrets``, ``Environment`` and ``Routes`` of ``operations``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from hunqi.apps.deploying import shown
from hunqi.apps.errors import (
    RouteNotFoundError,
    RouteOfFileError,
    SecretInUseError,
    SecretNotFoundError,
    SecretSizeError,
    ServiceNotFoundError,
    VariableNameError,
)
from hunqi.apps.keeping import ENVIRONMENT, SECRET, Keeping
from hunqi.apps.limits import Limits
from hunqi.apps.model import AppSpec, Revision, RouteSpec
from hunqi.apps.operations import Change, Deploy, EnvView, RouteView, SecretView
from hunqi.apps.overlay import overlay_of, with_overlay
from hunqi.apps.releasing import Release, Releasing
from hunqi.apps.state import Desired
from hunqi.apps.store import AppStore
from hunqi.kit.codec import dumps

MAX_SECRET_BYTES: Final = 500 * 1024
MAX_VALUE_CHARACTERS: Final = 32 * 1024
_SECRET_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,62}[a-zA-Z0-9])?")
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Renewing:
    """Deploys what runs again with what is kept now."""

    def __init__(self, store: AppStore, keeping: Keeping, releasing: Releasing) -> None:
        self._store = store
        self._keeping = keeping
        self._releasing = releasing

    async def current(self, app: str) -> Revision | None:
        """Return the newest revision that is meant to run; None if none was deployed."""
        kept = await self._store.find(app)
        number = kept.deploy.revision if kept.deploy else kept.app.live
        return await self._store.revision(app, number) if number is not None else None

    async def spec(self, app: str, number: int) -> AppSpec:
        """Return the stored spec of a revision with what is kept now."""
        async with self._store.database.read() as connection:
            stored = await self._store.stored_in(connection, app, number)
        return with_overlay(stored.spec, await self._keeping.overlay(app))

    async def renew(self, app: str, change: Change, why: str) -> Deploy | None:
        """Deploy the newest revision with what is kept now; None if nothing of it runs."""
        kept = await self._store.find(app)
        current = await self.current(app)
        if current is None or kept.app.desired is not Desired.RUNNING:
            return None
        release = Release(
            app=app,
            spec=await self.spec(app, current.number),
            payloads=await self._keeping.secret_values(app),
            kind="settings",
        )
        reason = f"{why}: {change.reason}" if change.reason else why
        return shown(await self._releasing.release(release, replace(change, reason=reason)))


class AppSecrets:
    """Secrets kept for an app."""

    def __init__(self, store: AppStore, keeping: Keeping, renewing: Renewing) -> None:
        self._store = store
        self._keeping = keeping
        self._renewing = renewing

    async def secrets(self, app: str) -> Sequence[SecretView]:
        """Return them without values."""
        revision = await self._renewing.current(app)
        return [
            SecretView(
                name=each.name,
                version=each.version,
                updated_at=each.updated_at,
                services=_users(revision.spec, each.name) if revision else (),
            )
            for each in await self._keeping.variables(app, SECRET)
        ]

    async def put(self, app: str, name: str, value: bytes, change: Change) -> Deploy | None:
        """Keep a value; a running app that uses it is deployed anew. Raises ``SecretSizeError``."""
        await self._store.find(app)
        if not _SECRET_NAME.fullmatch(name):
            raise VariableNameError(f"{name[:80]!r} is no name for a secret: use letters, digits, '.', '_' and '-'")
        if not 0 < len(value) <= MAX_SECRET_BYTES:
            raise SecretSizeError(f"a secret has 1 to {MAX_SECRET_BYTES} bytes, not {len(value)}")
        await self._keeping.put(app, SECRET, name, value, change)
        revision = await self._renewing.current(app)
        if revision is None or not _users(revision.spec, name):
            return None
        return await self._renewing.renew(app, change, f"secret {name} was changed")

    async def remove(self, app: str, name: str, change: Change) -> None:
        """Forget it. Raises ``SecretInUseError``, ``SecretNotFoundError``."""
        revision = await self._renewing.current(app)
        users = _users(revision.spec, name) if revision else ()
        if users:
            raise SecretInUseError(f"{name} is used by {', '.join(users)}: deploy a file without it first")
        if not await self._keeping.forget(app, SECRET, name, change):
            raise SecretNotFoundError(f"{app} has no secret {name[:80]!r}")


class AppEnvironment:
    """Variables kept for an app."""

    def __init__(self, store: AppStore, keeping: Keeping, renewing: Renewing) -> None:
        self._store = store
        self._keeping = keeping
        self._renewing = renewing

    async def variables(self, app: str) -> Sequence[EnvView]:
        """Return them, values included."""
        await self._store.find(app)
        return [
            EnvView(name=each.name, value=each.value.decode(), updated_at=each.updated_at)
            for each in await self._keeping.variables(app, ENVIRONMENT)
        ]

    async def put(self, app: str, values: Mapping[str, str | None], change: Change) -> Deploy | None:
        """Set variables, and forget those that are None. Raises ``VariableNameError``."""
        await self._store.find(app)
        for name, value in values.items():
            if not _VARIABLE_NAME.fullmatch(name):
                raise VariableNameError(f"{name[:80]!r} is no name for a variable: use letters, digits and '_'")
            if value is not None and (len(value) > MAX_VALUE_CHARACTERS or "\0" in value):
                raise VariableNameError(
                    f"the value of {name} is longer than {MAX_VALUE_CHARACTERS}, or has a NUL in it"
                )
        for name, value in values.items():
            if value is None:
                await self._keeping.forget(app, ENVIRONMENT, name, change)
            else:
                await self._keeping.put(app, ENVIRONMENT, name, value.encode(), change)
        return await self._renewing.renew(app, change, f"variables changed: {', '.join(sorted(values))}")


class AppRoutes:
    """Routes of an app."""

    def __init__(self, store: AppStore, keeping: Keeping, renewing: Renewing, limits: Limits) -> None:
        self._store = store
        self._keeping = keeping
        self._renewing = renewing
        self._limits = limits

    async def routes(self, app: str) -> Sequence[RouteView]:
        """Return the routes in force, those of the file too."""
        revision = await self._renewing.current(app)
        kept = await self._keeping.routes(app)
        views = [RouteView(id=each.id, service=each.service, spec=each.spec, origin="kept") for each in kept]
        if revision is None:
            return views
        laid = {_id_of(each.service, each.spec) for each in overlay_of(revision.spec).routes}
        of_file = [
            RouteView(id=_id_of(name, route), service=name, spec=route, origin="file")
            for name, service in revision.spec.services.items()
            for route in service.routes
            if _id_of(name, route) not in laid
        ]
        return [*of_file, *views]

    async def add(self, app: str, service: str, spec: RouteSpec, change: Change) -> RouteView:
        """Keep a route. Raises ``RouteFaultError``, ``RouteTakenError``, ``ServiceNotFoundError``."""
        revision = await self._renewing.current(app)
        if revision is None or service not in revision.spec.services:
            raise ServiceNotFoundError.among(app, service, revision.spec.services if revision else ())
        own = replace(revision.spec.services[service], routes=(spec,))
        await self._limits.check_routes(app, replace(revision.spec, services={service: own}))
        route = await self._keeping.add_route(app, service, spec, change)
        await self._renewing.renew(app, change, f"route added to {service}")
        return RouteView(id=route.id, service=service, spec=spec, origin="kept")

    async def remove(self, app: str, route: str, change: Change) -> None:
        """Forget a kept one. Raises ``RouteNotFoundError``, ``RouteOfFileError``."""
        there = next((each for each in await self.routes(app) if each.id == route), None)
        if there is None:
            raise RouteNotFoundError(f"{app} has no route {route[:40]!r}: hunqi route ls {app} shows those there are")
        if there.origin == "file":
            raise RouteOfFileError("the route stands in the Compose file: take it out there and deploy")
        await self._keeping.remove_route(app, route, change)
        await self._renewing.renew(app, change, f"route removed from {there.service}")


def _users(spec: AppSpec, secret: str) -> tuple[str, ...]:
    keys = {key for key, payload in spec.secrets.items() if payload.external == secret}
    return tuple(
        name for name, service in spec.services.items() if any(grant.source in keys for grant in service.secrets)
    )


def _id_of(service: str, route: RouteSpec) -> str:
    return hashlib.sha256(dumps((service, route)).encode()).hexdigest()[:12]
