"""Commands, scheduled jobs and logs of apps, on the engine's fake."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hunqi.apps.errors import RunNotFoundError, ServiceNotFoundError
from hunqi.apps.model import Condition, Dependency, DeployState, Mode
from hunqi.apps.operations import LogQuery, Run, RunRequest
from hunqi.apps.schedules import ScheduleError, last_due, next_due
from hunqi.engine.fake.behaviour import Behaviour
from support_apps import IMAGE, service, spec, web
from support_cluster import ANN, Cluster, cluster

JOB = IMAGE.format(name="job", digest=f"{1:064x}")
EVERY_MINUTE = "* * * * *"


@pytest.fixture
async def room(tmp_path: Path) -> AsyncGenerator[Cluster]:
    async with cluster(tmp_path) as made, made.running():
        yield made


async def ended(room: Cluster, run: Run) -> Run:
    found: list[Run] = []

    async def done() -> bool:
        found[:] = [await room.apps.operations.runs.find("shop", run.id)]
        return found[0].state not in {"pending", "running"}

    await room.until(done)
    return found[0]


async def test_command_runs_once_beside_the_service_and_its_lines_stay(room: Cluster) -> None:
    room.swarm.behave(JOB, Behaviour(exit_code=3, lines=("counting", "done")))
    await room.deployed(spec(service("job", replicas=0), web()))
    runs = room.apps.operations.runs
    request = RunRequest(service="job", command=("count", "--all"), environment={"MODE": "slow"})

    run = await runs.run("shop", request, ANN)
    [made] = await room.engine.services.list({"io.hunqi.kind": "run"})
    container = made.spec["TaskTemplate"]["ContainerSpec"]
    assert container["Args"] == ["count", "--all"]
    assert container["Env"] == ["MODE=slow"]
    assert "Aliases" not in made.spec["TaskTemplate"]["Networks"][0]

    run = await ended(room, run)
    assert (run.state, run.exit_code, run.kind) == ("failed", 3, "run")
    async with runs.logs("shop", run.id, follow=False) as lines:
        assert [line.text async for line in lines] == ["counting", "done"]
    assert await room.names() == {"shop_job-r1", "shop_web-r1"}
    assert (await room.store.find("shop")).app.live == 1


async def test_command_can_be_stopped_and_unknown_ones_are_named(room: Cluster) -> None:
    await room.deployed(spec(service("job")))
    runs = room.apps.operations.runs
    run = await runs.run("shop", RunRequest(service="job", command=("sleep", "1000")), ANN)
    assert (await runs.stop("shop", run.id, ANN)).state == "cancelled"
    with pytest.raises(RunNotFoundError):
        await runs.find("shop", "nothing")
    with pytest.raises(ServiceNotFoundError):
        await runs.run("shop", RunRequest(service="nobody"), ANN)


async def test_command_that_takes_too_long_is_ended(room: Cluster) -> None:
    await room.deployed(spec(service("job")))
    run = await room.apps.operations.runs.run("shop", RunRequest(service="job", timeout_s=0.1), ANN)
    assert (await ended(room, run)).state == "failed"


async def test_scheduled_job_runs_when_it_is_due_and_never_twice_at_once(room: Cluster) -> None:
    await room.deployed(spec(service("job", schedule=EVERY_MINUTE), web()))
    assert await room.names() == {"shop_web-r1"}
    view = await room.apps.operations.views.show("shop")
    assert view.services[0].next_run is not None
    parts = room.apps.runs._parts
    now = parts.clock()
    moved = room.apps.runs
    object.__setattr__(parts, "clock", lambda: now + 60)

    async def states() -> list[str]:
        return [run.state for run in await room.apps.operations.runs.runs("shop")]

    async def one_runs() -> bool:
        return await states() == ["running"]

    await room.until(one_runs)
    object.__setattr__(parts, "clock", lambda: now + 120)
    await moved.look()
    assert await states() == ["skipped", "running"]


async def test_run_is_lost_only_when_a_fresh_look_does_not_find_it(room: Cluster) -> None:
    await room.deployed(spec(service("job")))
    runs = room.apps.operations.runs
    run = await runs.run("shop", RunRequest(service="job", command=("sleep", "1000")), ANN)
    seen = await room.apps.runs._parts.watched.snapshot(fresh="shop")
    parts = room.apps.runs._parts
    later = parts.clock() + 61
    object.__setattr__(parts, "clock", lambda: later)

    stale = replace(seen, services={})
    await room.apps.runs._see(run, stale)
    assert (await runs.find("shop", run.id)).state == "running"

    [made] = await room.engine.services.list({"io.hunqi.kind": "run"})
    await room.engine.services.remove(made.id)
    await room.apps.runs._see(run, stale)
    assert (await runs.find("shop", run.id)).state == "failed"


async def test_job_that_others_wait_for_is_done_before_they_start(room: Cluster) -> None:
    room.swarm.behave(JOB, Behaviour(exit_code=0, run_s=0.2))
    needs = (Dependency(service="job", condition=Condition.COMPLETED),)
    made = spec(web(depends_on=needs), service("job", mode=Mode.REPLICATED_JOB))

    assert (await room.ended("shop", await room.release(made))).state is DeployState.SUCCEEDED
    jobs = await room.engine.services.list({"io.hunqi.service": "job"})
    webs = await room.engine.services.list({"io.hunqi.service": "web"})
    assert jobs[0].version < webs[0].version


async def test_job_that_fails_fails_the_deploy(room: Cluster) -> None:
    room.swarm.behave(JOB, Behaviour(exit_code=9, lines=("no database",)))
    needs = (Dependency(service="job", condition=Condition.COMPLETED),)
    once = {"RestartPolicy": {"Condition": "none"}}
    made = spec(web(depends_on=needs), service("job", mode=Mode.REPLICATED_JOB, template=once))

    deploy = await room.ended("shop", await room.release(made))

    assert deploy.problem is not None
    assert (deploy.problem.service, deploy.problem.exit_code, deploy.problem.log) == ("job", 9, ("no database",))
    assert "shop_web-r1" not in await room.names()


async def test_logs_follow_all_services_those_that_come_later_too(room: Cluster) -> None:
    room.swarm.behave(IMAGE.format(name="web", digest=f"{1:064x}"), Behaviour(lines=("old",)))
    await room.deployed(spec(web(replicas=1)))
    [task] = await room.apps.operations.views.tasks("shop")
    async with room.apps.operations.logs.open("shop", LogQuery(follow=True)) as lines:
        first = await anext(lines)
        assert (first.text, first.service, first.node) == ("old", "web", "node1")
        room.swarm.write_line(task.id, "new")
        assert (await anext(lines)).text == "new"
        room.swarm.behave(IMAGE.format(name="web", digest=f"{2:064x}"), Behaviour(lines=("newer",)))
        await room.deployed(spec(web(version=2, replicas=1)))
        assert (await anext(lines)).text == "newer"


def test_schedules_are_read_and_refused() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert next_due("0 4 * * *", noon) == datetime(2026, 1, 2, 4, tzinfo=UTC)
    assert last_due("*/5 * * * *", noon, noon + timedelta(minutes=12)) == (noon + timedelta(minutes=10), 2)
    assert last_due("0 4 * * *", noon, noon + timedelta(hours=1)) == (None, 0)
    assert last_due(EVERY_MINUTE, noon, noon + timedelta(days=400))[0] == noon + timedelta(days=400)
    with pytest.raises(ScheduleError):
        next_due("often", noon)
