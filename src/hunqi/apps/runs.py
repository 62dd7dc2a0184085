"""One-off commands and scheduled jobs: each run is a Swarm job of one task, made of its service's revision.

The row of a run is written before its Swarm service is made, so a run is never made twice; one whose service is not
there after a restart has failed and says so. When it has ended its lines are kept and its Swarm service is removed.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hunqi.apps.building import service_body
from hunqi.apps.errors import RunNotFoundError, ServiceNotFoundError
from hunqi.apps.logkeeping import LogKeeper, Source
from hunqi.apps.model import Revision, ServiceSpec
from hunqi.apps.observing import Watched
from hunqi.apps.operations import Change, LogLine, Run, RunRequest
from hunqi.apps.pinning import local_volumes
from hunqi.apps.ports import Images
from hunqi.apps.run_store import RunStore
from hunqi.apps.schedules import CATCH_UP, last_due
from hunqi.apps.state import Desired
from hunqi.apps.store import AppStore, Kept
from hunqi.apps.swarm import LABEL_DRAIN, LABEL_STOP_SIGNAL
from hunqi.apps.transitions import ACTOR
from hunqi.engine.errors import NotFoundError
from hunqi.engine.model import LABEL_KIND, LABEL_PREFIX, Service, Snapshot, TaskState
from hunqi.engine.ports import Engine, LineStream
from hunqi.errors import HunqiError

KIND_RUN: Final = "run"
LABEL_RUN: Final = LABEL_PREFIX + "run"
LABEL_UNTIL: Final = LABEL_PREFIX + "until"
"""When a run is stopped if it has not ended: seconds since the epoch."""
POLL_S: Final = 1.0
"""How often open runs are looked at."""
SCHEDULES_EVERY: Final = 5
"""How many of these times pass between looks at schedules."""
_LOST_S: Final = 60.0
_ENDS: Final = {TaskState.COMPLETE: "succeeded", TaskState.FAILED: "failed", TaskState.REJECTED: "failed"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParts:
    """What runs work with."""

    store: AppStore
    runs: RunStore
    watched: Watched
    engine: Engine
    images: Images
    keeper: LogKeeper
    cluster: str
    clock: Callable[[], float]


def run_name(run: Run) -> str:
    """Return the name of a run's Swarm service."""
    return f"{run.app}_{run.service}-run-{run.id[-8:]}"


class RunController:
    """Starts runs, and sees them to their end while ``run`` runs."""

    def __init__(self, parts: RunParts) -> None:
        self._parts: Final = parts

    async def run(self) -> None:
        """Look at open runs and schedules until cancelled."""
        rounds = 0
        while True:
            try:
                await self.look(schedules=rounds % SCHEDULES_EVERY == 0)
            except HunqiError as error:
                _log.warning("runs could not be looked at: %s", error)
            rounds += 1
            await asyncio.sleep(POLL_S)

    async def look(self, *, schedules: bool = True) -> None:
        """End what has ended, and with ``schedules`` start what is due."""
        runs = await self._parts.runs.open()
        snapshot = await self._parts.watched.snapshot()
        for run in runs:
            await self._see(run, snapshot)
        if not schedules:
            return
        now = self._now()
        for kept in await self._parts.store.all():
            if kept.app.live is not None and kept.app.desired is Desired.RUNNING:
                await self._schedule(kept, now, [run for run in runs if run.app == kept.app.name])

    async def start(self, app: str, request: RunRequest, change: Change) -> Run:
        """Start a command. Raises ``ServiceNotFoundError``, ``RevisionNotFoundError`` and the engine's errors."""
        kept = await self._parts.store.find(app)
        if request.id:
            with suppress(RunNotFoundError):
                return await self._parts.runs.find(app, request.id)
        revision, spec = await self._service(kept, request)
        run = self._new(app, request.service, "run", None)
        run = replace(run, id=request.id or run.id)
        await self._parts.runs.add(run, change)
        await self._create(run, kept, revision, spec, request)
        return await self._parts.runs.find(app, run.id)

    async def stop(self, run: Run, change: Change) -> None:
        """Stop a run that has not ended."""
        await self._remove(run, await self._parts.watched.snapshot(fresh=run.app))
        await self._parts.runs.set(run, "cancelled", at=self._now(), actor=change.actor, reason=change.reason)

    @asynccontextmanager
    async def logs(self, run: Run, *, follow: bool) -> AsyncGenerator[AsyncIterator[LogLine]]:
        """Open what a run wrote: from Docker while it is there, else from what was kept."""
        try:
            async with self._parts.engine.services.logs(run_name(run), follow=follow) as lines:
                yield _shown(run, lines)
                return
        except NotFoundError:
            pass
        kept = await asyncio.to_thread(self._parts.keeper.read, run.app, name=run_name(run))
        yield _given(kept)

    async def _service(self, kept: Kept, request: RunRequest) -> tuple[Revision, ServiceSpec]:
        number, service = request.revision or kept.app.live, request.service
        revision = await self._parts.store.revision(kept.app.name, number) if number is not None else None
        if revision is None or service not in revision.spec.services:
            raise ServiceNotFoundError.among(kept.app.name, service, revision.spec.services if revision else ())
        return revision, revision.spec.services[service]

    async def _create(self, run: Run, kept: Kept, revision: Revision, spec: ServiceSpec, request: RunRequest) -> None:
        parts = self._parts
        snapshot = await parts.watched.snapshot()
        pins = kept.app.intent.pins
        node = next((pins[key] for key in local_volumes(revision.spec, spec) if key in pins), None)
        try:
            body = service_body(revision, spec, snapshot, cluster=parts.cluster, replicas=1, node=node, external={})
            until = self._parts.clock() + request.timeout_s
            await parts.engine.services.create(
                job_of(body, run, request, spec, until=until), registry_auth=parts.images.registry_auth()
            )
        except HunqiError as error:
            await parts.runs.set(run, "failed", at=self._now(), actor=ACTOR, reason=str(error))
            raise
        await parts.runs.set(run, "running", at=self._now(), actor=ACTOR, reason=f"{run_name(run)} was made")

    async def _see(self, run: Run, snapshot: Snapshot) -> None:
        service = snapshot.services.get(run_name(run))
        now = self._now()
        if service is None:
            begun = run.started_at or run.due_at or _moment_of(run)
            if now - begun > timedelta(seconds=_LOST_S) and await self._is_gone(run):
                await self._parts.runs.set(run, "failed", at=now, actor=ACTOR, reason="its task is gone")
            return
        for task in snapshot.tasks.get(service.id, ()):
            if task.state in _ENDS:
                await self._end(run, service, snapshot, _ENDS[task.state], task.exit_code, task.error)
                return
        if now.timestamp() > float(service.labels.get(LABEL_UNTIL, "inf")):
            await self._end(run, service, snapshot, "failed", None, "it took longer than it may")

    async def _is_gone(self, run: Run) -> bool:
        fresh = await self._parts.watched.snapshot(fresh=run.app)
        return run_name(run) not in fresh.services

    async def _end(
        self, run: Run, service: Service, snapshot: Snapshot, state: str, code: int | None, why: str
    ) -> None:
        nodes = {node.id: node.hostname for node in snapshot.nodes.values()}
        source = Source(app=run.app, name=service.name, service=run.service, revision=0, nodes=nodes)
        await self._parts.keeper.copy(source, follow=False)
        code = 0 if state == "succeeded" and code is None else code
        await self._parts.runs.set(
            run, state, at=self._now(), actor=ACTOR, reason=why or f"{run.service} {state}", exit_code=code
        )
        await self._remove(run, snapshot)

    async def _remove(self, run: Run, snapshot: Snapshot) -> None:
        service = snapshot.services.get(run_name(run))
        if service is not None and service.labels.get(LABEL_RUN) == run.id:
            with suppress(NotFoundError):
                await self._parts.engine.services.remove(service.id)

    async def _schedule(self, kept: Kept, now: datetime, runs: Sequence[Run]) -> None:
        revision = await self._parts.store.revision(kept.app.name, kept.app.live or 0)
        for name, spec in revision.spec.services.items():
            if spec.schedule is None:
                continue
            since = await self._parts.runs.last_due(kept.app.name, name) or revision.created_at
            due, count = last_due(spec.schedule, since, now)
            if due is None:
                continue
            run = self._new(kept.app.name, name, "cron", due)
            why = _skipped(due, now, busy=any(each.service == name for each in runs))
            if why is not None:
                skipped = replace(run, state="skipped", finished_at=now)
                await self._parts.runs.add(skipped, Change(actor=ACTOR, reason=why))
                continue
            missed = f", {count - 1} missed before it" if count > 1 else ""
            await self._parts.runs.add(run, Change(actor=ACTOR, reason=f"due at {due:%Y-%m-%d %H:%M} UTC{missed}"))
            with suppress(HunqiError):
                await self._create(run, kept, revision, spec, RunRequest(service=name))

    def _new(self, app: str, service: str, kind: str, due: datetime | None) -> Run:
        id_ = f"{int(self._parts.clock() * 1000):012x}{secrets.token_hex(4)}"
        return Run(
            id=id_,
            app=app,
            service=service,
            kind=kind,
            state="pending",
            exit_code=None,
            due_at=due,
            started_at=None,
            finished_at=None,
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._parts.clock(), UTC)


class AppRuns:
    """One-off commands and jobs. Implements ``operations.Runs``."""

    def __init__(self, store: AppStore, runs: RunStore, controller: RunController) -> None:
        self._store = store
        self._runs = runs
        self._controller = controller

    async def run(self, app: str, request: RunRequest, change: Change) -> Run:
        """Start a command. Raises ``ServiceNotFoundError``."""
        return await self._controller.start(app, request, change)

    async def runs(self, app: str, *, limit: int = 50) -> Sequence[Run]:
        """Return runs, newest first, scheduled ones too."""
        await self._store.find(app)
        return await self._runs.newest(app, limit=limit)

    async def find(self, app: str, run: str) -> Run:
        """Return one. Raises ``RunNotFoundError``."""
        return await self._runs.find(app, run)

    async def stop(self, app: str, run: str, change: Change) -> Run:
        """Stop one that runs."""
        await self._controller.stop(await self._runs.find(app, run), change)
        return await self._runs.find(app, run)

    @asynccontextmanager
    async def logs(self, app: str, run: str, *, follow: bool) -> AsyncGenerator[AsyncIterator[LogLine]]:
        """Open what it wrote."""
        async with self._controller.logs(await self._runs.find(app, run), follow=follow) as lines:
            yield lines


def job_of(
    body: Mapping[str, Any], run: Run, request: RunRequest, spec: ServiceSpec, *, until: float
) -> dict[str, Any]:
    """Return the Swarm job that a run is, from the ServiceSpec of its service: one task, never restarted, unrouted."""
    job: dict[str, Any] = copy.deepcopy(dict(body))
    job["Name"] = run_name(run)
    job["Labels"] |= {LABEL_KIND: KIND_RUN, LABEL_RUN: run.id, LABEL_UNTIL: f"{until:.0f}"}
    job["Mode"] = {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}
    job.pop("UpdateConfig", None)
    job.pop("RollbackConfig", None)
    task = job["TaskTemplate"]
    task["RestartPolicy"] = {"Condition": "none", "MaxAttempts": 0}
    container = task["ContainerSpec"]
    container["Healthcheck"] = {"Test": ["NONE"]}
    container.pop("StopSignal", None)
    if spec.stop_signal:
        container["StopSignal"] = spec.stop_signal
    container["StopGracePeriod"] = round(spec.stop_grace_s * 10**9)
    for label in (LABEL_DRAIN, LABEL_STOP_SIGNAL):
        container["Labels"].pop(label, None)
    if request.command is not None:
        container["Args"] = list(request.command)
    given = dict(request.environment)
    own = [text for text in container.get("Env") or () if text.partition("=")[0] not in given]
    container["Env"] = [*own, *(f"{name}={value}" for name, value in given.items())]
    for attachment in task.get("Networks") or ():
        attachment.pop("Aliases", None)
    return job


def _skipped(due: datetime, now: datetime, *, busy: bool) -> str | None:
    if busy:
        return "it was due while its last run still ran"
    if now - due > CATCH_UP:
        return f"it was due at {due:%Y-%m-%d %H:%M} UTC, which is too long ago to be made up for"
    return None


def _moment_of(run: Run) -> datetime:
    return datetime.fromtimestamp(int(run.id[:12], 16) / 1000, UTC)


async def _shown(run: Run, lines: LineStream) -> AsyncGenerator[LogLine]:
    async for line in lines:
        yield LogLine(
            service=run.service,
            revision=0,
            task=line.task,
            node=line.node,
            stream=line.stream,
            at=line.time,
            text=line.text,
        )


async def _given(lines: Sequence[LogLine]) -> AsyncGenerator[LogLine]:
    for line in lines:
        yield line
