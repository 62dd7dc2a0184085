"""The state of the fake and the life of its tasks: what Swarm's orchestrator, scheduler and agents do, in one loop.

Nothing happens by itself: :meth:`World.settle` brings everything to the clock's now, step by step, and is called before
and after each call of the API. Replacements wait for the end of what they replace, as Swarm's do.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Any, Final

from hunqi.engine.fake.addresses import Addresses
from hunqi.engine.fake.behaviour import ORDER, Behaviour, FakeTask, restart_delay_s
from hunqi.engine.fake.ledger import Ledger
from hunqi.engine.fake.placement import FakeNode, Load, added, place
from hunqi.engine.model import JSON, TaskState
from hunqi.engine.parse import part

RESTART_S: Final = 5.0
"""Swarm's delay before it starts a failed task again, unless the spec says otherwise."""
HISTORY: Final = 5
GRACE_S: Final = 10.0
_ENDLESS: Final = 1_000_000


class World(Ledger):
    """Everything that the fake holds. ``clock`` returns seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.services: Final[dict[str, dict[str, Any]]] = {}
        self.tasks: Final[dict[str, FakeTask]] = {}
        self.of_service: Final[dict[str, set[str]]] = {}
        self.nodes: Final[dict[str, FakeNode]] = {}
        self.networks: Final[dict[str, dict[str, Any]]] = {}
        self.behaviours: Final[dict[str, Behaviour]] = {}
        self.readers: Final[set[Callable[[FakeTask, str, str], None]]] = set()
        self.wakers: Final[set[Callable[[], None]]] = set()
        self._dirty: set[str] = set()
        self._pending: set[str] = set()
        self._due: list[tuple[float, str]] = []
        self._addresses: Final = Addresses()
        self._loads: Final[dict[str, Load]] = {}

    def behaviour(self, template: JSON) -> Behaviour:
        """Return how a task of this template behaves: by its image, with and without a digest."""
        image = part(template, "ContainerSpec").get("Image", "")
        return self.behaviours.get(image) or self.behaviours.get(image.partition("@")[0]) or Behaviour()

    def mark(self, service_id: str) -> None:
        """Have a service looked at."""
        self._dirty.add(service_id)

    def mark_all(self) -> None:
        """Have every service looked at: a node came, went or changed."""
        self._dirty.update(self.services)

    @property
    def next_due_s(self) -> float | None:
        """When something happens next by itself, None for never."""
        return self._due[0][0] if self._due else None

    # --- the loop

    def settle(self) -> None:
        """Bring everything to now."""
        for _ in range(_ENDLESS):
            while self._dirty:
                self._orchestrate(self._dirty.pop())
            if self._pending:
                self._schedule()
            if not self._due or self._due[0][0] > self.clock():
                if not self._dirty:
                    break
                continue
            _, task_id = heapq.heappop(self._due)
            task = self.tasks.get(task_id)
            if task is not None and task.due_s is not None and task.due_s <= self.clock():
                task.due_s = None
                self._go_on(task)
        for waker in tuple(self.wakers):
            waker()

    def forget_service(self, service_id: str) -> None:
        """Have all tasks of a removed service end."""
        for task in self.tasks_of(service_id):
            self.want(task, TaskState.REMOVE)

    def tasks_of(self, service_id: str) -> list[FakeTask]:
        """Return the tasks of a service, oldest first."""
        return [self.tasks[id_] for id_ in sorted(self.of_service.get(service_id, ()))]

    def want(self, task: FakeTask, desired: TaskState) -> None:
        """Change what is wanted of a task; it only ever goes forward."""
        if ORDER[desired] <= ORDER[task.desired] and task.desired is not TaskState.READY:
            return
        task.desired = desired
        self._touch(task)
        if desired in {TaskState.SHUTDOWN, TaskState.REMOVE}:
            self._stop(task)

    def end(self, task: FakeTask, state: TaskState, *, error: str = "", exit_code: int | None = None) -> None:
        """Let a task reach a state that it never leaves."""
        if task.ended:
            return
        self._bear(task, -1)
        task.exit_code, task.error, task.due_s = exit_code, error, None
        self._enter(task, state)
        self._free_addresses(task)
        self._pending.discard(task.id)
        for other in self.tasks_of(task.service_id):
            if other.waits_for == task.id:
                other.waits_for = None
                if other.due_s is None:
                    self.later(other, 0.0)
        if task.desired is TaskState.REMOVE:
            self.drop(task)
        self.mark(task.service_id)
        # What was full may have room now.
        self._dirty.update(self.tasks[id_].service_id for id_ in self._pending)

    def later(self, task: FakeTask, delay_s: float) -> None:
        """Have a task go on after a delay."""
        task.due_s = self.clock() + delay_s
        heapq.heappush(self._due, (task.due_s, task.id))

    def say(self, task: FakeTask, text: str) -> None:
        """Let a task write a line."""
        line = (self.stamp(), text)
        task.lines.append(line)
        for reader in tuple(self.readers):
            reader(task, *line)

    # --- orchestrator

    def _orchestrate(self, service_id: str) -> None:
        service = self.services.get(service_id)
        if service is None:
            return
        mode = service["Spec"].get("Mode") or {"Replicated": {"Replicas": 1}}
        if "Global" in mode or "GlobalJob" in mode:
            wanted: list[tuple[int | None, str | None]] = [
                (None, node.id) for node in self.nodes.values() if node.takes
            ]
        elif "ReplicatedJob" in mode:
            job = mode["ReplicatedJob"] or {}
            wanted = [(slot, None) for slot in range(1, (job.get("TotalCompletions") or 1) + 1)]
        else:
            replicas = (mode.get("Replicated") or {}).get("Replicas")
            wanted = [(slot, None) for slot in range(1, (1 if replicas is None else replicas) + 1)]
        self._fill(service, wanted, job="ReplicatedJob" in mode or "GlobalJob" in mode)

    def _fill(self, service: dict[str, Any], wanted: list[tuple[int | None, str | None]], *, job: bool) -> None:
        template, version = service["Spec"]["TaskTemplate"], service["TemplateVersion"]
        held: dict[tuple[int | None, str | None], list[FakeTask]] = {}
        for task in self.tasks_of(service["ID"]):
            held.setdefault((task.slot, task.wanted_node), []).append(task)
        for key, tasks in held.items():
            for task in tasks if key not in wanted else ():
                self._let_go(task)
            self._prune(tasks)
        for key in wanted:
            tasks = held.get(key, [])
            current = next((task for task in tasks if task.wanted), None)
            done = job and any(task.state is TaskState.COMPLETE and task.template_version == version for task in tasks)
            if done:
                continue
            if current is None:
                if not any(task.attempts < 0 and task.template_version == version for task in tasks):
                    self._create(service, template, key)
            elif current.template_version != version:
                self._replace(service, current, key)
            elif current.ended:
                self._restart(service, current, key)
            elif self._displaced(current):
                self._replace(service, current, key)

    def _let_go(self, task: FakeTask) -> None:
        if task.ended:
            self.drop(task)
        elif task.wanted_node is None:
            self.want(task, TaskState.REMOVE)
        else:
            self.want(task, TaskState.SHUTDOWN)

    def _displaced(self, task: FakeTask) -> bool:
        node = self.nodes.get(task.node_id or "")
        return task.node_id is not None and (node is None or node.state == "down" or node.availability == "drain")

    def _create(self, service: dict[str, Any], template: JSON, key: tuple[int | None, str | None]) -> FakeTask:
        now = self.stamp()
        task = FakeTask(
            id=self.new_id(),
            service_id=service["ID"],
            labels=dict(part(service["Spec"], "Labels")),
            slot=key[0],
            wanted_node=key[1],
            template=template,
            version=self.bump(),
            template_version=service["TemplateVersion"],
            created_at=now,
            updated_at=now,
        )
        self.tasks[task.id] = task
        self.of_service.setdefault(task.service_id, set()).add(task.id)
        self._pending.add(task.id)
        task.state = TaskState.PENDING
        return task

    def _replace(self, service: dict[str, Any], old: FakeTask, key: tuple[int | None, str | None]) -> None:
        new = self._create(service, service["Spec"]["TaskTemplate"], key)
        node = self.nodes.get(old.node_id or "")
        if not old.ended and node is not None and node.state != "down":
            # Stop-first: Swarm holds the new one back until the old one has gone.
            new.waits_for, new.desired = old.id, TaskState.READY
        self.want(old, TaskState.SHUTDOWN)

    def _restart(self, service: dict[str, Any], old: FakeTask, key: tuple[int | None, str | None]) -> None:
        self.want(old, TaskState.SHUTDOWN)
        delay_s = restart_delay_s(old, RESTART_S)
        if delay_s is None:
            old.attempts = -1  # nobody fills this slot again for this spec
            return
        new = self._create(service, service["Spec"]["TaskTemplate"], key)
        new.attempts = old.attempts + 1
        if delay_s > 0:
            new.desired = TaskState.READY
            self.later(new, delay_s)

    def _prune(self, tasks: list[FakeTask]) -> None:
        past = [task for task in tasks if task.ended and not task.wanted]
        for task in past[: max(0, len(past) - HISTORY + 1)]:
            self.drop(task)

    def drop(self, task: FakeTask) -> None:
        """Forget a task."""
        if task.id in self.tasks and not task.ended:
            self._bear(task, -1)
        self.tasks.pop(task.id, None)
        self.of_service.get(task.service_id, set()).discard(task.id)
        self._pending.discard(task.id)
        self.bump()

    # --- scheduler

    def _schedule(self) -> None:
        waiting = [self.tasks[id_] for id_ in sorted(self._pending)]
        for task in waiting:
            node_id, why = place(
                task.template, self.nodes.values(), self._loads, own=self._own(task), only=task.wanted_node
            )
            if node_id is None:
                if task.error != why:
                    task.error, task.message = why, "pending task scheduling"
                    self._touch(task)
                continue
            self._pending.discard(task.id)
            task.error, task.node_id = "", node_id
            self._bear(task, 1)
            for target in task.template.get("Networks") or ():
                if target["Target"] in self.networks:
                    task.addresses[target["Target"]] = self.take_address(target["Target"])
            self._enter(task, TaskState.ASSIGNED)
            if task.due_s is None and task.waits_for is None:
                self.later(task, 0.0)
        # Those left over wait for the next change; `end` and `mark_all` put them up again.
        self._pending = {task.id for task in waiting if task.id in self._pending}

    def _own(self, task: FakeTask) -> dict[str, int]:
        """Return how many tasks of the same service each node bears."""
        own: dict[str, int] = {}
        for other in self.tasks_of(task.service_id):
            if other.node_id and other.wanted and not other.ended:
                own[other.node_id] = own.get(other.node_id, 0) + 1
        return own

    def _bear(self, task: FakeTask, count: int) -> None:
        if task.node_id is not None:
            self._loads[task.node_id] = added(self._loads.get(task.node_id, Load()), task.template, count=count)

    def take_address(self, network_id: str) -> str:
        """Return a free address of a network."""
        return self._addresses.take(network_id, self._subnet(network_id))

    def _subnet(self, network_id: str) -> str:
        return self.networks[network_id]["IPAM"]["Config"][0]["Subnet"]

    def _free_addresses(self, task: FakeTask) -> None:
        for network_id, address in task.addresses.items():
            if network_id in self.networks:
                self._addresses.give_back(network_id, self._subnet(network_id), address)

    # --- agents

    def _go_on(self, task: FakeTask) -> None:
        """Do a task's next step."""
        if task.ended or task.node_id is None or self.nodes[task.node_id].state == "down":
            return
        if task.stopping:
            self._stopped(task)
            return
        if task.waits_for is not None:
            return
        if task.desired is TaskState.READY:
            task.desired = TaskState.RUNNING
        behaviour = self.behaviour(task.template)
        match task.state:
            case TaskState.ASSIGNED:
                self._enter(task, TaskState.PREPARING)
                self.later(task, behaviour.pull_s)
            case TaskState.PREPARING:
                if behaviour.missing:
                    error = f"No such image: {task.container.get('Image', '')}"
                    self.end(task, TaskState.REJECTED, error=error)
                else:
                    self._start(task, behaviour)
            case TaskState.STARTING:
                if behaviour.unhealthy:
                    self.end(task, TaskState.FAILED, error="task: unhealthy container", exit_code=137)
                else:
                    self._enter(task, TaskState.RUNNING)
                    if behaviour.exit_code is not None:
                        self.later(task, behaviour.run_s)
            case TaskState.RUNNING:
                self.exited(task, behaviour.exit_code or 0)
            case _:
                return

    def _start(self, task: FakeTask, behaviour: Behaviour) -> None:
        task.container_id = f"{int(task.id[1:], 16):064x}"
        task.pid = 100_000 + int(task.id[1:], 16)
        self._enter(task, TaskState.STARTING)
        for line in behaviour.lines:
            self.say(task, line)
        self.later(task, behaviour.start_s)

    def exited(self, task: FakeTask, code: int) -> None:
        """Let a task's process end."""
        if task.stopping:
            self.end(task, TaskState.SHUTDOWN, exit_code=code)
        elif code == 0:
            self.end(task, TaskState.COMPLETE, exit_code=0)
        else:
            self.end(task, TaskState.FAILED, error=f"task: non-zero exit ({code})", exit_code=code)

    def _stop(self, task: FakeTask) -> None:
        if task.ended:
            if task.desired is TaskState.REMOVE:
                self.drop(task)
            return
        if task.stopping:
            return
        if task.container_id is None:
            self.end(task, TaskState.SHUTDOWN)
            return
        task.stopping = True
        needs_s, grace_s = self._stop_times(task)
        self.later(task, min(needs_s, grace_s))

    def _stopped(self, task: FakeTask) -> None:
        needs_s, grace_s = self._stop_times(task)
        self.end(task, TaskState.SHUTDOWN, exit_code=137 if needs_s > grace_s else 0)

    def _stop_times(self, task: FakeTask) -> tuple[float, float]:
        """Return how long the process takes to stop, and how long it is given."""
        behaviour, grace_ns = self.behaviour(task.template), task.container.get("StopGracePeriod")
        deaf = (task.container.get("StopSignal") or "SIGTERM") in behaviour.deaf_to
        return inf if deaf else behaviour.stop_s, GRACE_S if grace_ns is None else grace_ns / 1e9

    def resume(self, tasks: Iterable[FakeTask]) -> None:
        """Let tasks of a node that is back go on."""
        for task in tasks:
            if not task.ended:
                self.later(task, 0.0)

    def _enter(self, task: FakeTask, state: TaskState) -> None:
        task.state, task.message = state, _MESSAGES.get(state, state.value)
        self._touch(task)

    def _touch(self, task: FakeTask) -> None:
        task.updated_at, task.version = self.stamp(), self.bump()


_MESSAGES: Final[Mapping[TaskState, str]] = {
    TaskState.ASSIGNED: "scheduler assigned task to node",
    TaskState.RUNNING: "started",
    TaskState.COMPLETE: "finished",
    TaskState.FAILED: "started",
    TaskState.SHUTDOWN: "shutdown",
    TaskState.REJECTED: "preparing",
}
