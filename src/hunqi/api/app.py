"""The interface, made of what it is given: ``build_api``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from hunqi.api import problems
from hunqi.api.access import COOKIE, Access
from hunqi.api.context import Context
from hunqi.api.idempotency import IdempotencyKeys
from hunqi.api.limits import Limits
from hunqi.api.ports import Rooms
from hunqi.api.routes import (
    apps,
    cluster,
    events,
    hooks,
    metrics,
    people,
    requests,
    rollouts,
    scaling,
    tasks,
    variables,
)
from hunqi.api.streams import HEARTBEAT_S, MOST_STREAMS, Streams
from hunqi.identity.directory import Directory
from hunqi.identity.registry import RegistryLogins
from hunqi.state.events import EventLog

VERSION: Final = "1"
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "An error (RFC 9457). `code` is stable; some codes have members of their own.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "remedy": {"type": "string"},
    },
    "additionalProperties": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """What can be set. ``secure_cookies`` where browsers come by HTTPS only."""

    secure_cookies: bool = False
    heartbeat_s: float = HEARTBEAT_S
    most_streams: int = MOST_STREAMS


def build_api(
    directory: Directory,
    rooms: Rooms,
    events_log: EventLog,
    logins: RegistryLogins,
    *,
    settings: ApiSettings | None = None,
) -> FastAPI:
    """Return the application: every route guarded, every error a problem. It starts and stops nothing itself."""
    chosen = settings or ApiSettings()
    access = Access(directory, rooms)
    context = Context(
        access=access,
        directory=directory,
        rooms=rooms,
        events=events_log,
        streams=Streams(most=chosen.most_streams),
        logins=logins,
        secure_cookies=chosen.secure_cookies,
        heartbeat_s=chosen.heartbeat_s,
    )
    api = FastAPI(
        title="Hunqi",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        responses={"default": {"description": "An error.", "content": {problems.MEDIA_TYPE: {}}}},
    )
    api.state.access = access
    api.state.idempotency = IdempotencyKeys(directory.database)
    subjects = (people, apps, rollouts, tasks, requests, variables, hooks, cluster, metrics, scaling, events)
    for subject in subjects:
        api.include_router(subject.routes(context))
    problems.install(api)
    api.add_middleware(Limits)
    _describe(api)
    return api


def _operation_id(route: APIRoute) -> str:
    return route.name


def _describe(api: FastAPI) -> None:
    """Put into the description what FastAPI does not know: problems, and the two ways to show who one is."""
    made = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is not None:
            return api.openapi_schema
        schema = made()
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {})["ApiProblem"] = _PROBLEM
        for unused in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(unused, None)
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "A token: hq_…"},
            "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
        }
        schema["security"] = [{"token": []}, {"session": []}]
        for path in schema["paths"].values():
            for operation in path.values():
                _describe_errors(operation)
        return schema

    api.openapi = openapi


def _describe_errors(operation: dict[str, Any]) -> None:
    problem = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ApiProblem"}}}
    responses = operation["responses"]
    responses.pop("422", None)
    responses["default"] = {"description": "An error.", "content": problem}
