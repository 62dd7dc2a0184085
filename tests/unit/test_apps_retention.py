"""Old rows go, in time and in number; nothing goes that runs, that can be rolled back to, or that is reckoned from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from hunqi.apps.model import AppSpec, Grant, PayloadSpec
from hunqi.apps.operations import Run
from hunqi.apps.retention import Pruned, Pruning, Retention
from hunqi.apps.run_store import RunStore
from hunqi.apps.store import RETAINED
from hunqi.state.events import EventLog
from hunqi.state.tables import DEPLOYS, EVENTS, PAYLOADS, REVISIONS, RUNS
from support_apps import service, spec
from support_cluster import ANN, Cluster, cluster

KEEP = Retention(revisions=3, deploys=4, deploy_days=10, runs=3, run_days=10, event_days=30)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncGenerator[Cluster]:
    async with cluster(tmp_path) as made:
        made.build()
        yield made


def with_secret(value: bytes) -> tuple[AppSpec, dict[str, bytes]]:
    digest = hashlib.sha256(value).hexdigest()
    worker = service("worker", secrets=(Grant(source="key", target="key"),))
    return spec(worker, secrets={"key": PayloadSpec(name="key", digest=digest)}), {digest: value}


async def prune(room: Cluster, *, days: int = 0, keep: Retention = KEEP) -> Pruned:
    return await Pruning(room.database, keep, clock=lambda: time.time() + days * 86400).prune()


async def count(room: Cluster, table: object) -> int:
    async with room.database.read() as connection:
        return await connection.scalar(select(func.count()).select_from(table)) or 0  # type: ignore[arg-type]


async def test_revisions_beyond_the_retained_ones_go_with_their_secrets_and_those_that_run_stay(room: Cluster) -> None:
    async with room.running():
        made, payloads = with_secret(b"first")
        first = await room.release(made, payloads=payloads)
        await room.ended("shop", first)
    room.build()
    for number in range(RETAINED + 4):
        made, payloads = with_secret(b"%d" % number)
        await room.release(made, payloads=payloads)

    pruned = await prune(room)

    history = await room.apps.operations.revisions.history("shop")
    numbers = [each.number for each in history]
    assert numbers == [*range(RETAINED + 5, 5, -1), 1], "the retained ones, and the one that serves"
    assert (pruned.revisions, pruned.payloads) == (4, 4)
    assert await count(room, PAYLOADS) == RETAINED + 1
    assert await prune(room) == Pruned(), "nothing is left to go"


async def test_ended_deploys_go_by_number_and_by_age_and_the_one_under_way_and_the_newest_stay(room: Cluster) -> None:
    for number in range(8):
        made, payloads = with_secret(b"%d" % number)
        await room.release(made, payloads=payloads)
    assert (await prune(room)).deploys == 3
    assert await count(room, DEPLOYS) == 5, "four that have ended, and the one under way"
    assert (await prune(room, days=11)).deploys == 3
    assert await count(room, DEPLOYS) == 2


async def test_runs_go_but_for_the_last_of_each_schedule_and_those_that_have_not_ended(room: Cluster) -> None:
    await room.release(spec(service("worker")))
    runs, then = RunStore(room.database), datetime.now(UTC) - timedelta(days=5)
    kinds = [("nightly", "cron"), ("nightly", "cron"), *[("worker", "command")] * 5]
    for index, (name, kind) in enumerate(kinds):
        run = Run(
            id=f"{index:04}",
            app="shop",
            service=name,
            kind=kind,
            state="pending",
            exit_code=None,
            due_at=then if kind == "cron" else None,
            started_at=None,
            finished_at=None,
        )
        await runs.add(run, ANN)
        if index < 6:
            await runs.set(run, "succeeded", at=then, actor="ann", reason="")
    assert (await prune(room)).runs == 2
    async with room.database.read() as connection:
        left = list((await connection.execute(select(RUNS.c.id).order_by(RUNS.c.id))).scalars())
    assert left == ["0001", "0003", "0004", "0005", "0006"], "three that have ended, the last nightly one, the open one"
    assert (await prune(room, days=6)).runs == 3
    assert await runs.last_due("shop", "nightly") is not None


async def test_events_are_kept_for_the_days_that_were_chosen(room: Cluster) -> None:
    await room.release(spec(service("worker")))
    async with room.database.begin() as connection:
        await connection.execute(update(EVENTS).where(EVENTS.c.seq == 1).values(at="2020-01-01T00:00:00.000Z"))
    there = await count(room, EVENTS)
    assert (await prune(room)).events == 1
    assert len(await EventLog(room.database).read()) == there - 1
    assert await count(room, REVISIONS) == 1
