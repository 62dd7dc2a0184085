"""Sizes that load asks for, on the engine's fake: persisted, told, held to quotas, down to none and back."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import update

from hunqi.apps.errors import QuotaError, ScaleError, ServiceNotFoundError
from hunqi.apps.model import DeployState
from hunqi.apps.sizing import Sized
from hunqi.apps.transitions import OvertakenError
from hunqi.state.events import EventLog
from hunqi.state.tables import TEAMS
from support_apps import service, spec, web
from support_cluster import ANN, Cluster, cluster


@pytest.fixture
async def room(tmp_path: Path) -> AsyncGenerator[Cluster]:
    async with cluster(tmp_path) as made, made.running():
        await made.deployed(spec(web(), service("worker")))
        yield made


async def sized(room: Cluster, name: str = "web") -> Sized:
    found = await room.apps.sizes.find("shop")
    assert found is not None
    return next(each for each in found.services if each.service == name)


async def ask(room: Cluster, replicas: int, name: str = "web", **more: int) -> None:
    await room.apps.sizes.set("shop", name, replicas, sentence=f"{replicas} for the load", **more)


async def test_what_is_asked_for_is_brought_about_told_and_seen(room: Cluster) -> None:
    await ask(room, 4)
    await ask(room, 4)
    await room.until(lambda: ready(room, 4))

    found = await sized(room)
    assert (found.wanted, found.auto, found.given, found.name, found.coming) == (4, 4, 2, "shop_web-r1", None)
    assert {(task.name, task.pending, task.ready) for task in found.tasks} == {("shop_web-r1", False, True)}
    assert all(task.since > 0 for task in found.tasks)
    events = [each for each in await EventLog(room.database).read(after=0, limit=500) if "autoscaled" in each.kind]
    assert [(each.subject, each.reason) for each in events] == [("web", "4 for the load")]
    await room.apps.sizes.clear("shop", "web")
    await room.until(lambda: ready(room, 2))


async def ready(room: Cluster, number: int) -> bool:
    found = await sized(room)
    return found.ready == number == len(found.tasks)


async def test_service_sleeps_with_its_routes_in_place_and_a_deploy_wakes_it(room: Cluster) -> None:
    await ask(room, 0)

    async def asleep() -> bool:
        return (await sized(room)).tasks == () and "web" not in room.routing.force["shop"].shares

    await room.until(asleep)
    assert room.routing.force["shop"].spec.services["web"].routes
    view = await room.apps.operations.views.show("shop")
    assert view.state == "running"
    assert view.services[0].sentence == "asleep: starts with the first request"
    await ask(room, 1)
    await room.until(lambda: ready(room, 1))
    assert [share.backend for share in room.routing.force["shop"].shares["web"]] == ["shop_web-r1"]

    await ask(room, 0)
    await room.until(asleep)
    deploy = await room.ended("shop", await room.release(spec(web(version=2), service("worker"))))
    assert deploy.state is DeployState.SUCCEEDED
    assert (await sized(room)).auto == 1
    await room.until(lambda: ready(room, 1))


async def test_what_cannot_be_or_comes_too_late_is_refused(room: Cluster) -> None:
    before = await room.apps.sizes.find("shop")
    assert before is not None
    await ask(room, 3, generation=before.generation)
    with pytest.raises(OvertakenError):
        await ask(room, 4, generation=before.generation)
    with pytest.raises(ServiceNotFoundError):
        await ask(room, 1, "nobody")
    with pytest.raises(ScaleError):
        await ask(room, 100_000)
    with pytest.raises(ScaleError, match="hunqi app autoscale"):
        await room.apps.operations.lifecycle.scale("shop", {"web": 5}, ANN)
    async with room.database.begin() as connection:
        await connection.execute(update(TEAMS).where(TEAMS.c.id == "t1").values(quota=json.dumps({"replicas": 3})))
    with pytest.raises(QuotaError, match="5 of 3 replicas"):
        await ask(room, 4)
    await ask(room, 2)
    await room.apps.operations.lifecycle.stop("shop", ANN)
    found = await room.apps.sizes.apps()
    assert [(each.name, each.running) for each in found] == [("shop", False)]
