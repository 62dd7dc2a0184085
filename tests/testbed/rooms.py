"""The rooms below the interface, in memory: enough of each port to show what the interface does with it.

Apps are rows of the real database (so that teams and grants are real); what a deploy would do is only noted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select

from hunqi.api.ports import (
    BackupMade,
    CertificateView,
    Command,
    JoinTokenView,
    NodeChange,
    NodeView,
    PartStatus,
    PlatformStatus,
    Rooms,
    TaskRef,
)
from hunqi.apps.errors import (
    AppNotFoundError,
    DeployNotFoundError,
    RevisionNotFoundError,
    RouteNotFoundError,
    RunNotFoundError,
    SecretNotFoundError,
    ServiceNotFoundError,
)
from hunqi.apps.model import AppSpec, DeployState, Revision, RouteSpec, ServiceSpec
from hunqi.apps.operations import (
    AppOperations,
    AppView,
    Change,
    Checked,
    Deploy,
    Difference,
    EnvView,
    LogLine,
    LogQuery,
    RevisionSummary,
    RouteView,
    Run,
    RunRequest,
    SecretView,
    ServiceView,
    Submission,
    TaskView,
)
from hunqi.apps.rollout_spec import RolloutSpec
from hunqi.apps.scale_spec import ScaleSpec
from hunqi.errors import UserError
from hunqi.hooks.errors import HookNotFoundError
from hunqi.hooks.model import Hook, HookDelivery
from hunqi.nodes.errors import JoinTokenError, NodeNotFoundError
from hunqi.nodes.join import JoinAnswer, JoinRequest
from hunqi.nodes.model import Roster
from hunqi.nodes.wire import RequestLine, RequestQuery
from hunqi.rollouts.commands import Verb, said_to
from hunqi.rollouts.errors import RolloutNotFoundError, RolloutRefusedError
from hunqi.rollouts.model import Course, Look, Rollout
from hunqi.rollouts.presets import resolved
from hunqi.rollouts.states import State
from hunqi.rollouts.views import RolloutView, view_of
from hunqi.scaling.errors import NotScaledError
from hunqi.scaling.model import Decision, Scaled
from hunqi.scaling.parsing import scale_of
from hunqi.state.database import Database
from hunqi.state.events import append, now
from hunqi.state.tables import APPS
from testbed.measured import MemoryTelemetry

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class NeedsError(UserError):
    """As the compiler's."""

    code = "compose.needs"

    def __init__(self, files: set[str], variables: set[str]) -> None:
        super().__init__("the project needs more")
        self.files, self.variables = frozenset(files), frozenset(variables)


@dataclass
class MemoryRooms:
    """Everything; ``leading`` and ``leader`` are set by tests, ``acts`` is what was asked for."""

    database: Database
    leading: bool = True
    address: str | None = None
    machine: str | None = None
    ready: bool = True
    needs_files: set[str] = field(default_factory=set)
    needs_variables: set[str] = field(default_factory=set)
    submissions: list[Submission] = field(default_factory=list)
    acts: list[tuple[str, str, str]] = field(default_factory=list)
    deploys: dict[str, list[Deploy]] = field(default_factory=dict)
    secrets: dict[tuple[str, str], bytes] = field(default_factory=dict)
    environment: dict[str, dict[str, str]] = field(default_factory=dict)
    routes: dict[str, list[RouteView]] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    open_streams: int = 0
    lines: int = 3
    files: dict[str, bytes] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    telemetry: MemoryTelemetry = field(default_factory=MemoryTelemetry)

    def rooms(self) -> Rooms:
        """Return all ports."""
        apps = AppOperations(
            deploys=_Deploys(self),
            revisions=_Revisions(self),
            lifecycle=_Lifecycle(self),
            views=_Views(self),
            logs=_Logs(self),
            runs=_Runs(self),
            secrets=_Secrets(self),
            environment=_Environment(self),
            routes=_Routes(self),
        )
        return Rooms(
            apps=apps,
            entering=_Entering(self),
            nodes=_Nodes(self),
            joining=_Joining(self),
            certificates=_Certificates(self),
            platform=_Platform(self),
            leader=self,
            telemetry=self.telemetry.operations(self.database),
            hooks=_Hooks(self),
            rollouts=_Rollouts(self),
            requests=_Requests(),
            scaling=_Scaling(self),
        )

    def roll(self, app: str, state: State, course: Course, spec: RolloutSpec | None = None) -> None:
        """Have an app have a rollout."""
        _Rollouts(self).begin(app, spec or RolloutSpec(), state, course)

    async def make_app(self, name: str, team: str) -> None:
        """Make an app of a team (by id)."""
        row = {"name": name, "team_id": team, "desired": "running", "created_at": now(), "updated_at": now()}
        async with self.database.begin() as connection:
            await connection.execute(insert(APPS).values(**row))
            await append(connection, "app.created", actor="test", app=name, subject=name)

    async def team_of(self, app: str) -> str:
        """Return the team of an app."""
        async with self.database.read() as connection:
            team = await connection.scalar(select(APPS.c.team_id).where(APPS.c.name == app))
        if team is None:
            raise AppNotFoundError(f"there is no app {app!r}")
        return str(team)

    async def act(self, app: str, what: str, change: Change) -> None:
        """Note a change."""
        await self.team_of(app)
        self.acts.append((app, what, change.actor))
        async with self.database.begin() as connection:
            await append(connection, f"app.{what}", actor=change.actor, app=app, subject=app, reason=change.reason)

    async def view(self, app: str) -> AppView:
        """Return an app."""
        team = await self.team_of(app)
        spec = RouteSpec(port=80, hosts=(f"{app}.example.com",), basic_auth=("ann:{SHA}secretsecretsecretsecretse=",))
        service = ServiceView(
            name="web",
            revision=1,
            image="web@sha256:1",
            mode="replicated",
            wanted=2,
            running=2,
            healthy=2,
            routes=(spec,),
        )
        deploys = self.deploys.get(app)
        return AppView(
            name=app,
            team=team,
            state="running",
            sentence="",
            revision=1,
            services=(service,),
            maintenance=None,
            deploy=deploys[-1] if deploys else None,
            created_at=AT,
            updated_at=AT,
        )

    async def finish(self, app: str, deploy: str, state: DeployState) -> None:
        """End a deploy."""
        found = self.deploys[app]
        found[:] = [
            replace(each, state=state, updated_at=each.updated_at + timedelta(seconds=1)) if each.id == deploy else each
            for each in found
        ]
        async with self.database.begin() as connection:
            await append(connection, f"deploy.{state}", actor="system", app=app, subject=deploy)


class _Part:
    def __init__(self, all_: MemoryRooms) -> None:
        self._all = all_


class _Deploys(_Part):
    def _complete(self, submission: Submission) -> None:
        sent = submission.files.keys() | set(submission.absent_files)
        known = submission.variables.keys() | set(submission.absent_variables)
        files, variables = self._all.needs_files - sent, self._all.needs_variables - known
        if files or variables:
            raise NeedsError(files, variables)

    async def check(self, app: str, submission: Submission) -> Checked:
        self._complete(submission)
        return Checked(app=app, notes=(), changes=())

    async def deploy(self, app: str, submission: Submission, change: Change) -> Deploy:
        self._complete(submission)
        self._all.submissions.append(submission)
        if submission.team is not None:
            await self._all.make_app(app, submission.team)
        return await self._begin(app, change)

    async def _begin(self, app: str, change: Change) -> Deploy:
        await self._all.act(app, "deployed", change)
        found = self._all.deploys.setdefault(app, [])
        deploy = Deploy(
            id=f"d{len(found):08}",
            app=app,
            revision=len(found) + 1,
            from_revision=len(found) or None,
            state=DeployState.STARTING,
            sentence="starting web",
            services=(),
            problem=None,
            actor=change.actor,
            reason=change.reason,
            created_at=AT,
            updated_at=AT,
        )
        found.append(deploy)
        return deploy

    async def deploys(self, app: str, *, limit: int = 50, before: str | None = None) -> Sequence[Deploy]:
        await self._all.team_of(app)
        found = [each for each in reversed(self._all.deploys.get(app, [])) if before is None or each.id < before]
        return found[:limit]

    async def find(self, app: str, deploy: str) -> Deploy:
        await self._all.team_of(app)
        for each in self._all.deploys.get(app, []):
            if each.id == deploy:
                return each
        raise DeployNotFoundError(f"there is no deploy {deploy!r} of {app}")

    async def cancel(self, app: str, deploy: str, change: Change) -> Deploy:
        await self.find(app, deploy)
        await self._all.finish(app, deploy, DeployState.CANCELLED)
        return await self.find(app, deploy)

    async def rollback(self, app: str, revision: int, change: Change, *, direct: bool = False) -> Deploy:
        if revision > 1000:
            raise RevisionNotFoundError(f"there is no revision {revision}")
        return await self._begin(app, change)


class _Revisions(_Part):
    async def history(self, app: str) -> Sequence[RevisionSummary]:
        await self._all.team_of(app)
        return [
            RevisionSummary(number=n, live=n == 3, retained=True, images={}, created_at=AT, actor="ann", reason="")
            for n in (3, 2, 1)
        ]

    async def find(self, app: str, number: int) -> Revision:
        if number > 3:
            raise RevisionNotFoundError(f"there is no revision {number}")
        spec = AppSpec(name=app, services={"web": ServiceSpec(name="web", image="web")})
        return Revision(app=app, number=number, spec=spec, origin={"web": 1}, created_at=AT, actor="ann", reason="")

    async def diff(self, app: str, before: int, after: int) -> Sequence[Difference]:
        await self.find(app, max(before, after))
        return [Difference(path="services.web.image", before="a", after="b")]


class _Lifecycle(_Part):
    async def scale(self, app: str, replicas: Mapping[str, int], change: Change) -> AppView:
        if unknown := replicas.keys() - {"web"}:
            raise ServiceNotFoundError(f"there is no service {min(unknown)!r}")
        await self._all.act(app, "scaled", change)
        return await self._all.view(app)

    async def restart(self, app: str, services: Sequence[str], change: Change) -> AppView:
        await self._all.act(app, "restarted", change)
        return await self._all.view(app)

    async def stop(self, app: str, change: Change) -> AppView:
        await self._all.act(app, "stopped", change)
        return await self._all.view(app)

    async def start(self, app: str, change: Change) -> AppView:
        await self._all.act(app, "started", change)
        return await self._all.view(app)

    async def remove(self, app: str, change: Change, *, volumes: bool = False) -> None:
        await self._all.act(app, "removed-with-volumes" if volumes else "removed", change)
        async with self._all.database.begin() as connection:
            await connection.execute(delete(APPS).where(APPS.c.name == app))

    async def maintenance(self, app: str, text: str | None, change: Change) -> AppView:
        await self._all.act(app, "maintained", change)
        return replace(await self._all.view(app), maintenance=text)


class _Views(_Part):
    async def list(self, *, teams: Sequence[str] | None = None) -> Sequence[AppView]:
        async with self._all.database.read() as connection:
            names = (await connection.execute(select(APPS.c.name).order_by(APPS.c.name))).scalars().all()
        return [await self._all.view(name) for name in names]

    async def show(self, app: str) -> AppView:
        return await self._all.view(app)

    async def tasks(self, app: str) -> Sequence[TaskView]:
        await self._all.team_of(app)
        return [
            TaskView(
                id=f"task{n}", service="web", revision=1, slot=n, node="one", state="running", desired="running",
                healthy=True, message="", exit_code=None, image="web", since="",
            )
            for n in range(3)
        ]  # fmt: skip

    async def team_of(self, app: str) -> str:
        return await self._all.team_of(app)


class _Logs(_Part):
    @asynccontextmanager
    async def open(self, app: str, query: LogQuery) -> AsyncGenerator[AsyncIterator[LogLine]]:
        await self._all.team_of(app)
        self._all.open_streams += 1
        try:
            yield self._lines(query)
        finally:
            self._all.open_streams -= 1

    async def _lines(self, query: LogQuery) -> AsyncIterator[LogLine]:
        for number in range(self._all.lines):
            yield LogLine(
                service="web", revision=1, task="task0", node="one", stream="stdout", at="2026-01-02T03:04:05.0Z",
                text=f"line {number} \u2028 \x00",
            )  # fmt: skip
        if query.follow:
            await asyncio.Event().wait()


class _Runs(_Part):
    async def run(self, app: str, request: RunRequest, change: Change) -> Run:
        await self._all.act(app, "ran", change)
        found = self._all.runs.setdefault(app, [])
        run = Run(
            id=f"r{len(found)}", app=app, service=request.service, kind="run", state="running", exit_code=None,
            due_at=None, started_at=AT, finished_at=None,
        )  # fmt: skip
        found.append(run)
        return run

    async def runs(self, app: str, *, limit: int = 50) -> Sequence[Run]:
        await self._all.team_of(app)
        return list(reversed(self._all.runs.get(app, [])))[:limit]

    async def find(self, app: str, run: str) -> Run:
        for each in self._all.runs.get(app, []):
            if each.id == run:
                return each
        raise RunNotFoundError(f"there is no run {run!r}")

    async def stop(self, app: str, run: str, change: Change) -> Run:
        return replace(await self.find(app, run), state="cancelled")

    @asynccontextmanager
    async def logs(self, app: str, run: str, *, follow: bool) -> AsyncGenerator[AsyncIterator[LogLine]]:
        await self.find(app, run)
        # A stream that follows never ends by itself, as Docker's does not.
        async with _Logs(self._all).open(app, LogQuery(follow=follow)) as lines:
            yield lines

    def finish(self, app: str, code: int) -> None:
        """Have the last run end with an exit code."""
        runs = self._all.runs[app]
        runs[-1] = replace(runs[-1], state="failed" if code else "succeeded", exit_code=code)


class _Secrets(_Part):
    async def secrets(self, app: str) -> Sequence[SecretView]:
        await self._all.team_of(app)
        return [SecretView(name=n, version=1, updated_at=AT, services=()) for a, n in self._all.secrets if a == app]

    async def put(self, app: str, name: str, value: bytes, change: Change) -> Deploy | None:
        await self._all.act(app, "secret-set", change)
        self._all.secrets[app, name] = value
        return None

    async def remove(self, app: str, name: str, change: Change) -> None:
        await self._all.team_of(app)
        if self._all.secrets.pop((app, name), None) is None:
            raise SecretNotFoundError(f"there is no secret {name!r}")


class _Environment(_Part):
    async def variables(self, app: str) -> Sequence[EnvView]:
        await self._all.team_of(app)
        kept = self._all.environment.get(app, {})
        return [EnvView(name=name, value=value, updated_at=AT) for name, value in kept.items()]

    async def put(self, app: str, values: Mapping[str, str | None], change: Change) -> Deploy | None:
        await self._all.act(app, "environment-set", change)
        kept = self._all.environment.setdefault(app, {})
        for name, value in values.items():
            if value is None:
                kept.pop(name, None)
            else:
                kept[name] = value
        return None


class _Routes(_Part):
    async def routes(self, app: str) -> Sequence[RouteView]:
        await self._all.team_of(app)
        return self._all.routes.get(app, [])

    async def add(self, app: str, service: str, spec: RouteSpec, change: Change) -> RouteView:
        await self._all.act(app, "route-added", change)
        found = self._all.routes.setdefault(app, [])
        found.append(RouteView(id=f"x{len(found)}", service=service, spec=spec, origin="kept"))
        return found[-1]

    async def remove(self, app: str, route: str, change: Change) -> None:
        found = self._all.routes.get(app, [])
        if route not in {each.id for each in found}:
            raise RouteNotFoundError(f"there is no route {route!r}")
        found[:] = [each for each in found if each.id != route]


class _Echo:
    """A channel that answers what it is sent, and ends with an exit code when it is told to."""

    def __init__(self, first: Sequence[bytes | str] = ()) -> None:
        self._frames: asyncio.Queue[bytes | str | None] = asyncio.Queue()
        for frame in first:
            self._frames.put_nowait(frame)

    async def send(self, frame: bytes | str, /) -> None:
        if frame == '{"eof": true}':
            self._frames.put_nowait('{"exit": 7}')
            self._frames.put_nowait(None)
        else:
            self._frames.put_nowait(frame)

    async def receive(self) -> bytes | str | None:
        return await self._frames.get()


class _Entering(_Part):
    @asynccontextmanager
    async def execute(self, app: str, task: TaskRef, command: Command) -> AsyncGenerator[_Echo]:
        await self._check(app, task)
        self._all.open_streams += 1
        try:
            yield _Echo([json.dumps({"command": list(command.command)})])
        finally:
            self._all.open_streams -= 1

    @asynccontextmanager
    async def forward(self, app: str, task: TaskRef, port: int) -> AsyncGenerator[_Echo]:
        await self._check(app, task)
        yield _Echo()

    @asynccontextmanager
    async def get_files(self, app: str, task: TaskRef, path: str) -> AsyncGenerator[AsyncIterator[bytes]]:
        await self._check(app, task)

        async def chunks() -> AsyncIterator[bytes]:
            yield self._all.files.get(path, b"tar of " + path.encode("utf-8", "replace"))

        yield chunks()

    async def put_files(self, app: str, task: TaskRef, path: str, chunks: AsyncIterator[bytes]) -> None:
        await self._check(app, task)
        self._all.files[path] = b"".join([chunk async for chunk in chunks])

    async def _check(self, app: str, task: TaskRef) -> None:
        await self._all.team_of(app)
        if task.service not in {"", "web"} or (task.task and not task.task.startswith("task")):
            raise ServiceNotFoundError(f"{app} has no running task of {task.service or task.task!r}")


class _Nodes(_Part):
    def _one(self) -> NodeView:
        return NodeView(
            id="node1", name="one", role="manager", state="ready", availability="active", intent="active",
            sentence="moving shop away", address="10.0.0.1", leader=True, agent="connected", gateway=True,
            labels=dict(self._all.labels), cpus=2.0, memory_bytes=2**32, reserved_cpus=0.5, reserved_memory_bytes=2**28,
            tasks={"shop": 2, "blog": 1}, engine_version="20.10", platform="linux/x86_64",
        )  # fmt: skip

    async def nodes(self) -> Sequence[NodeView]:
        return [self._one()]

    async def find(self, node: str) -> NodeView:
        if node not in {"node1", "one"}:
            raise NodeNotFoundError(node)
        return self._one()

    async def change(self, node: str, wanted: NodeChange, change: Change) -> NodeView:
        await self.find(node)
        self._all.labels |= {name: value for name, value in wanted.labels.items() if value is not None}
        return self._one()

    async def drain(self, node: str, change: Change) -> NodeView:
        return replace(await self.find(node), intent="drain")

    async def activate(self, node: str, change: Change) -> NodeView:
        return await self.find(node)

    async def remove(self, node: str, change: Change, *, force: bool) -> None:
        await self.find(node)


class _Joining(_Part):
    async def new_token(self, role: str, *, valid_s: float, change: Change) -> JoinTokenView:
        return JoinTokenView(id="j1", role=role, expires_at=AT, text="hj1.secret-of-joining")

    async def tokens(self) -> Sequence[JoinTokenView]:
        return [JoinTokenView(id="j1", role="worker", expires_at=AT)]

    async def revoke(self, token: str, change: Change) -> None:
        if token != "j1":
            raise JoinTokenError("there is no such token")

    async def answer(self, request: JoinRequest) -> JoinAnswer:
        if request.secret != "right":
            raise JoinTokenError("this join token is unknown, used or expired")
        return JoinAnswer(
            cluster="c1", role="worker", ca="ca", agent_certificate="a", mirror_certificate="m", swarm_token="s",
            managers=("10.0.0.1:2377",), roster=Roster(),
        )  # fmt: skip


class _Certificates(_Part):
    async def certificates(self) -> Sequence[CertificateView]:
        return [CertificateView(id="c1", hosts=("shop.example.com",), source="given", expires_at=AT)]

    async def add(self, chain_pem: str, key_pem: str, change: Change) -> CertificateView:
        return (await self.certificates())[0]

    async def remove(self, certificate: str, change: Change) -> None:
        return None

    async def authority(self) -> str:
        return "-----BEGIN CERTIFICATE-----\n"


class _Rollouts(_Part):
    async def list(self) -> Sequence[RolloutView]:
        return [view_of(self._all.rollouts[app]) for app in sorted(self._all.rollouts)]

    async def show(self, app: str) -> RolloutView:
        return view_of(await self._found(app))

    async def looks(self, app: str) -> Sequence[Look]:
        rollout = await self._found(app)
        course = rollout.course
        return [
            Look(seq=n, at=1e9 + 5 * n, state=rollout.state, step=0, weight=50 * n, mirror=0, findings=course.findings)
            for n in range(12)
        ]

    async def say(self, app: str, verb: Verb, change: Change) -> RolloutView:
        self._all.rollouts[app] = said_to(await self._found(app), verb, change, 2e9)
        await self._all.act(app, f"rollout-{verb.name.lower()}", change)
        return view_of(self._all.rollouts[app])

    async def retry(self, app: str, change: Change) -> Deploy:
        found = await self._found(app)
        if found.state.undecided:
            raise RolloutRefusedError("it goes on")
        return await _Deploys(self._all).rollback(app, 1, change)

    async def undo(self, app: str, change: Change) -> Deploy:
        await self._found(app)
        return await _Deploys(self._all).rollback(app, 1, change)

    async def _found(self, app: str) -> Rollout:
        await self._all.team_of(app)
        if app not in self._all.rollouts:
            raise RolloutNotFoundError(f"{app} has had no rollout yet")
        return self._all.rollouts[app]

    def begin(self, app: str, spec: RolloutSpec, state: State, course: Course) -> None:
        """Have an app be on its way."""
        self._all.rollouts[app] = Rollout(
            id="r1", app=app, deploy="d00000000", revision=2, stable=1, state=state, spec=resolved(spec),
            course=course, problem=None, actor="ann", created_at=AT, updated_at=AT,
        )  # fmt: skip


class _Requests:
    @asynccontextmanager
    async def open(self, query: RequestQuery, *, follow: bool) -> AsyncGenerator[AsyncIterator[RequestLine]]:
        async def lines() -> AsyncGenerator[RequestLine]:
            for status in (200, 404, 503):
                if query.status in {"", str(status), f"{status // 100}xx"}:
                    yield RequestLine(
                        written=f"2026-01-02T03:04:05.{status}000000Z",
                        at=f"2026-01-02T03:04:05.{status}Z",
                        node="one",
                        app=query.app,
                        service="web",
                        revision=7,
                        method="GET",
                        host="shop.test",
                        path="/x?token=***",
                        status=status,
                        duration_ms=12,
                        client="192.0.2.7",
                        flags="UH" if status == 503 else "-",
                    )
            if follow:
                await asyncio.Event().wait()

        async with aclosing(lines()) as found:
            yield found


class _Hooks(_Part):
    async def hooks(self, app: str | None) -> Sequence[Hook]:
        return [Hook(id="h1", app=app, url="https://h.example.com", kinds=(), trusted=False, told=0, created_at=now())]

    async def add(self, app: str | None, url: str, kinds: Sequence[str], change: Change, *, trusted: bool) -> Hook:
        self._all.acts.append(("hook", app or "", url))
        return Hook(
            id="h1", app=app, url=url, kinds=tuple(kinds), trusted=trusted, told=0, created_at=now(), secret="whsec_x"
        )

    async def remove(self, app: str | None, hook: str, change: Change) -> None:
        await self._find(app, hook)

    async def deliveries(self, app: str | None, hook: str, *, limit: int = 50) -> Sequence[HookDelivery]:
        await self._find(app, hook)
        return [HookDelivery(event=1, at=now(), attempt=1, status=200, problem=None)]

    async def test(self, app: str | None, hook: str) -> HookDelivery:
        await self._find(app, hook)
        return HookDelivery(event=0, at=now(), attempt=1, status=200, problem=None)

    async def _find(self, app: str | None, hook: str) -> None:
        if hook not in {each.id for each in await self.hooks(app)}:
            raise HookNotFoundError("there is no such webhook")


class _Scaling(_Part):
    """Services named ``web`` are moved by load; what is set is noted."""

    async def scaled(self, app: str) -> Sequence[Scaled]:
        await self._all.team_of(app)
        return [await self.find(app, "web")]

    async def find(self, app: str, service: str) -> Scaled:
        await self._all.team_of(app)
        if service != "web":
            raise NotScaledError(f"load does not move {service}")
        last = Decision(app=app, service=service, at=1.0, current=1, ready=1, wanted=2, low=1, high=5, sentence="rps")
        return Scaled(
            app=app, service=service, spec=ScaleSpec(max=5, rps=10), origin="file", current=1, ready=1, sentence="rps",
            last=last,
        )  # fmt: skip

    async def set(self, app: str, service: str, given: Mapping[str, Any], change: Change) -> Scaled:
        found = await self.find(app, service)
        spec = scale_of(given, AppSpec(name=app, services={service: ServiceSpec(name=service, image="i")}), service)
        self._all.acts.append(("autoscale", app, service))
        return replace(found, spec=spec, origin="set")

    async def off(self, app: str, service: str, change: Change) -> None:
        await self.find(app, service)
        self._all.acts.append(("autoscale-off", app, service))

    async def forget(self, app: str, service: str, change: Change) -> None:
        await self.find(app, service)

    async def decisions(self, app: str, *, service: str | None, limit: int) -> Sequence[Decision]:
        found = await self.find(app, service or "web")
        return [found.last] if found.last else []


class _Platform(_Part):
    async def status(self) -> PlatformStatus:
        return PlatformStatus(
            cluster="c1", version="0.1.0", leader="one", leading=True, nodes=1, nodes_ready=1, apps=2,
            parts=(PartStatus(name="mirror", state="up"),),
        )  # fmt: skip

    async def is_ready(self) -> bool:
        return self._all.ready

    async def back_up(self, change: Change) -> BackupMade:
        return BackupMade(path="/var/lib/hunqi/backup", size_bytes=1, at=AT)

    def x_hunqi_schema(self) -> Mapping[str, Any]:
        return {"type": "object"}
