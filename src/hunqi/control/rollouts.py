"""Rollouts of a control process: what their measures are asked of, and their parts, made once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from hunqi.api.ports import Entering, TaskRef
from hunqi.apps.build import Apps
from hunqi.apps.model import ServiceSpec
from hunqi.apps.operations import AppOperations
from hunqi.apps.ports import Observer
from hunqi.apps.swarm import service_name
from hunqi.control.metric_sources import MetricSources
from hunqi.engine.model import TaskState
from hunqi.errors import DependencyError
from hunqi.rollouts.analysis.analyst import Analyst
from hunqi.rollouts.analysis.gathering import Sources
from hunqi.rollouts.analysis.ports import Answer
from hunqi.rollouts.controller import Around, RolloutController
from hunqi.rollouts.operations import AppRollouts
from hunqi.rollouts.store import RolloutStore
from hunqi.state.database import Database
from hunqi.telemetry.errors import NotMeasuredError
from hunqi.telemetry.model import Telemetry

_CHECK_S: Final = 10.0
_MOST_BYTES: Final = 64 * 1024
_MOST_HEAD: Final = 16 * 1024
_BY_THEMSELVES: Final = frozenset({TaskState.FAILED, TaskState.COMPLETE, TaskState.REJECTED})
"""How tasks end that nobody told to: those that were told to are shut down."""


class CheckError(DependencyError):
    """A task could not be asked whether it is well, or gave no answer."""

    code: ClassVar[str] = "rollout.check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolling:
    """The parts of the rollouts' room."""

    controller: RolloutController
    operations: AppRollouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What rollouts stand on. ``database`` is fenced."""

    database: Database
    apps: Apps
    observer: Observer
    entering: Entering
    telemetry: Telemetry
    metric_sources: MetricSources
    clock: Callable[[], float]


def build_rollouts(grounds: Grounds) -> Rolling:
    """Make each part; nothing runs yet."""
    sources = Sources(
        telemetry=grounds.telemetry,
        queries=_Queries(grounds.metric_sources),
        checks=_Checks(grounds.apps.operations, grounds.entering),
        endings=_Endings(grounds.observer),
    )
    store = RolloutStore(grounds.database)
    controller = RolloutController(
        Around(
            store=store,
            shifts=grounds.apps.shifts,
            apps=grounds.apps.operations,
            analyst=Analyst(sources),
            clock=grounds.clock,
        )
    )
    return Rolling(
        controller=controller,
        operations=AppRollouts(store, grounds.apps.operations, controller, clock=grounds.clock),
    )


class _Queries:
    """Asks metric sources. Implements ``analysis.ports.Queries``."""

    def __init__(self, sources: MetricSources) -> None:
        self._sources = sources

    async def value(self, source: str, query: str, *, at: float) -> float | None:
        """Return the one value of a query; what the server has now is that of ``at``, which is now."""
        del at
        try:
            return await self._sources.value(source, query)
        except NotMeasuredError:
            return None


class _Checks:
    """Asks tasks by way of their node's agent, as ``hunqi app port-forward`` does."""

    def __init__(self, apps: AppOperations, entering: Entering) -> None:
        self._apps = apps
        self._entering = entering

    async def get(self, app: str, service: str, revision: int, path: str) -> Answer:
        """Return the answer of one task. See ``analysis.ports.Checks``."""
        tasks = [
            each
            for each in await self._apps.views.tasks(app)
            if (each.service, each.revision, each.state) == (service, revision, "running")
        ]
        if not tasks:
            raise CheckError(f"no task of {service} of revision {revision} runs")
        spec = (await self._apps.revisions.find(app, revision)).spec.services[service]
        try:
            async with (
                asyncio.timeout(_CHECK_S),
                self._entering.forward(app, TaskRef(task=tasks[0].id), _port(spec)) as channel,
            ):
                request = f"GET {path} HTTP/1.1\r\nHost: {service}\r\nUser-Agent: hunqi\r\nConnection: close\r\n\r\n"
                await channel.send(request.encode("ascii"))
                received = b""
                while len(received) < _MOST_BYTES + _MOST_HEAD:
                    frame = await channel.receive()
                    if frame is None:
                        break
                    received += frame if isinstance(frame, bytes) else b""
                    if _is_whole(received):
                        break
        except TimeoutError as error:
            raise CheckError(f"a task of {service} did not answer GET {path} within {_CHECK_S:.0f} s") from error
        return _answer(received, service, path)


def _port(spec: ServiceSpec) -> int:
    ports = (spec.health.port, *(route.port for route in spec.routes), *spec.internal_ports)
    found = next((each for each in ports if each), None)
    if found is None:
        raise CheckError(f"{spec.name} has no HTTP port to be asked at: give it a route, or x-hunqi.health.port")
    return found


def _is_whole(received: bytes) -> bool:
    """Whether the answer is there, of a task that keeps the connection open all the same."""
    head, blank, body = received.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n")[1:] if blank else ():
        name, _, value = line.partition(b":")
        if name.strip() == b"content-length" and value.strip().isdigit():
            return len(body) >= int(value)
    return False


def _answer(received: bytes, service: str, path: str) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise CheckError(f"a task of {service} gave no HTTP answer to GET {path}")
    return Answer(status=int(words[1]), body=body[:_MOST_BYTES])


class _Endings:
    """Counts tasks in the last snapshot. Implements ``analysis.ports.Endings``."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    async def ended(self, app: str, service: str, revision: int, *, since: float) -> int:
        """Return how many tasks ended by themselves. See ``analysis.ports.Endings``."""
        snapshot = self._observer.snapshot
        found = snapshot.services.get(service_name(app, service, revision)) if snapshot is not None else None
        if snapshot is None or found is None:
            raise NotMeasuredError(f"{service} of revision {revision} is not seen")
        return sum(
            task.state in _BY_THEMSELVES and _seconds(task.updated_at) >= since
            for task in snapshot.tasks.get(found.id, ())
        )


def _seconds(moment: str) -> float:
    """Return the second of an engine's time, which may have nanoseconds."""
    whole, _, _ = moment.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() if whole else 0.0
