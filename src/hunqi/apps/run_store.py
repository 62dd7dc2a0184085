"""Runs in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import RowMapping, insert, select, update

from hunqi.apps.errors import RunNotFoundError
from hunqi.apps.operations import Change, Run
from hunqi.apps.store import text_of
from hunqi.state.database import Database
from hunqi.state.events import append
from hunqi.state.tables import RUNS

OPEN: Final = ("pending", "running")


class RunStore:
    """The table of runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, run: Run, change: Change) -> None:
        """Keep a new run."""
        async with self._database.begin() as connection:
            await connection.execute(
                insert(RUNS).values(
                    id=run.id,
                    app=run.app,
                    service=run.service,
                    kind=run.kind,
                    state=run.state,
                    due_at=text_of(run.due_at) if run.due_at else None,
                    started_at=text_of(run.started_at) if run.started_at else None,
                    finished_at=text_of(run.finished_at) if run.finished_at else None,
                )
            )
            await append(
                connection,
                f"run.{run.state}",
                app=run.app,
                subject=run.id,
                actor=change.actor,
                reason=change.reason,
                data={"service": run.service, "kind": run.kind},
            )

    async def set(
        self, run: Run, state: str, *, at: datetime, actor: str, reason: str, exit_code: int | None = None
    ) -> None:
        """Bring a run that has not ended into ``state``."""
        values: dict[str, Any] = {"state": state, "exit_code": exit_code}
        values["started_at" if state == "running" else "finished_at"] = text_of(at)
        async with self._database.begin() as connection:
            changed = await connection.execute(
                update(RUNS).where(RUNS.c.id == run.id, RUNS.c.state.in_(OPEN)).values(**values)
            )
            if changed.rowcount:
                await append(
                    connection,
                    f"run.{state}",
                    app=run.app,
                    subject=run.id,
                    actor=actor,
                    reason=reason,
                    data={"service": run.service, "kind": run.kind, "exit_code": exit_code},
                )

    async def find(self, app: str, run: str) -> Run:
        """Return one. Raises ``RunNotFoundError``."""
        async with self._database.read() as connection:
            query = select(RUNS).where(RUNS.c.app == app, RUNS.c.id == run)
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise RunNotFoundError(f"{app} has no run {run[:40]!r}")
        return _run(row)

    async def newest(self, app: str, *, limit: int) -> Sequence[Run]:
        """Return runs of an app, newest first."""
        query = select(RUNS).where(RUNS.c.app == app).order_by(RUNS.c.id.desc()).limit(limit)
        async with self._database.read() as connection:
            return [_run(row) for row in (await connection.execute(query)).mappings()]

    async def open(self) -> Sequence[Run]:
        """Return the runs of all apps that have not ended."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(RUNS).where(RUNS.c.state.in_(OPEN)).order_by(RUNS.c.id))
            return [_run(row) for row in rows.mappings()]

    async def last_due(self, app: str, service: str) -> datetime | None:
        """Return when the last scheduled run of a service was due."""
        query = (
            select(RUNS.c.due_at)
            .where(RUNS.c.app == app, RUNS.c.service == service, RUNS.c.kind == "cron")
            .order_by(RUNS.c.due_at.desc())
            .limit(1)
        )
        async with self._database.read() as connection:
            text = await connection.scalar(query)
        return datetime.fromisoformat(text) if text else None


def _run(row: RowMapping) -> Run:
    def moment(key: str) -> datetime | None:
        return datetime.fromisoformat(row[key]) if row[key] else None

    return Run(
        id=row["id"],
        app=row["app"],
        service=row["service"],
        kind=row["kind"],
        state=row["state"],
        exit_code=row["exit_code"],
        due_at=moment("due_at"),
        started_at=moment("started_at"),
        finished_at=moment("finished_at"),
    )
