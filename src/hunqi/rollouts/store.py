"""Rollouts and their looks in the database. Each move is one transaction with the event that tells of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.apps.asked import Problem
from hunqi.apps.rollout_spec import RolloutSpec
from hunqi.apps.store import text_of
from hunqi.kit.codec import decode, dumps, encode, loads
from hunqi.rollouts.errors import RolloutNotFoundError, RolloutOvertakenError
from hunqi.rollouts.model import Course, Look, Rollout
from hunqi.rollouts.states import ENDS, State
from hunqi.rollouts.telling import told
from hunqi.state.database import Database
from hunqi.state.events import append
from hunqi.state.tables import ROLLOUT_LOOKS, ROLLOUTS

ACTOR: Final = "hunqi"
MOST_LOOKS: Final = 1000
"""Of a rollout; of more, every second one of the older half goes."""
MOST_ROLLOUTS: Final = 50
"""Of an app."""
_OPEN: Final = tuple(state.value for state in State if state not in ENDS)
_COLUMNS: Final = ROLLOUTS.c


class RolloutStore:
    """The tables of rollouts."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    async def add(self, rollout: Rollout) -> None:
        """Keep a new one, and let go of the oldest. One that is there already (of the same deploy) stays as it is."""
        async with self._database.begin() as connection:
            there = await connection.scalar(select(_COLUMNS.id).where(_COLUMNS.deploy == rollout.deploy))
            if there is not None:
                return
            values = _values(rollout) | {
                "id": rollout.id,
                "app": rollout.app,
                "deploy": rollout.deploy,
                "revision": rollout.revision,
                "stable": rollout.stable,
                "spec": dumps(rollout.spec),
                "actor": rollout.actor,
                "created_at": text_of(rollout.created_at),
            }
            await connection.execute(insert(ROLLOUTS).values(**values))
            await _tell(connection, None, rollout, rollout.actor)
            await _prune(connection, rollout.app)

    async def open(self) -> Sequence[Rollout]:
        """Return those of all apps that have not ended, by app."""
        query = select(ROLLOUTS).where(_COLUMNS.state.in_(_OPEN)).order_by(_COLUMNS.app, _COLUMNS.created_at)
        async with self._database.read() as connection:
            return [_rollout(row) for row in (await connection.execute(query)).mappings()]

    async def known(self, deploys: Sequence[str]) -> set[str]:
        """Return which of these deploys have a rollout."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(_COLUMNS.deploy).where(_COLUMNS.deploy.in_(deploys)))
            return set(rows.scalars())

    async def newest(self, app: str) -> Rollout:
        """Return an app's last one. Raises ``RolloutNotFoundError``."""
        async with self._database.read() as connection:
            return await _newest(connection, app)

    async def newest_of_all(self) -> Sequence[Rollout]:
        """Return each app's last one, by app."""
        last = select(func.max(_COLUMNS.id)).group_by(_COLUMNS.app)  # ids begin with the time
        query = select(ROLLOUTS).where(_COLUMNS.id.in_(last)).order_by(_COLUMNS.app)
        async with self._database.read() as connection:
            return [_rollout(row) for row in (await connection.execute(query)).mappings()]

    async def save(self, before: Rollout, after: Rollout, look: Look | None = None) -> None:
        """Keep a move. Raises ``RolloutOvertakenError`` if it is not as it was ``before`` any more."""
        async with self._database.begin() as connection:
            row = await _find(connection, before.id)
            if row is None or _values(_rollout(row)) != _values(before):
                raise RolloutOvertakenError(f"the rollout of {before.app} has moved on")
            await _write(connection, before, after, ACTOR)
            if look is not None:
                await _add_look(connection, after.id, look)

    async def change(self, app: str, act: Callable[[Rollout], Rollout], *, actor: str) -> Rollout:
        """Keep what ``act`` makes of an app's last one. Raises ``RolloutNotFoundError``, and what ``act`` raises."""
        async with self._database.begin() as connection:
            before = await _newest(connection, app)
            after = act(before)
            await _write(connection, before, after, actor)
        return after

    async def looks(self, rollout: str) -> Sequence[Look]:
        """Return what was seen, oldest first."""
        query = select(ROLLOUT_LOOKS).where(ROLLOUT_LOOKS.c.rollout == rollout).order_by(ROLLOUT_LOOKS.c.seq)
        async with self._database.read() as connection:
            return [_look(row) for row in (await connection.execute(query)).mappings()]


async def _find(connection: AsyncConnection, id_: str) -> RowMapping | None:
    return (await connection.execute(select(ROLLOUTS).where(_COLUMNS.id == id_))).mappings().first()


async def _newest(connection: AsyncConnection, app: str) -> Rollout:
    query = select(ROLLOUTS).where(_COLUMNS.app == app).order_by(_COLUMNS.id.desc()).limit(1)
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        raise RolloutNotFoundError(f"{app} has had no rollout yet: hunqi app deploy --rollout gray begins one")
    return _rollout(row)


async def _write(connection: AsyncConnection, before: Rollout, after: Rollout, actor: str) -> None:
    await connection.execute(update(ROLLOUTS).where(_COLUMNS.id == after.id).values(**_values(after)))
    await _tell(connection, before, after, actor)


async def _tell(connection: AsyncConnection, before: Rollout | None, after: Rollout, actor: str) -> None:
    event = told(before, after)
    if event is not None:
        await append(
            connection,
            event.kind,
            app=after.app,
            subject=after.id,
            actor=actor,
            reason=event.reason,
            data=event.data,
        )


async def _add_look(connection: AsyncConnection, rollout: str, look: Look) -> None:
    held = {key: value for key, value in encode(look).items() if key not in {"seq", "at"}}
    data = json.dumps(held, separators=(",", ":"), ensure_ascii=False)
    await connection.execute(insert(ROLLOUT_LOOKS).values(rollout=rollout, at=look.at, data=data))
    column = ROLLOUT_LOOKS.c
    count = await connection.scalar(select(func.count()).where(column.rollout == rollout)) or 0
    if count > MOST_LOOKS:
        older = select(column.seq).where(column.rollout == rollout).order_by(column.seq).limit(MOST_LOOKS // 2)
        gone = (await connection.execute(older)).scalars().all()[1::2]
        await connection.execute(delete(ROLLOUT_LOOKS).where(column.seq.in_(gone)))


async def _prune(connection: AsyncConnection, app: str) -> None:
    query = select(_COLUMNS.id).where(_COLUMNS.app == app).order_by(_COLUMNS.id.desc()).offset(MOST_ROLLOUTS)
    gone = (await connection.execute(query)).scalars().all()
    await connection.execute(delete(ROLLOUTS).where(_COLUMNS.id.in_(gone), _COLUMNS.state.not_in(_OPEN)))


def _values(rollout: Rollout) -> dict[str, Any]:
    return {
        "state": rollout.state.value,
        "progress": dumps(rollout.course),
        "problem": dumps(rollout.problem) if rollout.problem else None,
        "updated_at": text_of(rollout.updated_at),
        "finished_at": text_of(rollout.finished_at) if rollout.finished_at else None,
    }


def _rollout(row: RowMapping) -> Rollout:
    return Rollout(
        id=row["id"],
        app=row["app"],
        deploy=row["deploy"],
        revision=row["revision"],
        stable=row["stable"],
        state=State(row["state"]),
        spec=loads(RolloutSpec, row["spec"]),
        course=loads(Course, row["progress"]),
        problem=loads(Problem, row["problem"]) if row["problem"] else None,
        actor=row["actor"],
        created_at=datetime.fromisoformat(row["created_at"]),
        updated_at=datetime.fromisoformat(row["updated_at"]),
        finished_at=datetime.fromisoformat(row["finished_at"]) if row["finished_at"] else None,
    )


def _look(row: RowMapping) -> Look:
    return decode(Look, {"seq": row["seq"], "at": row["at"], **json.loads(row["data"])})
