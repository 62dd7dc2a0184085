"""The platform as this control process sees it, for the API."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from hunqi.api.ports import BackupMade, PartStatus, PlatformStatus
from hunqi.apps.compose.schema import x_hunqi_schema
from hunqi.apps.operations import Change, Views
from hunqi.control.leading import Leading
from hunqi.engine.observer import Observer
from hunqi.errors import HunqiError
from hunqi.gateway.publisher import Publisher
from hunqi.nodes.fit import quorum_warnings
from hunqi.nodes.roster import Rosters
from hunqi.state.backup import back_up
from hunqi.state.database import Database
from hunqi.state.events import append

_log: Final = logging.getLogger(__name__)


class PlatformView:
    """What is up, and what is wrong."""

    def __init__(
        self,
        cluster: str,
        database: Database,
        database_url: str,
        observer: Observer,
        publisher: Publisher,
        rosters: Rosters,
        views: Views,
        leading: Leading,
        *,
        backup_dir: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._database = database
        self._database_url = database_url
        self._observer = observer
        self._publisher = publisher
        self._rosters = rosters
        self._views = views
        self._leading = leading
        self._backup_dir = backup_dir
        self._clock = clock

    async def status(self) -> PlatformStatus:
        """Return what is up."""
        snapshot = self._observer.snapshot
        nodes = list(snapshot.nodes.values()) if snapshot else []
        apps = await self._views.list()
        parts = [self._docker(), *self._engines(), *self._gateways()]
        problems = [*quorum_warnings(nodes), *(f"{part.name}: {part.sentence}" for part in parts if part.sentence)]
        return PlatformStatus(
            cluster=self._cluster,
            version=version("hunqi"),
            leader=self._leading.address or self._leading.machine,
            leading=self._leading.leading,
            nodes=len(nodes),
            nodes_ready=sum(each.ready for each in nodes),
            apps=len(apps),
            parts=tuple(parts),
            problems=tuple(problems),
        )

    async def is_ready(self) -> bool:
        """Whether the database and Docker are there, and somebody leads or will soon: reads are answered meanwhile."""
        try:
            async with self._database.read():
                pass
        except HunqiError:
            return False
        return self._observer.snapshot is not None and not self._observer.stale and self._leading.was_seen

    async def back_up(self, change: Change) -> BackupMade:
        """Copy the database now. Raises ``BackupFailedError``."""
        at = self._clock()
        self._backup_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = self._backup_dir / f"control-{at:%Y%m%d-%H%M%S}.db"
        size = await back_up(self._database_url, target)
        async with self._database.begin() as connection:
            await append(
                connection, "platform.backed-up", actor=change.actor, reason=change.reason, subject=target.name
            )
        return BackupMade(path=str(target), size_bytes=size, at=at)

    def x_hunqi_schema(self) -> Mapping[str, Any]:
        """Return the JSON Schema of ``x-hunqi``."""
        return x_hunqi_schema()

    def _docker(self) -> PartStatus:
        problem = self._observer.problem
        return PartStatus(name="docker", state="degraded" if problem else "up", sentence=problem)

    def _engines(self) -> list[PartStatus]:
        """Return the engines of machines that their agents find stuck."""
        found: list[PartStatus] = []
        for member in self._rosters.current().members:
            status = self._rosters.status(member.node)
            if status is not None and status.engine:
                found.append(PartStatus(name=f"docker {member.name}", state="degraded", sentence=status.engine))
        return found

    def _gateways(self) -> list[PartStatus]:
        reports = self._publisher.reports()
        found: list[PartStatus] = []
        for member in self._rosters.current().members:
            report = reports.get(member.node)
            name = f"gateway {member.name}"
            if report is None or not report.running:
                why = report.problem if report and report.problem else "it was not heard of in the last seconds"
                found.append(PartStatus(name=name, state="down", sentence=why))
            else:
                found.append(
                    PartStatus(name=name, state="degraded" if report.problem else "up", sentence=report.problem)
                )
        return found
