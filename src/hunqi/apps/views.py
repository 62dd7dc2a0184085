"""What there is of apps, as users see it. Implements ``operations.Views``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from hunqi.apps.controller import Controller
from hunqi.apps.deploying import shown
from hunqi.apps.model import DeployState, Mode, Revision
from hunqi.apps.observing import Watched
from hunqi.apps.operations import AppView, Deploy, ServiceView, TaskView
from hunqi.apps.schedules import next_due
from hunqi.apps.serving import Judging, Routing
from hunqi.apps.standing import Standing
from hunqi.apps.state import Desired
from hunqi.apps.store import AppStore, Kept
from hunqi.apps.swarm import service_name
from hunqi.engine.model import Snapshot, Task, TaskState

ASLEEP: Final = "asleep: starts with the first request"
_LIVING: Final = frozenset(TaskState) - {
    TaskState.COMPLETE,
    TaskState.SHUTDOWN,
    TaskState.FAILED,
    TaskState.REJECTED,
    TaskState.REMOVE,
}


class AppViews:
    """Views of apps, from the database, the last snapshot and what the reconciler last found."""

    def __init__(
        self,
        store: AppStore,
        watched: Watched,
        routing: Routing,
        judging: Judging,
        controller: Controller,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._watched = watched
        self._routing = routing
        self._judging = judging
        self._controller = controller
        self._clock = clock

    async def list(self, *, teams: Sequence[str] | None = None) -> Sequence[AppView]:
        """Return all apps by name, or those of these teams (ids)."""
        snapshot = await self._watched.snapshot()
        return [
            await self._view(kept, snapshot, last=False)
            for kept in await self._store.all()
            if teams is None or kept.app.team in teams
        ]

    async def show(self, app: str) -> AppView:
        """Return one app. Raises ``AppNotFoundError``."""
        kept = await self._store.find(app)
        return await self._view(kept, await self._watched.snapshot(), last=True)

    async def tasks(self, app: str) -> Sequence[TaskView]:
        """Return the app's tasks, those that run first."""
        await self._store.find(app)
        snapshot = await self._watched.snapshot()
        nodes = {node.id: node.hostname for node in snapshot.nodes.values()}
        views: list[TaskView] = []
        for standing in self._watched.standings(app, snapshot).values():
            report = self._routing.health(standing.name)
            routed = report.gateways > 0
            views.extend(
                TaskView(
                    id=task.id,
                    service=standing.key,
                    revision=standing.revision,
                    slot=task.slot,
                    node=nodes.get(task.node_id or "", task.node_id or ""),
                    node_id=task.node_id or "",
                    state=_state_of(task, snapshot).value,
                    desired=task.desired_state.value,
                    healthy=task.id in report.healthy if routed and task.serving else None,
                    message=task.error or task.message,
                    exit_code=task.exit_code,
                    image=task.image,
                    since=task.updated_at,
                    container=task.container_id,
                    address=next(iter(task.addresses.values()), None),
                )
                for task in standing.tasks
            )
        return sorted(views, key=lambda view: (view.state != "running", view.service, -view.revision, view.slot or 0))

    async def team_of(self, app: str) -> str:
        """Return the id of the team that owns the app. Raises ``AppNotFoundError``."""
        return (await self._store.find(app)).app.team

    async def _view(self, kept: Kept, snapshot: Snapshot, *, last: bool) -> AppView:
        app = kept.app
        number = app.live or (kept.deploy.revision if kept.deploy else None)
        revision = await self._store.revision(app.name, number) if number is not None else None
        standings = self._watched.standings(app.name, snapshot)
        services = self._services(kept, revision, standings) if revision else ()
        outcome = self._controller.outcome(app.name)
        return AppView(
            name=app.name,
            team=app.team,
            state=_state(kept, services),
            sentence=kept.deploy.progress.sentence if kept.deploy else outcome.sentence if outcome else "",
            revision=app.live,
            services=services,
            problems=self._judging.problems(app.name),
            maintenance=app.intent.maintenance,
            deploy=await self._deploy(kept, last=last),
            created_at=app.created_at,
            updated_at=app.updated_at,
        )

    async def _deploy(self, kept: Kept, *, last: bool) -> Deploy | None:
        if kept.deploy is not None or not last:
            return shown(kept.deploy) if kept.deploy else None
        newest = await self._store.deploys(kept.app.name, limit=1, before=None)
        return shown(newest[0]) if newest else None

    def _services(self, kept: Kept, revision: Revision, standings: dict[str, Standing]) -> tuple[ServiceView, ...]:
        views: list[ServiceView] = []
        for name, spec in revision.spec.services.items():
            swarm_name = service_name(kept.app.name, name, revision.origin[name])
            standing = standings.get(swarm_name)
            report = self._routing.health(swarm_name)
            running = standing.running if standing else ()
            wanted = kept.app.intent.replicas.get(name, spec.replicas)
            if spec.mode in {Mode.GLOBAL, Mode.GLOBAL_JOB}:
                wanted = len(running)
            view = ServiceView(
                name=name,
                revision=revision.origin[name],
                image=spec.image,
                mode=spec.mode.value,
                wanted=wanted if kept.app.desired is Desired.RUNNING else 0,
                running=len(running),
                healthy=len({task.id for task in running} & report.healthy) if report.gateways else None,
                routes=spec.routes,
                sentence=ASLEEP if kept.app.asleep(name) else "",
                schedule=spec.schedule,
            )
            if spec.schedule is not None:
                due = next_due(spec.schedule, datetime.fromtimestamp(self._clock(), UTC))
                view = replace(view, next_run=due, wanted=0)
            views.append(view)
        return tuple(views)


def _state(kept: Kept, services: tuple[ServiceView, ...]) -> str:
    if kept.app.desired is Desired.REMOVED:
        return "removing"
    if kept.app.desired is Desired.STOPPED:
        return "stopped"
    if kept.deploy is not None and kept.deploy.state is not DeployState.DRAINING:
        return "deploying"
    lacking = [each for each in services if each.running < each.wanted and each.mode == Mode.REPLICATED.value]
    return "degraded" if lacking or kept.app.live is None else "running"


def _state_of(task: Task, snapshot: Snapshot) -> TaskState:
    """Return the task's state; of one whose machine is down Swarm goes on telling the last it heard, for a day."""
    node = snapshot.nodes.get(task.node_id or "")
    is_lost = node is not None and node.state == "down" and task.state in _LIVING
    return TaskState.ORPHANED if is_lost else task.state
