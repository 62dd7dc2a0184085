"""A whole room of apps on the engine's fake: a real database, the real reconciler, fake gateways and accelerators."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from sqlalchemy import insert

from hunqi.apps.build import Apps, Around, build_apps
from hunqi.apps.model import AppSpec, DeployState
from hunqi.apps.operations import Change, Deploy
from hunqi.apps.releasing import Release, Releasing
from hunqi.apps.store import AppStore
from hunqi.engine.fake.ledger import EPOCH
from hunqi.engine.fake.swarm import FakeSwarm
from hunqi.engine.model import LABEL_CLUSTER, TaskState
from hunqi.engine.observer import Observer
from hunqi.engine.ports import WatchedEngine
from hunqi.errors import HunqiError
from hunqi.state.database import Database, open_database
from hunqi.state.sealing import Sealer
from hunqi.state.tables import TEAMS
from support_routing import FakeDiagnosis, FakeImages, FakeRouting, FakeVolumes

ANN = Change(actor="ann", reason="a test")
CLUSTER = "c1"
DEADLINE_S = 60.0


class Cluster:
    """The room, and levers. ``crash`` ends the reconciler where it is and makes a new one of what is persisted."""

    settle_s = 0.0
    """How long a task that nobody checks must have run to count."""

    def __init__(
        self, database: Database, swarm: FakeSwarm, folder: Path, *, engine: WatchedEngine | None = None
    ) -> None:
        self.database = database
        self.swarm = swarm
        self.engine: WatchedEngine = engine or swarm
        self.routing = FakeRouting(self.engine)
        self.images = FakeImages()
        self.volumes = FakeVolumes()
        self.seal = Sealer(bytes(32))
        self.folder = folder
        self.store = AppStore(database)
        self.observer: Observer
        self.apps: Apps

    def build(self) -> None:
        """Make the room anew."""
        self.observer = Observer(self.engine, cluster=CLUSTER)
        self.apps = build_apps(
            Around(
                database=self.database,
                engine=self.engine,
                observer=self.observer,
                routing=self.routing,
                judging=self.routing,
                images=self.images,
                seal=self.seal,
                volumes=self.volumes,
                diagnosis=FakeDiagnosis(),
                cluster=CLUSTER,
                logs=self.folder / "logs",
                clock=time.time,
                tcp_ports=lambda: (20000, 20099),
                settle_s=self.settle_s,
            )
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Reconcile within the block; leaving it is a crash."""
        self.build()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.observer.run()),
                group.create_task(self.swarm.run()),
                group.create_task(self.apps.run()),
                group.create_task(self._agent()),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _agent(self) -> None:
        """Send tasks that are told to stop their real signal, as an agent does once nothing is in flight."""
        while True:
            with suppress(HunqiError):
                for task in await self.swarm.tasks.list():
                    stopping = task.desired_state in {TaskState.SHUTDOWN, TaskState.REMOVE}
                    if stopping and task.state in {TaskState.RUNNING, TaskState.STARTING}:
                        self.swarm.end_task(task.id, 0)
            await asyncio.sleep(0.02)

    async def release(self, spec: AppSpec, **more: object) -> str:
        """Deploy a spec whose images are pinned; return the deploy's id."""
        releasing = Releasing(self.store, self.seal, mark=self.apps.controller.mark, clock=time.time)
        made = await releasing.release(Release(app=spec.name, spec=spec, team="t1", **more), ANN)  # type: ignore[arg-type]
        return made.id

    async def ended(self, app: str, deploy: str) -> Deploy:
        """Wait until a deploy has ended."""
        found: list[Deploy] = []

        async def done() -> bool:
            found[:] = [await self.apps.operations.deploys.find(app, deploy)]
            return found[0].state.ended

        await self.until(done, lambda: found[0].sentence if found else "")
        return found[0]

    async def deployed(self, spec: AppSpec) -> Deploy:
        """Deploy a spec and wait for its success."""
        deploy = await self.ended(spec.name, await self.release(spec))
        assert deploy.state is DeployState.SUCCEEDED, (deploy.sentence, deploy.problem)
        return deploy

    async def until(self, true: Callable[[], object], why: Callable[[], str] = lambda: "") -> None:
        """Wait until ``true`` (or what it returns, awaited) holds."""
        end = time.monotonic() + DEADLINE_S
        while True:
            held = true()
            if asyncio.iscoroutine(held):
                held = await held
            if held:
                return
            if time.monotonic() > end:
                raise AssertionError(f"it did not come true: {why()}")
            await asyncio.sleep(0.01)

    async def names(self) -> set[str]:
        """The Swarm services there are."""
        return {service.name for service in await self.engine.services.list({LABEL_CLUSTER: CLUSTER})}


@asynccontextmanager
async def cluster(folder: Path, *, nodes: int = 1, engine: WatchedEngine | None = None) -> AsyncGenerator[Cluster]:
    """A cluster with a team ``t1``, on a fake of so many nodes unless an ``engine`` is given."""
    async with open_database(str(folder / "control.db")) as database:
        async with database.begin() as connection:
            await connection.execute(insert(TEAMS).values(id="t1", name="one", quota="{}", created_at=""))
        swarm = FakeSwarm(nodes=nodes, clock=lambda: time.time() - EPOCH.timestamp())
        yield Cluster(database, swarm, folder, engine=engine)
