"""Tasks of an app: what runs, what it wrote, one-off commands, and ways into it (commands, files, ports)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hunqi.api.access import Caller, GuardedRouter
from hunqi.api.bodies import AppName, ReasonBody, RunBody
from hunqi.api.context import Context
from hunqi.api.duplex import pump
from hunqi.api.errors import RequestInvalidError
from hunqi.api.paging import Cursor, Limit, Page, page_of
from hunqi.api.ports import Command, TaskRef
from hunqi.api.routes.apps import change_of
from hunqi.api.streams import line, mapped, open_stream
from hunqi.apps.operations import LogLine, LogQuery, Run, RunRequest, TaskView
from hunqi.identity.policy import Action

LINES: Final = "application/x-ndjson"
TAR: Final = "application/x-tar"
RunId = Annotated[str, Path(min_length=1, max_length=32)]
ServiceQuery = Annotated[str, Query(max_length=200, description="A service, of which any healthy task is taken.")]
TaskQuery = Annotated[str, Query(max_length=64, description="A task's id, or the beginning of it.")]
PathQuery = Annotated[str, Query(min_length=1, max_length=4096, description="An absolute path in the task.")]
_FIRST_FRAME = 256 * 1024


def routes(context: Context) -> APIRouter:
    """Return all of these."""
    router = APIRouter()
    for part in (_tasks, _runs, _files, _sockets):
        router.include_router(part(context))
    return router


def _tasks(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "tasks")
    apps = context.rooms.apps

    @guarded.add("GET", "/v1/apps/{app}/tasks", Action.APP_SEE)
    async def list_tasks(app: AppName, limit: Limit = 200, cursor: Cursor = None) -> Page[TaskView]:
        """Return the app's tasks."""
        found = await apps.views.tasks(app)
        order = {task.id: f"{number:08}" for number, task in enumerate(found)}
        return page_of(found, key=lambda task: order[task.id], limit=limit, cursor=cursor)

    @guarded.add(
        "GET", "/v1/apps/{app}/logs", Action.APP_LOGS, response_class=Response,
        responses={200: {"content": {LINES: {}}}},
    )  # fmt: skip
    async def read_logs(
        app: AppName,
        *,
        service: Annotated[list[str] | None, Query(max_length=100)] = None,
        follow: bool = False,
        tail: Annotated[int | None, Query(ge=0, le=100_000, description="Lines of each task.")] = 100,
        since: Annotated[str | None, Query(max_length=40, description="RFC 3339.")] = None,
        removed: Annotated[bool, Query(description="Whether lines of removed revisions come first.")] = False,
    ) -> Response:
        """Stream what the tasks wrote, a JSON object on each line."""
        query = LogQuery(services=tuple(service or ()), follow=follow, tail=tail, since=since, removed=removed)
        return await open_stream(context.streams, mapped(apps.logs.open(app, query), _log_line), media_type=LINES)

    return guarded.router


def _runs(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "runs")
    runs = context.rooms.apps.runs

    @guarded.add("POST", "/v1/apps/{app}/runs", Action.APP_ENTER, status_code=202)
    async def start_run(app: AppName, body: RunBody, caller: Caller) -> Run:
        """Start a one-off command in a service's image, with its environment, networks, secrets and volumes."""
        request = RunRequest(
            service=body.service,
            command=None if body.command is None else tuple(body.command),
            environment=body.environment,
            timeout_s=body.timeout_s,
        )
        return await runs.run(app, request, change_of(caller, body.reason))

    @guarded.add("GET", "/v1/apps/{app}/runs", Action.APP_SEE)
    async def list_runs(app: AppName, limit: Limit = 50, cursor: Cursor = None) -> Page[Run]:
        """Return the last runs, newest first, scheduled ones too."""
        found = await runs.runs(app, limit=1000)
        order = {run.id: f"{number:08}" for number, run in enumerate(found)}
        return page_of(found, key=lambda run: order[run.id], limit=limit, cursor=cursor)

    @guarded.add("GET", "/v1/apps/{app}/runs/{run}", Action.APP_SEE)
    async def show_run(app: AppName, run: RunId) -> Run:
        """Return one run."""
        return await runs.find(app, run)

    @guarded.add("POST", "/v1/apps/{app}/runs/{run}/stop", Action.APP_ENTER)
    async def stop_run(app: AppName, run: RunId, body: ReasonBody, caller: Caller) -> Run:
        """Stop a run."""
        return await runs.stop(app, run, change_of(caller, body.reason))

    @guarded.add(
        "GET", "/v1/apps/{app}/runs/{run}/logs", Action.APP_LOGS, response_class=Response,
        responses={200: {"content": {LINES: {}}}},
    )  # fmt: skip
    async def read_run_logs(app: AppName, run: RunId, *, follow: bool = False) -> Response:
        """Stream what a run wrote, a JSON object on each line."""
        source = mapped(runs.logs(app, run, follow=follow), _log_line)
        return await open_stream(context.streams, source, media_type=LINES)

    return guarded.router


def _files(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "tasks")
    entering = context.rooms.entering

    @guarded.add(
        "GET", "/v1/apps/{app}/files", Action.APP_ENTER, response_class=Response,
        responses={200: {"content": {TAR: {}}}},
    )  # fmt: skip
    async def get_files(app: AppName, path: PathQuery, service: ServiceQuery = "", task: TaskQuery = "") -> Response:
        """Read a path of a task as tar."""
        source = entering.get_files(app, TaskRef(service=service, task=task), path)
        return await open_stream(context.streams, source, media_type=TAR)

    @guarded.add(
        "PUT", "/v1/apps/{app}/files", Action.APP_ENTER, status_code=204, response_class=Response,
        openapi_extra={"requestBody": {"required": True, "content": {TAR: {"schema": {"type": "string"}}}}},
    )  # fmt: skip
    async def put_files(
        app: AppName, path: PathQuery, request: Request, service: ServiceQuery = "", task: TaskQuery = ""
    ) -> Response:
        """Unpack a tar stream into a directory of a task."""
        async with context.streams.one():
            await entering.put_files(app, TaskRef(service=service, task=task), path, _chunks(request))
        return Response(status_code=204)

    return guarded.router


class ExecFrame(BaseModel):
    """The first frame of exec, a JSON object in text."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    command: list[str] = Field(min_length=1, max_length=1000)
    tty: bool = False
    stdin: bool = False
    env: dict[str, str] = Field(default={}, max_length=500)
    user: str = Field(default="", max_length=100)
    workdir: str = Field(default="", max_length=4096)
    columns: int = Field(default=80, ge=1, le=10_000)
    rows: int = Field(default=24, ge=1, le=10_000)


def _sockets(context: Context) -> APIRouter:
    guarded = GuardedRouter(context.access, "tasks")
    entering = context.rooms.entering

    @guarded.socket("/v1/apps/{app}/exec", Action.APP_ENTER)
    async def execute(socket: WebSocket, app: AppName, service: ServiceQuery = "", task: TaskQuery = "") -> None:
        async with context.streams.one():
            await socket.accept()
            command = await _first_frame(socket)
            if command is not None:
                await pump(socket, entering.execute(app, TaskRef(service=service, task=task), command))

    @guarded.socket("/v1/apps/{app}/forward", Action.APP_ENTER)
    async def forward(
        socket: WebSocket,
        app: AppName,
        port: Annotated[int, Query(ge=1, le=65535)],
        service: ServiceQuery = "",
        task: TaskQuery = "",
    ) -> None:
        async with context.streams.one():
            await socket.accept()
            await pump(socket, entering.forward(app, TaskRef(service=service, task=task), port))

    return guarded.router


async def _first_frame(socket: WebSocket) -> Command | None:
    """Return the command that the client wants; None (and the socket closed) for what is none."""
    try:
        text = await socket.receive_text()
        frame = ExecFrame.model_validate_json(text[:_FIRST_FRAME])
    except WebSocketDisconnect:
        return None
    except (ValidationError, KeyError):
        said = RequestInvalidError([{"where": "first frame", "message": 'it is to be {"command": […], …} as text'}])
        await socket.send_text(json.dumps({"error": {"code": said.code, "message": str(said)}}))
        await socket.close(1008)
        return None
    return Command(
        command=tuple(frame.command),
        tty=frame.tty,
        stdin=frame.stdin,
        env=frame.env,
        user=frame.user,
        workdir=frame.workdir,
        columns=frame.columns,
        rows=frame.rows,
    )


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk


def _log_line(said: LogLine) -> bytes:
    shown: dict[str, Any] = {
        "service": said.service,
        "revision": said.revision,
        "task": said.task,
        "node": said.node,
        "stream": said.stream,
        "at": said.at,
        "text": said.text,
    }
    return line(shown)
