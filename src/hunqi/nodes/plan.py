"""What is to be done with a node next, to empty it or to take it up again. Pure: what is → one step, in a sentence.

Every step is either an *act* on the engine or a *mark*: progress that is written down before the acts that it allows.
Acts say a goal, not a difference, so that one which was done already is not planned again; so a plan that was cut off
anywhere is continued by planning anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from hunqi.engine.model import LABEL_DRAIN, Node, Service, Snapshot, TaskState
from hunqi.nodes.fit import fits_elsewhere, holds_place, part, tasks_on, why_not
from hunqi.nodes.model import DrainProgress, DrainStep, Extra, Intent, NodeRecord

SURGE_S: Final = 600.0
"""So long the surge after somebody else's drain is kept at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing can be done now; look again when something has changed."""

    sentence: str
    done: bool = False
    """Whether it is nothing to wait for: the node is as it is meant to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Write down the progress (None: there is nothing to remember any more)."""

    progress: DrainProgress | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAvailability:
    """Make the node ``active``, ``pause`` or ``drain``."""

    availability: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Give the Swarm service that many replicas."""

    service: str
    replicas: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Take the node out of the Swarm and out of our memory."""

    sentence: str


Step = Wait | Mark | SetAvailability | Scale | Forget


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """All that a plan is made from. ``now`` in seconds since 1970."""

    record: NodeRecord
    node: Node | None
    snapshot: Snapshot
    healthy: Callable[[str], frozenset[str] | None]
    """Swarm service → tasks that every gateway finds healthy; None where no gateway knows it."""
    now: float
    wanted: Mapping[str, int] = field(default_factory=dict[str, int])
    """Swarm service → replicas that other nodes' surges add already."""

    @property
    def name(self) -> str:
        """The node's host name."""
        return self.node.hostname if self.node else self.record.name


def plan(at: Outlook) -> Step:
    """Return the next step towards the node's intent."""
    if at.node is None:
        return Forget(sentence=f"{at.record.name} is no longer in the Swarm: it is forgotten")
    match at.record.intent:
        case Intent.ACTIVE:
            return _plan_active(at, at.node)
        case Intent.DRAIN:
            return _plan_drain(at, at.node)
        case Intent.REMOVE:
            return _plan_removal(at, at.node)


def surgeable(service: Service) -> bool:
    """Whether more tasks than asked for do no harm: replicated, and stopped by way of a drain (so without volumes)."""
    labels = part(part(part(service.spec, "TaskTemplate"), "ContainerSpec"), "Labels")
    return bool(service.replicas) and LABEL_DRAIN in labels


def _plan_active(at: Outlook, node: Node) -> Step:
    progress = at.record.progress
    if progress and progress.step is DrainStep.CAUGHT and node.availability == "drain":
        return _plan_caught(at, progress)
    if progress and progress.step in {DrainStep.CAUGHT, DrainStep.RELEASE}:
        return _release(at, progress)
    if progress:
        if node.availability != "active":
            return SetAvailability(availability="active", sentence=f"{at.name} takes tasks again")
        return _take_back(at, progress) or Mark(progress=None, sentence=f"{at.name} is active")
    going = _going(at, node) if node.availability == "drain" else {}
    if not going:
        return Wait(sentence=f"{at.name} is {node.availability}", done=True)
    surge = {name: Extra(base=_base(at, service), more=1) for name, service in going.items()}
    return Mark(
        progress=DrainProgress(step=DrainStep.CAUGHT, surge=surge, since=at.now),
        sentence=f"somebody drained {at.name}: one more of {', '.join(surge)} at once",
    )


def _plan_caught(at: Outlook, progress: DrainProgress) -> Step:
    if at.now - progress.since > SURGE_S:
        return _release(at, progress)
    lacking = _lacking(at, progress)
    step = next(filter(None, (_raise(at, name, extra) for name, extra in progress.surge.items())), None)
    if step or lacking:
        return step or Wait(sentence=f"{at.name} is drained by somebody else: {lacking}")
    return _release(at, progress)


def _release(at: Outlook, progress: DrainProgress) -> Step:
    if progress.step is not DrainStep.RELEASE:
        return Mark(
            progress=replace(progress, step=DrainStep.RELEASE, since=at.now),
            sentence=f"what was started for {at.name} is no longer needed",
        )
    return _take_back(at, progress) or Mark(progress=None, sentence=f"{at.name} is as somebody else wants it")


def _plan_drain(at: Outlook, node: Node) -> Step:
    progress = at.record.progress or DrainProgress(since=at.now)
    match progress.step:
        case DrainStep.CAUGHT | DrainStep.RELEASE | DrainStep.ACTIVATE:
            # What is extra by then stays so: it is the surge of this drain.
            return Mark(progress=replace(progress, step=DrainStep.SURGE, since=at.now), sentence=f"draining {at.name}")
        case DrainStep.PAUSE:
            return _plan_pause(at, node, progress)
        case DrainStep.SURGE:
            return _plan_surge(at, progress)
        case DrainStep.DRAIN:
            return _plan_stop(at, node, progress)
        case DrainStep.RETURN:
            empty = Mark(
                progress=replace(progress, step=DrainStep.EMPTYING, surge={}, since=at.now),
                sentence=f"the last tasks leave {at.name}",
            )
            return _take_back(at, progress) or empty
        case DrainStep.EMPTYING | DrainStep.EMPTY:
            return _plan_empty(at, node, progress)


def _plan_pause(at: Outlook, node: Node, progress: DrainProgress) -> Step:
    if node.availability == "active":
        return SetAvailability(availability="pause", sentence=f"nothing new is placed on {at.name}")
    counts: dict[str, int] = {}
    for service, task in tasks_on(at.snapshot, node.id):
        if surgeable(service) and task.desired_state is TaskState.RUNNING:
            counts[service.name] = counts.get(service.name, 0) + 1
    surge = {name: Extra(base=_base(at, at.snapshot.services[name]), more=count) for name, count in counts.items()}
    said = ", ".join(f"{extra.more} of {name}" for name, extra in surge.items()) or "nothing"
    return Mark(
        progress=replace(progress, step=DrainStep.SURGE, surge=surge, since=at.now),
        sentence=f"{said} is started elsewhere before {at.name} is drained",
    )


def _plan_surge(at: Outlook, progress: DrainProgress) -> Step:
    for name, extra in progress.surge.items():
        step = _raise(at, name, extra)
        if step:
            return step
    lacking = "" if progress.force else _lacking(at, progress)
    if lacking:
        return Wait(sentence=f"before {at.name} is drained: {lacking}")
    return Mark(
        progress=replace(progress, step=DrainStep.DRAIN, since=at.now),
        sentence=f"everything serves elsewhere: {at.name} is drained",
    )


def _plan_stop(at: Outlook, node: Node, progress: DrainProgress) -> Step:
    if node.availability != "drain":
        return SetAvailability(availability="drain", sentence=f"the engine stops the tasks on {at.name}")
    # Only when the engine has given up each task there does it count its held-back replacements as surplus.
    if _going(at, node, wanted_only=True):
        return Wait(sentence=f"the engine is about to stop the tasks on {at.name}")
    return Mark(
        progress=replace(progress, step=DrainStep.RETURN, since=at.now),
        sentence=f"what was started for {at.name} takes the place of its tasks",
    )


def _plan_empty(at: Outlook, node: Node, progress: DrainProgress) -> Step:
    left = sorted({service.name for service, _ in tasks_on(at.snapshot, node.id)})
    if left:
        if progress.step is DrainStep.EMPTY:
            return Mark(progress=replace(progress, step=DrainStep.EMPTYING), sentence=f"{at.name} is not empty")
        return Wait(sentence=f"waiting for {', '.join(left)} to end on {at.name}")
    if progress.step is DrainStep.EMPTYING:
        return Mark(progress=replace(progress, step=DrainStep.EMPTY, since=at.now), sentence=f"{at.name} is empty")
    return Wait(sentence=f"{at.name} is empty", done=True)


def _plan_removal(at: Outlook, node: Node) -> Step:
    progress = at.record.progress
    is_gone = node.state == "down"
    if not is_gone and not (progress and progress.force):
        step = _plan_drain(at, node)
        if not (isinstance(step, Wait) and step.done):
            return step
        return Wait(sentence=f"{at.name} is empty: run `docker swarm leave` there, or remove it with --force")
    if progress and progress.surge:
        return _take_back(at, progress) or Mark(
            progress=replace(progress, surge={}), sentence=f"nothing more is started for {at.name}"
        )
    return Forget(sentence=f"{at.name} is removed")


def _going(at: Outlook, node: Node, *, wanted_only: bool = False) -> dict[str, Service]:
    """Return the services that lose a running task with the node, by name."""
    return {
        service.name: service
        for service, task in tasks_on(at.snapshot, node.id)
        if (task.desired_state is TaskState.RUNNING if wanted_only else surgeable(service))
        and task.state is TaskState.RUNNING
    }


def _base(at: Outlook, service: Service) -> int:
    return (service.replicas or 0) - at.wanted.get(service.name, 0)


def _raise(at: Outlook, name: str, extra: Extra) -> Scale | None:
    service = at.snapshot.services.get(name)
    goal = extra.base + at.wanted.get(name, 0) + extra.more
    if service is None or not service.replicas or service.replicas >= goal:
        return None
    return Scale(service=name, replicas=goal, sentence=f"{name}: {goal - service.replicas} more, elsewhere")


def _take_back(at: Outlook, progress: DrainProgress) -> Scale | None:
    for name, extra in progress.surge.items():
        service = at.snapshot.services.get(name)
        base = extra.base + at.wanted.get(name, 0)
        # Any other number is somebody else's wish, made since.
        if service is not None and service.replicas == base + extra.more:
            return Scale(service=name, replicas=base, sentence=f"{name}: back to {base}")
    return None


def _lacking(at: Outlook, progress: DrainProgress) -> str:
    """Return what does not serve elsewhere yet as it did with the node, empty if all does."""
    for name, extra in progress.surge.items():
        service = at.snapshot.services.get(name)
        if service is None or not service.replicas:
            continue
        others = [
            task for task in at.snapshot.tasks.get(service.id, ()) if task.serving and task.node_id != at.record.node
        ]
        healthy = at.healthy(name)
        count = sum(1 for task in others if healthy is None or task.id in healthy)
        if count < min(extra.base, service.replicas):
            return f"{name} has {count} of {extra.base} healthy elsewhere{_room(at, service)}"
    return ""


def _room(at: Outlook, service: Service) -> str:
    placed = [task for task in at.snapshot.tasks.get(service.id, ()) if holds_place(task)]
    if len(placed) >= (service.replicas or 0) or fits_elsewhere(service, at.snapshot, away_from=at.record.node):
        return ""
    reasons = (
        why_not(service.spec, node, at.snapshot, service_id=service.id)
        for node in at.snapshot.nodes.values()
        if node.id != at.record.node
    )
    said = "; ".join(sorted(each for each in reasons if each)) or "there is no other node"
    return f" ({said}; --force stops it all the same)"
