"""Services and tasks of the fake."""

from __future__ import annotations

import builtins
import copy
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from hunqi.engine import parse
from hunqi.engine.errors import ConflictError, EngineRefusedError, NotFoundError
from hunqi.engine.fake.behaviour import FakeTask
from hunqi.engine.fake.payloads import FakePayloads
from hunqi.engine.fake.streams import FakeLines, Reach
from hunqi.engine.fake.world import World
from hunqi.engine.model import JSON, LogLine, RegistryAuth, Service, Task
from hunqi.engine.parse import part

_NAME: Final = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9_]*[a-zA-Z0-9])?")


class FakeServices:
    """See :class:`~hunqi.engine.services.Services`."""

    def __init__(self, world: World, reach: Reach, secrets: FakePayloads, configs: FakePayloads) -> None:
        self._world = world
        self._reach = reach
        self._secrets = secrets
        self._configs = configs
        self.logins: Final[dict[str, RegistryAuth | None]] = {}
        """Service id → the login that its last create or update came with."""

    async def list(
        self, labels: Mapping[str, str] | None = None, *, names: Iterable[str] | None = None
    ) -> list[Service]:
        """Return services."""
        self._reach()
        prefixes = None if names is None else tuple(names)
        return [
            parse.service(copy.deepcopy(data))
            for data in self._world.services.values()
            if labelled(part(data["Spec"], "Labels"), labels)
            and (prefixes is None or data["Spec"]["Name"].startswith(prefixes))
        ]

    async def inspect(self, service: str) -> Service:
        """Return a service."""
        self._reach()
        return parse.service(copy.deepcopy(self._find(service)))

    async def create(self, spec: JSON, *, registry_auth: RegistryAuth | None = None) -> str:
        """Create a service."""
        self._reach()
        world, name = self._world, spec.get("Name", "")
        if any(data["Spec"]["Name"] == name for data in world.services.values()):
            raise ConflictError(f"service {name}: name conflicts with an existing object")
        checked = self._checked(spec)
        now = world.stamp()
        data: dict[str, Any] = {
            "ID": world.new_id(),
            "Version": {"Index": world.bump()},
            "TemplateVersion": world.index,
            "CreatedAt": now,
            "UpdatedAt": now,
            "Spec": checked,
        }
        world.services[data["ID"]] = data
        self.logins[data["ID"]] = registry_auth
        world.tell("service", "create", data["ID"], name)
        world.mark(data["ID"])
        world.settle()
        return data["ID"]

    async def update(
        self, service: str, version: int, spec: JSON, *, registry_auth: RegistryAuth | None = None
    ) -> None:
        """Replace its spec."""
        self._reach()
        world, data = self._world, self._find(service)
        if data["Version"]["Index"] != version:
            raise ConflictError("update out of sequence")
        checked = self._checked(spec)
        if checked["Name"] != data["Spec"]["Name"]:
            raise EngineRefusedError("renaming services is not supported")
        changed = checked["TaskTemplate"] != data["Spec"]["TaskTemplate"]
        data["Spec"], data["UpdatedAt"] = checked, world.stamp()
        data["Version"]["Index"] = world.bump()
        if changed:
            data["TemplateVersion"] = world.index
        if registry_auth is not None:
            self.logins[data["ID"]] = registry_auth
        world.tell("service", "update", data["ID"], checked["Name"])
        world.mark(data["ID"])
        world.settle()

    async def remove(self, service: str) -> None:
        """Remove a service."""
        self._reach()
        data = self._find(service)
        del self._world.services[data["ID"]]
        self._world.tell("service", "remove", data["ID"], data["Spec"]["Name"])
        self._world.forget_service(data["ID"])
        self._world.settle()

    @asynccontextmanager
    async def logs(
        self,
        service: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_s: int | None = None,
        tty: bool = False,
    ) -> AsyncGenerator[FakeLines]:
        """Open the lines of all its tasks."""
        self._reach()
        data = self._find(service)
        with_tasks = self._world.tasks_of(data["ID"])
        async with open_lines(self._world, with_tasks, data["ID"], follow=follow, tail=tail) as lines:
            yield lines

    def _find(self, service: str) -> dict[str, Any]:
        if service in self._world.services:
            return self._world.services[service]
        for data in self._world.services.values():
            if data["Spec"]["Name"] == service:
                return data
        raise NotFoundError(f"service {service} not found")

    def _checked(self, spec: JSON) -> dict[str, Any]:
        """Return the spec as Swarm keeps it: networks by id. Raises for what Swarm refuses."""
        checked: dict[str, Any] = copy.deepcopy(dict(spec))
        if not _NAME.fullmatch(str(checked.get("Name", ""))) or len(checked["Name"]) > 63:
            raise EngineRefusedError("name must be valid as a DNS name component")
        template = checked.setdefault("TaskTemplate", {})
        container = part(template, "ContainerSpec")
        if not container.get("Image"):
            raise EngineRefusedError("ContainerSpec: image reference must be provided")
        for target in template.get("Networks") or ():
            target["Target"] = self._network(target["Target"])
        for kind, payloads in (("Secret", self._secrets), ("Config", self._configs)):
            for reference in container.get(f"{kind}s") or ():
                if not payloads.has(reference[f"{kind}ID"]):
                    raise EngineRefusedError(f"{kind.lower()} not found: {reference[f'{kind}Name']}")
        checked.setdefault("Mode", {"Replicated": {"Replicas": 1}})
        return checked

    def _network(self, target: str) -> str:
        for id_, network in self._world.networks.items():
            if target in {id_, network["Name"]}:
                return id_
        raise NotFoundError(f"network {target} not found")


class FakeTasks:
    """See :class:`~hunqi.engine.tasks.Tasks`."""

    def __init__(self, world: World, reach: Reach) -> None:
        self._world = world
        self._reach = reach

    async def list(
        self,
        labels: Mapping[str, str] | None = None,
        *,
        services: Iterable[str] | None = None,
        nodes: Iterable[str] | None = None,
        ids: Iterable[str] | None = None,
        desired: Iterable[str] | None = None,
    ) -> list[Task]:
        """Return tasks."""
        self._reach()
        world = self._world
        found: builtins.list[FakeTask]
        if services is None:
            found = [*world.tasks.values()]
        else:
            found = [task for service in services for task in world.tasks_of(self._service(service))]
        wanted_nodes = None if nodes is None else {self._node(node) for node in nodes}
        wanted_ids = None if ids is None else set(ids)
        wanted_states = None if desired is None else set(desired)
        return [
            shown(task)
            for task in found
            if labelled(task.labels, labels)
            and (wanted_nodes is None or task.node_id in wanted_nodes)
            and (wanted_ids is None or task.id in wanted_ids)
            and (wanted_states is None or task.desired.value in wanted_states)
        ]

    async def inspect(self, task: str) -> Task:
        """Return a task."""
        self._reach()
        return shown(self._find(task))

    @asynccontextmanager
    async def logs(
        self,
        task: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_s: int | None = None,
        tty: bool = False,
    ) -> AsyncGenerator[FakeLines]:
        """Open its lines."""
        self._reach()
        found = self._find(task)
        async with open_lines(self._world, [found], None, follow=follow, tail=tail) as lines:
            yield lines

    def _find(self, task: str) -> FakeTask:
        if task not in self._world.tasks:
            raise NotFoundError(f"task {task} not found")
        return self._world.tasks[task]

    def _service(self, service: str) -> str:
        for id_, data in self._world.services.items():
            if service in {id_, data["Spec"]["Name"]}:
                return id_
        raise NotFoundError(f"service {service} not found")

    def _node(self, node: str) -> str:
        for id_, found in self._world.nodes.items():
            if node in {id_, found.hostname}:
                return id_
        raise NotFoundError(f"node {node} not found")


@asynccontextmanager
async def open_lines(
    world: World, tasks: list[FakeTask], service_id: str | None, *, follow: bool, tail: int | None
) -> AsyncGenerator[FakeLines]:
    """Give what the tasks wrote, and with ``follow`` what they, or new ones of the service, go on to write."""
    lines = FakeLines()
    ids = {task.id for task in tasks}

    def read(task: FakeTask, time: str, text: str) -> None:
        if task.id in ids or (service_id is not None and task.service_id == service_id):
            lines.put(_line(task, time, text))

    past = sorted(((time, task.id, text) for task in tasks for time, text in task.lines))
    by_id = {task.id: task for task in tasks}
    for time, id_, text in past if tail is None else past[len(past) - min(tail, len(past)) :]:
        lines.put(_line(by_id[id_], time, text))
    if not follow:
        lines.close()
        yield lines
        return
    world.readers.add(read)
    try:
        yield lines
    finally:
        world.readers.discard(read)


def labelled(labels: Mapping[str, str], wanted: Mapping[str, str] | None) -> bool:
    """Return whether these labels have all that is wanted; an empty value asks for the key only."""
    return all(key in labels and (not value or labels[key] == value) for key, value in (wanted or {}).items())


def shown(task: FakeTask) -> Task:
    """Return a task as the API shows it."""
    return Task(
        id=task.id,
        service_id=task.service_id,
        node_id=task.node_id,
        slot=task.slot,
        state=task.state,
        desired_state=task.desired,
        message=task.message,
        error=task.error,
        exit_code=task.exit_code,
        container_id=task.container_id,
        pid=task.pid,
        addresses=dict(task.addresses),
        image=task.container.get("Image", ""),
        created_at=task.created_at,
        updated_at=task.updated_at,
        version=task.version,
        labels=dict(part(task.container, "Labels")),
    )


def _line(task: FakeTask, time: str, text: str) -> LogLine:
    return LogLine(
        text=text, stream="stdout", time=time, task=task.id, node=task.node_id or "", service=task.service_id
    )
