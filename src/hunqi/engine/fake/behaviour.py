"""How tasks of the fake behave: by image, what it takes to pull, start and stop them, and how they fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hunqi.engine.model import JSON, TaskState
from hunqi.engine.parse import part


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What an image does; times in seconds of the fake's clock."""

    pull_s: float = 0.0
    start_s: float = 0.0
    """From started to running (its healthcheck passed)."""
    stop_s: float = 0.0
    """From the stop signal to the end; the grace period cuts it."""
    missing: bool = False
    """No registry has it: its tasks are rejected."""
    unhealthy: bool = False
    """Its healthcheck never passes: its tasks fail after ``start_s``."""
    exit_code: int | None = None
    """It ends by itself with this code, ``run_s`` after it runs."""
    run_s: float = 0.0
    deaf_to: frozenset[str] = frozenset({"SIGURG"})
    """Stop signals that it ignores: then only the end of the grace period (or a real signal) ends it."""
    lines: tuple[str, ...] = ()
    """What each task writes when it starts."""


@dataclass(slots=True, kw_only=True)
class FakeTask:
    """A task within the fake; :mod:`hunqi.engine.model` has the meaning of the fields."""

    id: str
    service_id: str
    labels: Mapping[str, str]
    slot: int | None
    wanted_node: str | None
    """The node that a task of a global service is for."""
    template: JSON
    template_version: int
    version: int
    created_at: str
    updated_at: str
    state: TaskState = TaskState.NEW
    desired: TaskState = TaskState.RUNNING
    node_id: str | None = None
    addresses: dict[str, str] = field(default_factory=dict[str, str])
    error: str = ""
    message: str = "created"
    exit_code: int | None = None
    container_id: str | None = None
    pid: int | None = None
    due_s: float | None = None
    """When it goes on by itself."""
    waits_for: str | None = None
    """The task whose end it waits for, as a replacement."""
    attempts: int = 0
    lines: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(time, text)"""
    stopping: bool = False

    @property
    def container(self) -> Mapping[str, Any]:
        """The container's spec."""
        return part(self.template, "ContainerSpec")

    @property
    def ended(self) -> bool:
        """Whether it has reached a state that it never leaves."""
        return self.state in ENDED

    @property
    def wanted(self) -> bool:
        """Whether it fills its slot."""
        return self.desired in {TaskState.RUNNING, TaskState.READY}


ENDED = frozenset({
    TaskState.COMPLETE, TaskState.SHUTDOWN, TaskState.FAILED, TaskState.REJECTED, TaskState.REMOVE, TaskState.ORPHANED,
})  # fmt: skip
ORDER = {state: place for place, state in enumerate(TaskState)}


def restart_delay_s(task: FakeTask, default_s: float) -> float | None:
    """Return after what time a task that ended is started again, None for never: its spec's restart policy."""
    policy = part(task.template, "RestartPolicy")
    condition, most = policy.get("Condition") or "any", policy.get("MaxAttempts") or 0
    failed = task.state is not TaskState.COMPLETE
    if (condition != "any" and not (condition == "on-failure" and failed)) or (most and task.attempts >= most):
        return None
    delay_ns = policy.get("Delay")
    return default_s if delay_ns is None else delay_ns / 1e9
