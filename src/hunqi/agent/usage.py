"""What the tasks of this node use: the containers of the cluster's apps, each read from its control group.

Docker is asked which containers there are every few seconds, and about each of them once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hunqi.agent.cgroups import Cgroups, Group
from hunqi.agent.stops import TASK_LABEL
from hunqi.engine.errors import NotFoundError
from hunqi.engine.model import LABEL_APP, LABEL_CLUSTER, LABEL_REVISION, LABEL_SERVICE, Container
from hunqi.errors import HunqiError
from hunqi.telemetry.wire import TaskCounts

LIST_S: Final = 5.0
"""How old the list of containers may be: so late may a new task be seen."""
DOCKER_S: Final = 4.0
_NANO: Final = 1e9
_ENDED: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.ESRCH})
"""What files of a group say that has just gone."""
_log: Final = logging.getLogger(__name__)


class Containers(Protocol):
    """The containers of this node's engine."""

    async def list(self, labels: Mapping[str, str] | None = None) -> Sequence[Container]:
        """Return those that run."""
        ...

    async def inspect(self, container: str) -> Container:
        """Return one, whole. Raises ``NotFoundError``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A task's container, as far as it never changes. ``group`` is None where it has no control group to be read."""

    container: str
    task: str
    app: str
    service: str
    revision: int
    pid: int
    addresses: tuple[str, ...]
    group: Group | None
    cpu_limit_cores: float | None
    memory_limit_bytes: int | None
    memory_request_bytes: int | None


class TaskBook:
    """The tasks of this node. For one event loop."""

    def __init__(self, containers: Containers, *, cluster: str, monotonic: Callable[[], float]) -> None:
        """``monotonic`` tells seconds."""
        self._containers = containers
        self._cluster = cluster
        self._monotonic = monotonic
        self._cgroups: Cgroups | None = None
        self._found: dict[str, Found] = {}
        self._listed_at = -LIST_S
        self._lock = asyncio.Lock()
        self.problem = ""
        """Why the list may be out of date, in a sentence."""

    def of(self, task: str) -> Found | None:
        """Return the container of ``task`` as of the last look."""
        return next((each for each in self._found.values() if each.task == task), None)

    async def refresh(self) -> None:
        """Ask Docker, if the last answer is too old; what cannot be asked is :attr:`problem`."""
        async with self._lock:
            if self._monotonic() - self._listed_at < LIST_S:
                return
            try:
                async with asyncio.timeout(DOCKER_S):
                    await self._list()
                self.problem = ""
                self._listed_at = self._monotonic()
            except TimeoutError:
                self.problem = f"Docker does not say in {DOCKER_S:.0f} s which tasks run here"
            except (HunqiError, OSError) as error:
                self.problem = f"which tasks run here cannot be asked: {error}"

    async def usage(self) -> tuple[list[TaskCounts], list[str]]:
        """Return what each task uses, and sentences on those that cannot be read."""
        return await asyncio.to_thread(_read, list(self._found.values()))

    async def _list(self) -> None:
        every = await self._containers.list({LABEL_CLUSTER: self._cluster})
        tasks = {each.id: each for each in every if TASK_LABEL in each.labels and LABEL_APP in each.labels}
        for gone in self._found.keys() - tasks.keys():
            del self._found[gone]
        for fresh in tasks.keys() - self._found.keys():
            try:
                whole = await self._containers.inspect(fresh)
            except NotFoundError:
                continue
            if whole.pid:
                self._found[fresh] = await asyncio.to_thread(self._describe, whole, whole.pid)

    def _describe(self, container: Container, pid: int) -> Found:
        labels, group = container.labels, None
        try:
            self._cgroups = self._cgroups or Cgroups()
            group = self._cgroups.find(pid, container.id)
        except (OSError, ValueError) as error:
            _log.warning("the control group of container %s is not found: %s", container.id[:12], error)
        revision = labels.get(LABEL_REVISION, "")
        host: Any = container.detail.get("HostConfig") or {}
        return Found(
            container=container.id,
            task=labels[TASK_LABEL],
            app=labels[LABEL_APP],
            service=labels.get(LABEL_SERVICE, ""),
            revision=int(revision) if revision.isdecimal() else 0,
            pid=pid,
            addresses=tuple(each for each in container.addresses.values() if each),
            group=group,
            cpu_limit_cores=_cores(host),
            memory_limit_bytes=host.get("Memory") or None,
            memory_request_bytes=host.get("MemoryReservation") or None,
        )


def _cores(host: Mapping[str, Any]) -> float | None:
    if nano := host.get("NanoCpus"):
        return nano / _NANO
    if (quota := host.get("CpuQuota") or 0) > 0:
        return quota / (host.get("CpuPeriod") or 100_000)
    return None


def _read(tasks: Sequence[Found]) -> tuple[list[TaskCounts], list[str]]:
    counts: list[TaskCounts] = []
    problems: list[str] = []
    for each in tasks:
        if each.group is None:
            problems.append(f"what task {each.task} of {each.app} uses is not known: it has no control group here")
            continue
        try:
            used = each.group.read()
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, OSError) and error.errno in _ENDED:
                continue
            problems.append(f"what task {each.task} of {each.app} uses cannot be read: {error}")
            continue
        counts.append(
            TaskCounts(
                task=each.task,
                app=each.app,
                service=each.service,
                revision=each.revision,
                cpu_s=used.cpu_s,
                memory_bytes=used.memory_bytes,
                ooms=used.ooms,
                cpu_limit_cores=each.cpu_limit_cores,
                memory_limit_bytes=each.memory_limit_bytes,
                memory_request_bytes=each.memory_request_bytes,
            )
        )
    return counts, problems
