"""The fake as a whole: the ports of a manager, and levers for what goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from hunqi.engine.errors import EngineUnreachableError, NotFoundError
from hunqi.engine.fake.behaviour import Behaviour, FakeTask
from hunqi.engine.fake.ground import FakeNetworks, FakeNodes, FakeSystem
from hunqi.engine.fake.payloads import FakePayloads
from hunqi.engine.fake.placement import FakeNode
from hunqi.engine.fake.services import FakeServices, FakeTasks
from hunqi.engine.fake.world import World
from hunqi.engine.model import TaskState


class FakeSwarm:
    """A Swarm in memory: an :class:`~hunqi.engine.ports.WatchedEngine`.

    ``clock`` returns seconds that only grow. Images do what :meth:`behave` says, by default at once: a service's
    tasks run when ``create`` returns. With times above zero, tasks go on whenever the API is called after their time,
    when :meth:`settle` is called, and by themselves while :meth:`run` runs (on a real clock).
    """

    def __init__(self, *, nodes: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.world: Final = World(clock)
        self._away = False
        self.calls = 0
        """How often the API was called."""
        self.secrets: Final = FakePayloads(self.world, self.reach, "secret")
        self.configs: Final = FakePayloads(self.world, self.reach, "config")
        self.services: Final = FakeServices(self.world, self.reach, self.secrets, self.configs)
        self.tasks = FakeTasks(self.world, self.reach)
        self.nodes: Final = FakeNodes(self.world, self.reach)
        self.networks: Final = FakeNetworks(self.world, self.reach)
        self.system: Final = FakeSystem(self.world, self.reach)
        for _ in range(nodes):
            self.add_node()

    async def run(self) -> None:
        """Let things happen at their time, until cancelled."""
        changed = asyncio.Event()
        self.world.wakers.add(changed.set)
        try:
            while True:
                self.world.settle()
                changed.clear()
                due_s = self.world.next_due_s
                delay_s = None if due_s is None else max(0.0, due_s - self.world.clock())
                try:
                    async with asyncio.timeout(delay_s):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            self.world.wakers.discard(changed.set)

    def settle(self) -> None:
        """Bring everything to the clock's now."""
        self.world.settle()

    def behave(self, image: str, behaviour: Behaviour) -> None:
        """Say how tasks of an image (a reference, with or without its digest) behave from now on."""
        self.world.behaviours[image] = behaviour

    def add_node(
        self, hostname: str = "", *, role: str = "manager", nano_cpus: int = 4 * 10**9, memory_bytes: int = 8 * 2**30
    ) -> str:
        """Add a machine and return its id; the first one leads."""
        world = self.world
        number = len(world.nodes) + 1
        node = FakeNode(
            id=world.new_id(),
            version=world.bump(),
            hostname=hostname or f"node{number}",
            address=f"192.0.2.{number}",
            role=role,
            leader=number == 1,
            nano_cpus=nano_cpus,
            memory_bytes=memory_bytes,
        )
        world.nodes[node.id] = node
        world.tell("node", "create", node.id, node.hostname)
        world.mark_all()
        world.settle()
        return node.id

    def lose_node(self, hostname: str) -> None:
        """Let a machine go down; its tasks are replaced elsewhere and stay as they were last heard of."""
        node = self._node(hostname)
        node.state, node.version = "down", self.world.bump()
        self.world.tell("node", "update", node.id, hostname, **{"state.old": "ready", "state.new": "down"})
        self.world.mark_all()
        self.world.settle()

    def return_node(self, hostname: str) -> None:
        """Let it come back; what was replaced meanwhile is stopped there."""
        node = self._node(hostname)
        node.state, node.version = "ready", self.world.bump()
        self.world.tell("node", "update", node.id, hostname, **{"state.old": "down", "state.new": "ready"})
        self.world.resume(task for task in self.world.tasks.values() if task.node_id == node.id)
        self.world.mark_all()
        self.world.settle()

    def end_task(self, task_id: str, exit_code: int = 137) -> None:
        """Let a task's process end: killed, failed, or told to stop by its real signal."""
        self.world.exited(self._task(task_id), exit_code)
        self.world.settle()

    def write_line(self, task_id: str, text: str) -> None:
        """Let a task write a line."""
        self.world.say(self._task(task_id), text)

    def forget_task(self, task_id: str) -> None:
        """Let a task be orphaned, as after a day on a node that is down."""
        self.world.end(self._task(task_id), TaskState.ORPHANED)
        self.world.settle()

    def go_away(self) -> None:
        """Let the daemon die: calls fail and streams break; tasks live on."""
        self._away = True
        for stream in tuple(self.system.streams):
            stream.cut()

    def come_back(self) -> None:
        """Let the daemon be there again."""
        self._away = False

    def reach(self) -> None:
        """Count a call; raise if the daemon is away."""
        self.calls += 1
        if self._away:
            raise EngineUnreachableError("Docker does not answer; is it running?")
        self.world.settle()

    def _task(self, task_id: str) -> FakeTask:
        if task_id not in self.world.tasks:
            raise NotFoundError(f"task {task_id} not found")
        return self.world.tasks[task_id]

    def _node(self, hostname: str) -> FakeNode:
        for node in self.world.nodes.values():
            if node.hostname == hostname:
                return node
        raise NotFoundError(f"node {hostname} not found")
