"""Errors on the wire: problem+json (RFC 9457), and the one table from our codes to HTTP's status.

The table is total: a code's own entry, else its ending's, else its branch's of the error tree. A message of ours is the
``detail``; a foreign exception's never is. Data of an error that a client acts on travel as members of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, cast

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from hunqi.api.errors import MethodError, NoSuchPathError, RequestInvalidError
from hunqi.errors import DependencyError, HunqiError, InvariantError, UserError
from hunqi.kit.codec import CodecError, encode

MEDIA_TYPE: Final = "application/problem+json"
_log: Final = logging.getLogger(__name__)

STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "api.no-such-path": 404,
        "api.method": 405,
        "api.body-too-large": 413,
        "api.invalid": 422,
        "api.cursor": 422,
        "api.idempotency-key": 422,
        "api.idempotency-busy": 409,
        "api.not-leader": 503,
        "api.too-many-streams": 503,
        "app.busy": 409,
        "auth.required": 401,
        "auth.login": 401,
        "auth.setup-token": 401,
        "auth.denied": 403,
        "auth.csrf": 403,
        "auth.too-many-attempts": 429,
        "compose.needs": 422,
        "compose.invalid": 422,
        "deploy.privilege": 403,
        "deploy.room": 409,
        "deploy.strict": 422,
        "nodes.join-token": 401,
        "nodes.no-agent": 409,
        "nodes.refused": 409,
        "nodes.agent-refused": 409,
        "nodes.agent-unreachable": 503,
        "nodes.agent-failed": 502,
        "hook.refused": 422,
        "rollout.refused": 409,
        "route.of-file": 409,
        "scale.refused": 409,
        "scaling.invalid": 422,
        "state.conflict": 409,
        "state.full": 507,
        "state.version": 500,
        "state.damaged": 500,
        "state.url": 500,
        "state.cluster-key": 500,
        "state.seal-broken": 500,
        "team.quota": 409,
        "telemetry.source-unavailable": 502,
        "user.last-admin": 409,
        "engine.refused": 409,
        "engine.failed": 502,
    }
)
ENDINGS: Final[Mapping[str, int]] = MappingProxyType(
    {
        ".not-found": 404,
        ".exists": 409,
        ".taken": 409,
        ".in-use": 409,
        ".ended": 409,
        ".conflict": 409,
    }
)
BRANCHES: Final[tuple[tuple[type[HunqiError], int], ...]] = (
    (UserError, 422),
    (DependencyError, 503),
    (InvariantError, 500),
    (HunqiError, 500),
)
REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "api.not-leader": "hunqi login with a --url for each manager: the one that leads is then found among them",
        "auth.required": "hunqi login",
        "auth.denied": "ask an owner of the team for the role, or use a token with a wider scope",
        "api.no-such-path": "GET /v1/openapi.json lists what there is",
        "compose.needs": "send the named files and variables, or list them as absent, and ask again",
        "deploy.privilege": "remove what is named, or ask an administrator of the platform to deploy it",
        "deploy.room": "deploy again with order stop-first or batches, or add a node",
        "deploy.strict": "remove the keys that are named, or deploy without strict",
        "image.unavailable": "check the name, and that the accelerator may ask that registry",
        "engine.unreachable": "see `hunqi doctor` on the manager",
        "state.full": "make room on the disk of the database",
    }
)
_MEMBERS: Final = ("files", "variables", "problems", "notes", "retry_after_s", "leader", "node", "order", "conflicts")
"""Attributes of errors that clients act on."""


def status_of(error: HunqiError | type[HunqiError]) -> int:
    """Return HTTP's status for an error of ours."""
    if (status := STATUS.get(error.code)) is not None:
        return status
    for ending, by_ending in ENDINGS.items():
        if error.code.endswith(ending):
            return by_ending
    kind = error if isinstance(error, type) else type(error)
    return next(by_branch for branch, by_branch in BRANCHES if branch in kind.__mro__)


def problem_of(error: HunqiError) -> dict[str, Any]:
    """Return the body for an error of ours."""
    status = status_of(error)
    said = str(error) if not isinstance(error, InvariantError) else "this is a fault of Hunqi: its log says more"
    body: dict[str, Any] = {
        "type": f"urn:hunqi:problem:{error.code}",
        "title": (type(error).__doc__ or "").strip().split("\n", 1)[0],
        "status": status,
        "code": error.code,
        "detail": said,
    }
    remedy = getattr(error, "remedy", None) or REMEDIES.get(error.code)
    if remedy:
        body["remedy"] = remedy
    for name in _MEMBERS:
        if (held := getattr(error, name, None)) is not None:
            body[name] = sorted(cast("frozenset[str]", held)) if isinstance(held, frozenset) else encode(held)
    return body


def install(api: FastAPI) -> None:
    """Have every error of ``api`` answered as a problem."""
    handlers = (
        (HunqiError, _on_ours),
        (RequestValidationError, _on_invalid),
        (HTTPException, _on_http),
        (Exception, _on_foreign),
    )
    for kind, handler in handlers:  # one handler serves requests and WebSockets, which Starlette's types do not foresee
        api.add_exception_handler(kind, cast("Any", handler))


def answer(error: HunqiError) -> JSONResponse:
    """Return the whole response for an error of ours."""
    body = problem_of(error)
    headers = {"Cache-Control": "no-store"}
    if (retry := getattr(error, "retry_after_s", None)) is not None:
        headers["Retry-After"] = f"{max(1, round(retry))}"
    if body["status"] == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="hunqi"'
    return JSONResponse(body, status_code=body["status"], headers=headers, media_type=MEDIA_TYPE)


async def _on_ours(connection: HTTPConnection, error: Exception) -> JSONResponse | None:
    if not isinstance(error, HunqiError):
        return await _on_foreign(connection, error)
    if isinstance(error, InvariantError) and not isinstance(error, CodecError):
        _log.error("a request met a fault of ours", exc_info=error, extra={"path": connection.url.path})
    elif status_of(error) >= 500:
        _log.warning("a request could not be served: %s", error, extra={"path": connection.url.path})
    return await _send(connection, answer(error))


async def _on_invalid(connection: HTTPConnection, error: Exception) -> JSONResponse | None:
    """Name each place, and never repeat what was sent there: it may be a secret."""
    found: list[Mapping[str, Any]] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    problems = [
        {"where": ".".join(str(part) for part in each["loc"])[:200], "message": _message(each)} for each in found
    ]
    return await _send(connection, answer(RequestInvalidError(problems)))


async def _on_http(connection: HTTPConnection, error: Exception) -> JSONResponse | None:
    if isinstance(error.__cause__, HunqiError):  # FastAPI wraps what is raised while a body is read
        return await _on_ours(connection, error.__cause__)
    status = error.status_code if isinstance(error, HTTPException) else 500
    match status:
        case 404:
            said: HunqiError = NoSuchPathError("there is nothing at this path")
        case 405:
            said = MethodError("this path does not take this method")
        case _:
            said = RequestInvalidError([{"where": "request", "message": "it cannot be read"}])
    response = answer(said)
    if status == 405 and isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return await _send(connection, response)


async def _on_foreign(connection: HTTPConnection, error: Exception) -> JSONResponse | None:
    _log.error("a request failed in a way that nobody foresaw", exc_info=error, extra={"path": connection.url.path})
    return await _send(connection, answer(InvariantError("unforeseen")))


async def _send(connection: HTTPConnection, response: JSONResponse) -> JSONResponse | None:
    """Give the response back, or (a WebSocket that is not open yet) answer the handshake with it."""
    if isinstance(connection, Request):
        return response
    if isinstance(connection, WebSocket):
        if connection.client_state.name == "CONNECTING":
            await connection.send_denial_response(response)
        else:
            await connection.close(1011)
    return None


def _message(each: Mapping[str, Any]) -> str:
    """Return pydantic's words without the input; its own validators' messages are ours."""
    return str(each.get("msg", "is wrong")).removeprefix("Value error, ")[:300]
