"""The wiring of the apps' room: everything that can be asked of apps, and the controllers behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hunqi.apps.acts import EngineActs
from hunqi.apps.controller import Controller, Parts
from hunqi.apps.deploying import AppDeploys, AppRevisions
from hunqi.apps.diagnose import Diagnosing
from hunqi.apps.digests import Digests
from hunqi.apps.keeping import Keeping
from hunqi.apps.lifecycle import AppLifecycle
from hunqi.apps.limits import Limits
from hunqi.apps.logkeeping import LogKeeper
from hunqi.apps.logs import AppLogs
from hunqi.apps.observing import Watched
from hunqi.apps.operations import AppOperations
from hunqi.apps.ports import Diagnosis, Images, Observer, Seal, Volumes
from hunqi.apps.preparing import Preparing
from hunqi.apps.recovery import Mirroring
from hunqi.apps.releasing import Releasing
from hunqi.apps.retention import Pruning, Retention
from hunqi.apps.run_store import RunStore
from hunqi.apps.runs import AppRuns, RunController, RunParts
from hunqi.apps.serving import Judging, Routing, Surge
from hunqi.apps.settings import AppEnvironment, AppRoutes, AppSecrets, Renewing
from hunqi.apps.shifting import Shifts
from hunqi.apps.shifts import AppShifts
from hunqi.apps.sights import Sights
from hunqi.apps.sizing import AppSizes, Sizes
from hunqi.apps.standing import SETTLE_S
from hunqi.apps.store import AppStore
from hunqi.apps.views import AppViews
from hunqi.engine.ports import WatchedEngine
from hunqi.state.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What the room stands on."""

    database: Database
    engine: WatchedEngine
    observer: Observer
    routing: Routing
    judging: Judging
    images: Images
    seal: Seal
    volumes: Volumes
    diagnosis: Diagnosis
    cluster: str
    """The id of the cluster: the value of its label."""
    logs: Path
    """Where lines of removed services are kept."""
    clock: Callable[[], float]
    """Seconds since the epoch."""
    tcp_ports: Callable[[], tuple[int, int]]
    """The first and the last port that ``ports:`` may publish."""
    surge: Callable[[], Surge] = Surge
    """What the emptying of nodes asks for meanwhile."""
    retention: Retention = field(default_factory=Retention)
    settle_s: float = SETTLE_S
    """How long a task that nobody checks must have run to count as ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apps:
    """The room: ``run`` reconciles on the manager that leads, ``operations`` is what the API calls."""

    operations: AppOperations
    controller: Controller
    runs: RunController
    mirroring: Mirroring
    pruning: Pruning
    shifts: Shifts
    sizes: Sizes

    async def run(self) -> None:
        """Reconcile apps and runs, mirror what is persisted into the Swarm, and let go of what is old."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.controller.run())
            group.create_task(self.runs.run())
            group.create_task(self.mirroring.run())
            group.create_task(self.pruning.run())


def build_apps(around: Around) -> Apps:
    """Make each part once."""
    store = AppStore(around.database)
    watched = Watched(around.observer)
    keeper = LogKeeper(around.engine, around.logs)
    sights = Sights(store, watched, around.routing, clock=around.clock)
    acts = EngineActs(around.engine, store, around.images, around.seal, around.volumes, cluster=around.cluster)
    controller = Controller(
        Parts(
            store=store,
            watched=watched,
            routing=around.routing,
            images=around.images,
            sights=sights,
            acts=acts,
            diagnosing=Diagnosing(around.engine, around.diagnosis),
            logs=keeper,
            clock=around.clock,
            surge=around.surge,
            settle_s=around.settle_s,
        )
    )
    keeping = Keeping(around.database, around.seal, clock=around.clock)
    releasing = Releasing(store, around.seal, mark=controller.mark, clock=around.clock)
    limits = Limits(store, around.judging)
    digests = Digests(around.seal)
    preparing = Preparing(store, keeping, around.images, watched, limits, digests, tcp_ports=around.tcp_ports)
    renewing = Renewing(store, keeping, releasing)
    views = AppViews(store, watched, around.routing, around.judging, controller, clock=around.clock)
    run_store = RunStore(around.database)
    runs = RunController(
        RunParts(
            store=store,
            runs=run_store,
            watched=watched,
            engine=around.engine,
            images=around.images,
            keeper=keeper,
            cluster=around.cluster,
            clock=around.clock,
        )
    )
    return Apps(
        controller=controller,
        shifts=AppShifts(store, controller),
        sizes=AppSizes(store, watched, sights, limits, mark=controller.mark, clock=around.clock),
        runs=runs,
        pruning=Pruning(around.database, around.retention, clock=around.clock),
        mirroring=Mirroring(around.database, around.engine, around.seal, cluster=around.cluster, clock=around.clock),
        operations=AppOperations(
            deploys=AppDeploys(store, preparing, releasing, mark=controller.mark),
            revisions=AppRevisions(store),
            lifecycle=AppLifecycle(store, releasing, limits, views, mark=controller.mark, clock=around.clock),
            views=views,
            logs=AppLogs(store, watched, around.engine, keeper),
            runs=AppRuns(store, run_store, runs),
            secrets=AppSecrets(store, keeping, renewing),
            environment=AppEnvironment(store, keeping, renewing),
            routes=AppRoutes(store, keeping, renewing, limits),
        ),
    )
