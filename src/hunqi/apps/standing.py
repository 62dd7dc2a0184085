"""How the services of an app stand: the snapshot seen from one app, and the judgement of each of its services.

Pure. A service is *ready* when as many of its tasks as are wanted run (Docker calls a task with a healthcheck running
only once it passed) and, if it is routed, every live gateway finds them healthy. One that nobody checks counts once it
has run for a while. A task that runs on a node which is down counts neither as ready nor as still active.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hunqi.apps.model import Condition, Mode, ServiceSpec
from hunqi.apps.serving import HealthReport
from hunqi.engine.model import (
    JSON,
    LABEL_APP,
    LABEL_KIND,
    LABEL_REVISION,
    LABEL_SERVICE,
    Service,
    Snapshot,
    Task,
    TaskState,
)

SETTLE_S: Final = 5.0
"""How long a task that nobody checks must have run: as long as Docker watches an updated task by default."""
CRASHES: Final = 3
"""Tasks of a service that must have ended before it is given up while its time is not over."""
_SKEW_S: Final = 5.0
"""By which Docker's clock may be behind ours."""
KIND_SERVICE: Final = "service"
_ENDED: Final = frozenset(
    {
        TaskState.COMPLETE,
        TaskState.SHUTDOWN,
        TaskState.FAILED,
        TaskState.REJECTED,
        TaskState.REMOVE,
        TaskState.ORPHANED,
    }
)
_BEGUN: Final = frozenset({TaskState.STARTING, TaskState.RUNNING, TaskState.COMPLETE})
_FAILED: Final = frozenset({TaskState.FAILED, TaskState.REJECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A Swarm service of the app that is there."""

    service: Service
    key: str
    """The name of the service in the app's file."""
    revision: int
    tasks: tuple[Task, ...]
    down: frozenset[str]
    """Nodes that are down."""

    @property
    def name(self) -> str:
        """The name of the Swarm service."""
        return self.service.name

    @property
    def running(self) -> tuple[Task, ...]:
        """The tasks that run and are to go on."""
        return tuple(task for task in self.tasks if task.serving and task.node_id not in self.down)

    @property
    def lasting(self) -> tuple[Task, ...]:
        """The tasks that are to go on, those that do not run yet too."""
        return tuple(
            task
            for task in self.tasks
            if task.desired_state is TaskState.RUNNING and task.state not in _ENDED and task.node_id not in self.down
        )

    @property
    def still(self) -> int:
        """How many tasks may still run."""
        return sum(task.state not in _ENDED and task.node_id not in self.down for task in self.tasks)

    @property
    def active(self) -> bool:
        """Whether any task may still run."""
        return self.still > 0

    @property
    def stopped(self) -> bool:
        """Whether it is scaled to zero and nothing of it runs any more."""
        return self.service.replicas == 0 and not self.active


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What can be said of a service."""

    started: bool = False
    ready: bool = False
    completed: bool = False
    count: int = 0
    failed: Task | None = None
    """The task to be shown for it, where the service will not get ready by waiting."""
    settles_in_s: float | None = None
    """When the next task that nobody checks has run long enough, where one does not count for that alone."""
    sentence: str = ""

    def reached(self, condition: Condition) -> bool:
        """Whether a dependent may start."""
        match condition:
            case Condition.STARTED:
                return self.started
            case Condition.HEALTHY:
                return self.ready
            case Condition.COMPLETED:
                return self.completed


def standings(app: str, services: Collection[Service], snapshot: Snapshot) -> dict[str, Standing]:
    """Return the Swarm services of ``app`` among ``services``, by name; runs are no services."""
    down = frozenset(node.id for node in snapshot.nodes.values() if node.state == "down")
    found: dict[str, Standing] = {}
    for service in services:
        labels = service.labels
        if labels.get(LABEL_APP) != app or labels.get(LABEL_KIND, KIND_SERVICE) != KIND_SERVICE:
            continue
        revision = labels.get(LABEL_REVISION, "")
        if LABEL_SERVICE not in labels or not revision.isdecimal():
            continue
        found[service.name] = Standing(
            service=service,
            key=labels[LABEL_SERVICE],
            revision=int(revision),
            tasks=snapshot.tasks.get(service.id, ()),
            down=down,
        )
    return found


def judge(
    spec: ServiceSpec,
    standing: Standing | None,
    wanted: int,
    report: HealthReport | None,
    *,
    gateways: bool,
    settled_before: float,
    begun: float = 0.0,
) -> Judged:
    """Say how a service stands.

    ``gateways`` is whether the gateways' word is needed for a routed one; a task that nobody checks counts if it runs
    since ``settled_before`` (seconds since the epoch). What ended before ``begun`` is no sign of how it is now.
    """
    if standing is None:
        return Judged(sentence=f"{spec.name} is not there yet")
    if spec.mode in {Mode.REPLICATED_JOB, Mode.GLOBAL_JOB}:
        return _judge_job(spec, standing, begun)
    running = standing.running
    enough = wanted
    if spec.mode is Mode.GLOBAL:
        desired = [task for task in standing.tasks if task.desired_state is TaskState.RUNNING]
        enough = max(1, len([task for task in desired if task.node_id not in standing.down]))
    ids = {task.id for task in running}
    unwell: Mapping[str, str] = {}
    if spec.routed and gateways:
        ids &= report.healthy if report else frozenset()
        unwell = report.failures if report else {}
    settles_in_s: float | None = None
    if not (spec.routed and gateways) and not _has_check(spec):
        young = {task.id: left for task in running if (left := since(task) - settled_before) > 0}
        ids -= young.keys()
        settles_in_s = min(young.values(), default=None)
    if len(ids) >= enough:
        sentence = f"{spec.name}: {len(ids)} of {enough} healthy"
        return Judged(started=True, ready=True, completed=_completed(standing), count=len(ids), sentence=sentence)
    sentence = _unready(spec, standing, f"{len(ids)} of {enough} healthy", unwell)
    if settles_in_s is not None:
        sentence += "; what has no healthcheck is watched for a moment"
    started = enough == 0 or any(task.state in _BEGUN for task in standing.tasks)
    return Judged(
        started=started,
        completed=_completed(standing),
        count=len(ids),
        failed=_given_up(spec, standing, begun),
        sentence=sentence,
        settles_in_s=settles_in_s,
    )


def _judge_job(spec: ServiceSpec, standing: Standing, begun: float) -> Judged:
    total = spec.completions if spec.completions is not None else max(1, spec.replicas)
    done = sum(task.state is TaskState.COMPLETE for task in standing.tasks)
    if spec.mode is Mode.GLOBAL_JOB:
        total = max(1, len({task.node_id for task in standing.tasks}))
    started = any(task.state in _BEGUN for task in standing.tasks)
    completed = done >= total
    sentence = f"{spec.name}: {done} of {total} completed"
    failed = None if completed else _given_up(spec, standing, begun)
    return Judged(
        started=started, ready=completed or started, completed=completed, count=done, failed=failed, sentence=sentence
    )


def _has_check(spec: ServiceSpec) -> bool:
    container: JSON = spec.template.get("ContainerSpec") or {}
    check: JSON = container.get("Healthcheck") or {}
    test: list[str] = check.get("Test") or []
    return test[:1] not in ([], ["NONE"])


def since(task: Task) -> float:
    """Return since when a task is in its state, in seconds since the epoch; 0 where Docker does not say."""
    try:
        return datetime.fromisoformat(task.updated_at).timestamp()
    except ValueError:
        return 0.0


def _completed(standing: Standing) -> bool:
    return any(task.state is TaskState.COMPLETE for task in standing.tasks) and not standing.active


def _given_up(spec: ServiceSpec, standing: Standing, begun: float) -> Task | None:
    """Return the last task that ended, where enough of them did.

    One that Docker stopped since its healthcheck failed is *complete* if it then ended in good order, like one that
    ends by itself: in a service that is to run all the time that is no better than to fail.
    """
    restarts = spec.template.get("RestartPolicy", {}).get("Condition", "any")
    lasts = spec.mode in {Mode.REPLICATED, Mode.GLOBAL} and restarts == "any"
    ended = _FAILED | {TaskState.COMPLETE} if lasts else _FAILED
    found = [
        task
        for task in standing.tasks
        if task.state in ended and (not task.updated_at or since(task) >= begun - _SKEW_S)
    ]
    if not found:
        return None
    final = restarts == "none" and not standing.active
    return max(found, key=since) if final or len(found) >= CRASHES else None


def _unready(spec: ServiceSpec, standing: Standing, count: str, unwell: Mapping[str, str]) -> str:
    for task in standing.tasks:
        if task.desired_state is not TaskState.RUNNING and task.state not in _FAILED:
            continue
        if task.error and task.state in {TaskState.PENDING, *_FAILED}:
            return f"{spec.name}: {count}; {task.state}: {task.error}"
        if task.id in unwell:
            return f"{spec.name}: {count}; a gateway's check says: {unwell[task.id]}"
    if any(task.state is TaskState.COMPLETE for task in standing.tasks):
        return f"{spec.name}: {count}; its tasks end by themselves, or Docker stops them as unhealthy"
    return f"{spec.name}: {count}"
