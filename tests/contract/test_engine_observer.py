"""The observer, over Docker and over the fake: what happens is seen soon, and a daemon that is away is said to be."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterable, Mapping

import pytest

from hunqi.engine.client import Docker
from hunqi.engine.errors import EngineUnreachableError
from hunqi.engine.fake.behaviour import Behaviour
from hunqi.engine.fake.services import FakeTasks
from hunqi.engine.fake.swarm import FakeSwarm
from hunqi.engine.model import LABEL_APP, LABEL_CLUSTER, Snapshot, Task, TaskState
from hunqi.engine.observer import Observer, Timings
from hunqi.engine.ports import WatchedEngine
from support_engine import FAILS, LABELS, WAIT_S, engine, spec
from testbed.sample import SAMPLE

__all__ = ["engine"]


@contextlib.asynccontextmanager
async def observing(engine: WatchedEngine, timings: Timings | None = None) -> AsyncGenerator[Observer]:
    observer = Observer(engine, cluster=LABELS[LABEL_CLUSTER], timings=timings)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(observer.run())
        yield observer
        task.cancel()


async def seen(observer: Observer, look: object, timeout_s: float = WAIT_S) -> Snapshot:
    """Wait for a snapshot on which ``look`` is true."""
    assert callable(look)
    async with asyncio.timeout(timeout_s):
        async for snapshot in observer.follow():
            if look(snapshot):
                return snapshot
    raise AssertionError


async def test_only_what_is_ours_is_seen_and_all_of_it(engine: WatchedEngine) -> None:
    await engine.services.create(spec("shop_web-r1", replicas=2))
    await engine.services.create({**spec("theirs", replicas=0), "Labels": {}})
    await engine.networks.create("shop_default", labels=LABELS)
    await engine.networks.create("theirs_default")
    await engine.secrets.create("shop_key-1", b"x", labels=LABELS)
    await engine.configs.create("shop_conf-1", b"x", labels=LABELS)
    async with observing(engine) as observer:
        assert observer.snapshot is None
        assert observer.stale
        snapshot = await seen(observer, lambda s: sum(t.serving for t in s.tasks_of("shop_web-r1")) == 2)
        assert not observer.stale
    assert [*snapshot.services] == ["shop_web-r1"]
    assert [*snapshot.networks] == ["shop_default"]
    assert [*snapshot.secrets] == ["shop_key-1"]
    assert [*snapshot.configs] == ["shop_conf-1"]
    assert snapshot.secrets["shop_key-1"].data is None
    assert len(snapshot.nodes) == 1


async def test_what_happens_is_seen_without_being_asked_for(engine: WatchedEngine) -> None:
    async with observing(engine) as observer:
        await seen(observer, lambda s: s.nodes)
        id_ = await engine.services.create(spec("shop_web-r1"))
        await seen(observer, lambda s: any(t.serving for t in s.tasks_of("shop_web-r1")))
        await engine.networks.create("shop_more", labels=LABELS)
        await engine.configs.create("shop_conf-2", b"x", labels=LABELS)
        await seen(observer, lambda s: "shop_more" in s.networks and "shop_conf-2" in s.configs)
        await seen(observer, lambda s: s.networks["shop_more"].subnets)
        await engine.services.remove(id_)
        await engine.networks.remove("shop_more")
        await engine.configs.remove("shop_conf-2")
        await seen(observer, lambda s: not s.services and not s.networks and not s.configs and not s.tasks)


async def test_a_task_that_fails_again_and_again_is_followed(engine: WatchedEngine) -> None:
    async with observing(engine) as observer:
        await engine.services.create(spec("shop_fails-r1", FAILS, RestartPolicy={"Delay": 100_000_000}))
        snapshot = await seen(
            observer, lambda s: sum(t.state is TaskState.FAILED for t in s.tasks_of("shop_fails-r1")) > 1
        )
        newest, *older = snapshot.tasks_of("shop_fails-r1")
        assert all(newest.created_at >= task.created_at for task in older)


async def test_a_refresh_sees_what_was_done_before_it(engine: WatchedEngine) -> None:
    observer = Observer(engine, cluster=LABELS[LABEL_CLUSTER])
    await engine.services.create({**spec("shop_web-r1", replicas=0), "Labels": {**LABELS, LABEL_APP: "shop"}})
    assert [*(await observer.refresh()).services] == ["shop_web-r1"]
    await engine.services.create({**spec("shop_db-r1", replicas=0), "Labels": {**LABELS, LABEL_APP: "shop"}})
    await engine.services.create({**spec("blog_web-r1", replicas=0), "Labels": {**LABELS, LABEL_APP: "blog"}})
    assert {*(await observer.refresh(app="shop")).services} == {"shop_web-r1", "shop_db-r1"}
    await engine.services.remove("shop_web-r1")
    assert {*(await observer.refresh(app="shop")).services} == {"shop_db-r1"}
    assert {*(await observer.refresh()).services} == {"shop_db-r1", "blog_web-r1"}


async def test_while_docker_is_away_the_last_snapshot_stays_and_says_so() -> None:
    swarm = FakeSwarm()
    async with observing(swarm) as observer:
        await swarm.services.create(spec("shop_web-r1"))
        await seen(observer, lambda s: s.tasks_of("shop_web-r1"))
        swarm.go_away()
        async with asyncio.timeout(WAIT_S):
            while not observer.stale:
                await observer.changed(observer.version)
        assert observer.snapshot
        assert [*observer.snapshot.services] == ["shop_web-r1"]
        swarm.come_back()
        await swarm.services.create(spec("shop_db-r1"))
        swarm.go_away()
        await asyncio.sleep(0.3)
        swarm.come_back()
        await seen(observer, lambda s: "shop_db-r1" in s.services)
        async with asyncio.timeout(WAIT_S):
            while observer.stale:
                await observer.changed(observer.version)


async def test_a_task_that_dies_where_no_event_tells_of_it_is_seen_by_the_round() -> None:
    swarm = FakeSwarm(nodes=3)
    async with observing(swarm) as observer:
        await swarm.services.create(spec("shop_web-r1", replicas=3))
        snapshot = await seen(observer, lambda s: sum(t.serving for t in s.tasks_of("shop_web-r1")) == 3)
        victim = snapshot.tasks_of("shop_web-r1")[0]
        swarm.end_task(victim.id)
        await seen(observer, lambda s: all(not t.serving for t in s.tasks_of("shop_web-r1") if t.id == victim.id), 5.0)


async def test_a_lost_node_and_the_replacements_of_its_tasks_are_seen() -> None:
    swarm = FakeSwarm(nodes=3)
    async with observing(swarm) as observer:
        await swarm.services.create(spec("shop_web-r1", replicas=3))
        await seen(observer, lambda s: sum(t.serving for t in s.tasks_of("shop_web-r1")) == 3)
        lost = (await swarm.nodes.inspect("node3")).id
        swarm.lose_node("node3")
        snapshot = await seen(
            observer,
            lambda s: s.nodes[lost].state == "down" and sum(t.serving for t in s.tasks_of("shop_web-r1")) == 3,
            5.0,
        )
        assert {t.node_id for t in snapshot.tasks_of("shop_web-r1") if t.serving}.isdisjoint({lost})


async def test_tasks_of_a_removed_service_are_seen_until_they_have_stopped() -> None:
    swarm = FakeSwarm()
    swarm.behave(SAMPLE, Behaviour(stop_s=0.5))
    async with observing(swarm) as observer:
        id_ = await swarm.services.create(spec("shop_web-r1"))
        await seen(observer, lambda s: s.tasks_of("shop_web-r1"))
        await swarm.services.remove(id_)
        await seen(observer, lambda s: not s.services and id_ in s.tasks)
        await seen(observer, lambda s: not s.tasks, 5.0)


async def test_of_a_thousand_services_only_what_changed_is_looked_at() -> None:
    swarm = FakeSwarm(nodes=20)
    for number in range(1000):
        await swarm.services.create(spec(f"app{number}_web-r1", replicas=3))
    async with observing(swarm) as observer:
        await seen(observer, lambda s: len(s.services) == 1000 and all(s.tasks.values()))
        before, began = swarm.calls, time.monotonic()
        await swarm.services.create(spec("shop_web-r1"))
        await seen(observer, lambda s: s.tasks_of("shop_web-r1"))
        calls, took_s = swarm.calls - before, time.monotonic() - began
        assert took_s < 2.0
        # Four for the new service, and what the slow round asks for meanwhile, ten times a second at most.
        assert calls <= 8 + 10 * took_s, calls


async def test_a_daemon_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(EngineUnreachableError, match="is it running"):
        await Docker("/nowhere/docker.sock").__aenter__()


class StallingTasks(FakeTasks):
    """Tasks whose list does not answer while ``stalled``, as when the Swarm has no leader."""

    stalled = False

    async def list(
        self,
        labels: Mapping[str, str] | None = None,
        *,
        services: Iterable[str] | None = None,
        nodes: Iterable[str] | None = None,
        ids: Iterable[str] | None = None,
        desired: Iterable[str] | None = None,
    ) -> list[Task]:
        if self.stalled:
            await asyncio.sleep(30.0)
        return await super().list(labels, services=services, nodes=nodes, ids=ids, desired=desired)


async def test_calls_that_do_not_answer_are_given_up_and_do_not_hold_later_ones_back() -> None:
    swarm = FakeSwarm(nodes=2)
    swarm.behave(SAMPLE, Behaviour(start_s=0.05))
    tasks = StallingTasks(swarm.world, swarm.reach)
    swarm.tasks = tasks
    async with observing(swarm, Timings(look_s=1.0)) as observer:
        await swarm.services.create(spec("shop_web-r1"))
        snapshot = await seen(observer, lambda s: any(t.serving for t in s.tasks_of("shop_web-r1")))
        (victim,) = snapshot.tasks_of("shop_web-r1")
        tasks.stalled = True
        async with asyncio.timeout(WAIT_S):
            while not observer.stale:
                await observer.changed(observer.version)
        assert "1 s" in observer.problem
        swarm.end_task(victim.id)
        tasks.stalled = False
        began = time.monotonic()
        await seen(observer, lambda s: all(not t.serving for t in s.tasks_of("shop_web-r1") if t.id == victim.id))
        # A look that is under way is given up after a second; the pause after it is of a fraction of one.
        assert time.monotonic() - began < 5.0
        assert not observer.stale
