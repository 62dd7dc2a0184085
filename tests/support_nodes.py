"""A Swarm in memory with what the node controller works with, and ways to die in the middle of its work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hunqi.apps.serving import HealthReport
from hunqi.engine.fake.swarm import FakeSwarm
from hunqi.engine.model import JSON, LABEL_CLUSTER, LABEL_DRAIN, Node, Snapshot, TaskState
from hunqi.nodes.controller import NodeController, NodeWorld
from hunqi.nodes.store import NodeStore
from hunqi.state.database import Database


class KilledError(Exception):
    """Control died here."""


def service_spec(name: str, replicas: int = 3, *, drained: bool = True, **more: Any) -> dict[str, Any]:
    """Return the spec of a service of ours as the Engine API has it."""
    labels = {LABEL_CLUSTER: "c1", **({LABEL_DRAIN: "10"} if drained else {})}
    container: dict[str, Any] = {"Image": "sample:1", "Labels": labels}
    if drained:
        container |= {"StopSignal": "SIGURG", "StopGracePeriod": 3600 * 10**9}
    return {
        "Name": name,
        "Labels": {LABEL_CLUSTER: "c1"},
        "TaskTemplate": {"ContainerSpec": container, **more},
        "Mode": {"Replicated": {"Replicas": replicas}},
    }


@dataclass(kw_only=True)
class Bench:
    """One Swarm, one database, and controllers that may be killed and started again."""

    swarm: FakeSwarm
    store: NodeStore
    clock: list[float]
    unhealthy: set[str] = field(default_factory=set[str])
    """Tasks that gateways do not find healthy."""
    told: list[str] = field(default_factory=list[str])
    acts: int = 0
    die_at: float = float("inf")
    """The number of the act at which control dies: whole numbers before it is done, halves after it."""
    on_act: Callable[[], None] = lambda: None

    def controller(self) -> NodeController:
        return NodeController(
            NodeWorld(
                store=_Dying(self, self.store, "set_intent", "remove"),  # type: ignore[arg-type]
                observer=self,
                services=_Dying(self, self.swarm.services, "update"),  # type: ignore[arg-type]
                nodes=_Dying(self, self.swarm.nodes, "update", "remove"),  # type: ignore[arg-type]
                gateways=self,
                now=lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.clock[0]),
                tell=self._tell,
            )
        )

    async def _tell(self, node: str, sentence: str) -> None:
        self.told.append(f"{node}: {sentence}")

    snapshot: Snapshot | None = None

    async def refresh(self) -> Snapshot:
        services = await self.swarm.services.list({LABEL_CLUSTER: "c1"})
        tasks = await self.swarm.tasks.list()
        return Snapshot(
            services={each.name: each for each in services},
            tasks={each.id: tuple(task for task in tasks if task.service_id == each.id) for each in services},
            nodes={each.id: each for each in await self.swarm.nodes.list()},
            networks={},
            secrets={},
            configs={},
            taken_at=self.clock[0],
        )

    def health(self, backend: str) -> HealthReport:
        healthy = frozenset(self.running - self.unhealthy)
        return HealthReport(backend=backend, gateways=2, healthy=healthy, failures={})

    running: set[str] = field(default_factory=set[str])

    async def look(self) -> Mapping[str, list[str]]:
        """Return node name → names of services that run there, one for each task."""
        snapshot = await self.refresh()
        found: dict[str, list[str]] = {node.hostname: [] for node in snapshot.nodes.values()}
        self.running = set()
        for service in snapshot.services.values():
            for task in snapshot.tasks[service.id]:
                if task.state is TaskState.RUNNING and task.node_id:
                    self.running.add(task.id)
                    found[snapshot.nodes[task.node_id].hostname].append(service.name)
        return found

    async def end_drained(self) -> None:
        """Do what agents do: tasks that are to stop get their signal."""
        for task in await self.swarm.tasks.list():
            if task.state is TaskState.RUNNING and task.desired_state in {TaskState.SHUTDOWN, TaskState.REMOVE}:
                self.swarm.end_task(task.id, 0)

    async def live(self, controller: NodeController, *, rounds: int = 60, agents: bool = True) -> bool:
        """Let controller, agents and Swarm work until nothing is on its way; return whether it came to that."""
        for _ in range(rounds):
            await self.look()
            is_busy = await controller.tick()
            self.clock[0] += 1.0
            self.swarm.settle()
            if agents:
                await self.end_drained()
            self.swarm.settle()
            if not is_busy:
                return True
        return False

    async def node(self, name: str) -> Node:
        return await self.swarm.nodes.inspect(name)

    async def replicas(self, name: str) -> int | None:
        return (await self.swarm.services.inspect(name)).replicas

    def count(self) -> None:
        self.on_act()

    async def act(self, call: Callable[..., Any], args: Any, more: Any) -> Any:
        self.acts += 1
        number = self.acts
        if self.die_at == number:
            raise KilledError
        result = await call(*args, **more)
        if self.die_at == number + 0.5:
            raise KilledError
        return result


class _Dying:
    """Passes everything on; the named methods are acts at which control may die."""

    def __init__(self, bench: Bench, inner: object, *names: str) -> None:
        self._bench = bench
        self._inner = inner
        self._names = names

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)
        if name not in self._names:
            return call

        async def act(*args: Any, **more: Any) -> Any:
            return await self._bench.act(call, args, more)

        return act


def bench(database: Database, *, nodes: int = 3, **more: Any) -> Bench:
    """Return a bench on ``nodes`` managers."""
    clock = [0.0]
    return Bench(swarm=FakeSwarm(nodes=nodes, clock=lambda: clock[0]), store=NodeStore(database), clock=clock, **more)


async def start(it: Bench, *specs: JSON) -> None:
    """Have services run."""
    for spec in specs:
        await it.swarm.services.create(spec)
    it.swarm.settle()
