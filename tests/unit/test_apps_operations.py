"""What the API calls, on the engine's fake: Compose files in, views and events out."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import update

from hunqi.apps.errors import (
    AppNameError,
    AppNotFoundError,
    DeployEndedError,
    ImageError,
    PrivilegeError,
    QuotaError,
    RevisionNotFoundError,
    RoomError,
    RouteFaultError,
    RouteOfFileError,
    RouteTakenError,
    ScaleError,
    SecretInUseError,
    ServiceNotFoundError,
    TeamNeededError,
)
from hunqi.apps.limits import Limits
from hunqi.apps.model import AppSpec, DeployState, RouteSpec, ServiceSpec
from hunqi.apps.operations import Change, Deploy, Replacing, Submission
from hunqi.apps.store import AppStore
from hunqi.engine.fake.behaviour import Behaviour
from hunqi.state.events import EventLog
from hunqi.state.tables import TEAMS
from support_cluster import ANN, Cluster, cluster
from support_routing import pinned

FILE = """\
services:
  web:
    image: nginx:1
    x-hunqi:
      routes:
        - host: www.example.com
          port: 8080
  worker:
    image: worker:1
    environment:
      MODE: fast
"""


@pytest.fixture
async def room(tmp_path: Path) -> AsyncGenerator[Cluster]:
    async with cluster(tmp_path) as made, made.running():
        yield made


def submission(text: str = FILE, **more: object) -> Submission:
    given: dict[str, object] = {"team": "t1", **more}
    return Submission(files={"compose.yaml": text}, entry=("compose.yaml",), **given)  # type: ignore[arg-type]


async def deploy(room: Cluster, text: str = FILE, app: str = "shop", **more: object) -> Deploy:
    made = await room.apps.operations.deploys.deploy(app, submission(text, **more), ANN)
    return await room.ended(app, made.id)


async def quota(room: Cluster, **limits: float) -> None:
    async with room.database.begin() as connection:
        await connection.execute(update(TEAMS).where(TEAMS.c.id == "t1").values(quota=json.dumps(limits)))


async def test_compose_file_is_deployed_with_its_images_pinned(room: Cluster) -> None:
    assert (await deploy(room)).state is DeployState.SUCCEEDED

    view = await room.apps.operations.views.show("shop")
    assert [each.image for each in view.services] == [pinned("nginx:1"), pinned("worker:1")]
    made = await room.engine.services.inspect("shop_web-r1")
    assert made.spec["TaskTemplate"]["ContainerSpec"]["Image"] == pinned("nginx:1")
    assert room.swarm.services.logins[made.id] is not None


async def test_check_says_what_a_deploy_would_do_and_changes_nothing(room: Cluster) -> None:
    await deploy(room)
    checked = await room.apps.operations.deploys.check("shop", submission(FILE.replace("nginx:1", "nginx:2")))

    assert [(each.service, each.kind) for each in checked.changes] == [("web", "changed"), ("worker", "kept")]
    assert checked.changes[0].why == "its image is another"
    assert len(await room.apps.operations.deploys.deploys("shop")) == 1


async def test_rollback_downloads_nothing_and_brings_the_old_spec_back(room: Cluster) -> None:
    await deploy(room)
    await deploy(room, FILE.replace("nginx:1", "nginx:2"))
    room.images.asked.clear()

    back = await room.apps.operations.deploys.rollback("shop", 1, Change(actor="ann"))
    assert (await room.ended("shop", back.id)).state is DeployState.SUCCEEDED

    assert room.images.asked == []
    assert back.reason == "back to revision 1"
    history = await room.apps.operations.revisions.history("shop")
    assert [(each.number, each.live) for each in history] == [(3, True), (2, False), (1, False)]
    assert await room.apps.operations.revisions.diff("shop", 1, 3) == []
    [image] = await room.apps.operations.revisions.diff("shop", 1, 2)
    assert (image.path, image.after) == ("services.web.image", pinned("nginx:2"))


async def test_revisions_beyond_the_retained_ones_cannot_be_rolled_back_to(room: Cluster) -> None:
    deploys = room.apps.operations.deploys
    for version in range(1, 13):
        made = await deploys.deploy("shop", submission(FILE.replace("nginx:1", f"nginx:{version}")), ANN)
    await room.ended("shop", made.id)
    with pytest.raises(RevisionNotFoundError):
        await room.apps.operations.deploys.rollback("shop", 1, ANN)
    history = await room.apps.operations.revisions.history("shop")
    assert [each.number for each in history if each.retained] == list(range(12, 2, -1))


async def test_names_images_teams_and_services_that_are_not_there(room: Cluster) -> None:
    deploys = room.apps.operations.deploys
    with pytest.raises(AppNameError):
        await deploys.deploy("Shop_1", submission(), ANN)
    with pytest.raises(TeamNeededError):
        await deploys.deploy("shop", submission(team=None), ANN)
    room.images.missing.add("nginx:1")
    with pytest.raises(ImageError):
        await deploys.deploy("shop", submission(), ANN)
    with pytest.raises(AppNotFoundError):
        await room.apps.operations.views.show("shop")
    with pytest.raises(AppNotFoundError):
        await deploys.deploys("shop")


async def test_scale_holds_until_the_file_says_another_number(room: Cluster) -> None:
    await deploy(room)
    lifecycle = room.apps.operations.lifecycle
    await lifecycle.scale("shop", {"worker": 3}, ANN)

    async def replicas(wanted: int) -> bool:
        services = await room.engine.services.list({"io.hunqi.service": "worker"})
        return [service.replicas for service in services] == [wanted]

    await room.until(lambda: replicas(3))
    await deploy(room, FILE.replace("worker:1", "worker:2"))
    assert await replicas(3)
    await deploy(room, FILE.replace("worker:1", "worker:2\n    deploy: {replicas: 2}"))
    assert await replicas(2)
    with pytest.raises(ScaleError):
        await lifecycle.scale("shop", {"worker": -1}, ANN)
    with pytest.raises(ServiceNotFoundError):
        await lifecycle.scale("shop", {"nobody": 1}, ANN)


async def test_restart_replaces_tasks_by_a_new_service_with_the_same_spec(room: Cluster) -> None:
    await deploy(room)
    await room.apps.operations.lifecycle.restart("shop", ["web"], ANN)
    newest = (await room.apps.operations.deploys.deploys("shop", limit=1))[0]
    assert (await room.ended("shop", newest.id)).state is DeployState.SUCCEEDED
    assert await room.names() == {"shop_web-r2", "shop_worker-r1"}


async def test_stop_start_and_maintenance(room: Cluster) -> None:
    await deploy(room)
    lifecycle = room.apps.operations.lifecycle
    assert (await lifecycle.stop("shop", ANN)).state == "stopped"

    async def running(wanted: int) -> bool:
        tasks = await room.apps.operations.views.tasks("shop")
        return sum(task.state == "running" and task.desired == "running" for task in tasks) == wanted

    await room.until(lambda: running(0))
    assert (await lifecycle.start("shop", ANN)).state != "stopped"
    await room.until(lambda: running(2))

    await lifecycle.maintenance("shop", "back at noon", ANN)
    await room.until(lambda: room.routing.force["shop"].maintenance == "back at noon")
    await lifecycle.maintenance("shop", None, ANN)
    await room.until(lambda: room.routing.force["shop"].maintenance is None)


async def test_kept_variable_is_in_every_service_and_the_files_own_comes_back(room: Cluster) -> None:
    await deploy(room)
    environment = room.apps.operations.environment

    async def env_of(made: Deploy | None) -> list[str]:
        assert made is not None
        await room.ended("shop", made.id)
        service = next(each for each in await room.engine.services.list({"io.hunqi.service": "worker"}))
        return service.spec["TaskTemplate"]["ContainerSpec"]["Env"]

    assert await env_of(await environment.put("shop", {"MODE": "slow", "DEBUG": "1"}, ANN)) == ["DEBUG=1", "MODE=slow"]
    assert await env_of(await environment.put("shop", {"MODE": None}, ANN)) == ["MODE=fast", "DEBUG=1"]
    assert [each.name for each in await environment.variables("shop")] == ["DEBUG"]


async def test_kept_route_is_served_without_new_tasks_and_no_other_app_gets_it(room: Cluster) -> None:
    await deploy(room)
    routes = room.apps.operations.routes
    added = await routes.add("shop", "web", RouteSpec(port=8080, hosts=("shop.example.com",)), ANN)

    await room.until(lambda: len(room.routing.force["shop"].spec.services["web"].routes) == 2)
    assert await room.names() == {"shop_web-r1", "shop_worker-r1"}
    of_file = next(each for each in await routes.routes("shop") if each.origin == "file")
    with pytest.raises(RouteOfFileError):
        await routes.remove("shop", of_file.id, ANN)
    with pytest.raises(RouteTakenError):
        await deploy(room, FILE, app="other")
    with pytest.raises(RouteFaultError, match="port 80 is outside of the published range"):
        await routes.add("shop", "web", RouteSpec(port=8080, tcp_port=80), ANN)
    room.routing.held = True
    assert (await room.apps.operations.views.show("shop")).problems == ("nothing of shop is served",)
    room.routing.held = False
    await routes.remove("shop", added.id, ANN)
    await room.until(lambda: len(room.routing.force["shop"].spec.services["web"].routes) == 1)


async def test_images_below_the_name_of_another_teams_app_are_refused(room: Cluster) -> None:
    await deploy(room)
    limits = Limits(AppStore(room.database), room.routing)

    def using(image: str) -> AppSpec:
        return AppSpec(name="spy", services={"web": ServiceSpec(name="web", image=f"127.0.0.1:5000/{image}@sha256:0")})

    with pytest.raises(ImageError, match="another team"):
        await limits.check_images("t2", using("shop/app"))
    for allowed in ("docker.io/library/nginx", "shopping/app", "tools/app"):
        await limits.check_images("t2", using(allowed))
    await limits.check_images("t1", using("shop/app"))


async def test_kept_secret_is_rotated_and_not_forgotten_while_it_is_used(room: Cluster) -> None:
    await deploy(room)
    secrets = room.apps.operations.secrets
    assert await secrets.put("shop", "token", b"one", ANN) is None
    text = FILE + "    secrets: [token]\nsecrets:\n  token:\n    external: true\n"
    await deploy(room, text)
    [view] = await secrets.secrets("shop")
    assert (view.version, view.services) == (1, ("worker",))

    made = await secrets.put("shop", "token", b"two", ANN)
    assert made is not None
    assert (await room.ended("shop", made.id)).state is DeployState.SUCCEEDED

    async def only_new() -> bool:
        return len(await room.engine.secrets.list()) == 1

    await room.until(only_new)
    with pytest.raises(SecretInUseError):
        await secrets.remove("shop", "token", ANN)


async def test_deploy_can_be_cancelled_until_it_has_switched(room: Cluster) -> None:
    await deploy(room)
    room.swarm.behave(pinned("nginx:2"), Behaviour(start_s=60))
    deploys = room.apps.operations.deploys
    made = await deploys.deploy("shop", submission(FILE.replace("nginx:1", "nginx:2")), ANN)

    async def both() -> bool:
        return "shop_web-r2" in await room.names()

    await room.until(both)
    assert (await deploys.cancel("shop", made.id, ANN)).state is DeployState.CANCELLED

    async def only_old() -> bool:
        return await room.names() == {"shop_web-r1", "shop_worker-r1"}

    await room.until(only_old)
    with pytest.raises(DeployEndedError):
        await deploys.cancel("shop", made.id, ANN)


async def test_quota_of_a_team_is_kept(room: Cluster) -> None:
    await quota(room, replicas=3, apps=1)
    await deploy(room)
    with pytest.raises(QuotaError, match=r"4 of 3 replicas"):
        await room.apps.operations.lifecycle.scale("shop", {"worker": 3}, ANN)
    with pytest.raises(QuotaError, match=r"2 of 1 apps"):
        await deploy(room, FILE.replace("www.", "w2."), app="other")


async def test_lack_of_room_is_said_before_anything_starts_with_the_ways_out(room: Cluster) -> None:
    reserving = FILE.replace("image: nginx:1", "image: nginx:1\n    deploy: {resources: {reservations: {memory: 5g}}}")
    await deploy(room, reserving)
    larger = reserving.replace("nginx:1", "nginx:2")
    with pytest.raises(RoomError, match=r"web needs .* 5.0 GiB reserved, .* 3.0 GiB free on node1.*--order batches"):
        await deploy(room, larger)
    with pytest.raises(RoomError, match=r"web needs"):
        await deploy(room, larger, replacing=Replacing.BATCHES)
    assert (await deploy(room, larger, replacing=Replacing.STOP_FIRST)).state is DeployState.SUCCEEDED


async def test_every_change_is_an_event_with_actor_and_reason(room: Cluster) -> None:
    made = await deploy(room)
    events = await EventLog(room.database).read(app="shop", limit=500)

    assert {(event.actor, event.reason) for event in events if event.kind == "deploy.created"} == {("ann", "a test")}
    of_deploy = [event.kind for event in events if event.subject == made.id]
    assert of_deploy[0] == "deploy.created"
    assert of_deploy[-1] == "deploy.succeeded"
    assert "service.started" in of_deploy


HOST = """
services:
  web:
    image: nginx:1
    volumes: ["/etc:/etc-of-the-node:ro"]
"""


async def test_what_reaches_beyond_the_apps_containers_is_for_administrators(room: Cluster) -> None:
    deploys = room.apps.operations.deploys

    with pytest.raises(PrivilegeError, match="mounts /etc of the node"):
        await deploys.deploy("shop", submission(HOST), ANN)
    assert any("mounts /etc of the node" in each for each in (await deploys.check("shop", submission(HOST))).problems)

    assert (await deploy(room, HOST, privileged=True)).state is DeployState.SUCCEEDED


async def test_a_secret_that_is_kept_for_the_app_is_no_privilege(room: Cluster) -> None:
    text = FILE.replace("  worker:", "    secrets: [key]\n  worker:") + "secrets: {key: {external: true}}\n"
    assert (await deploy(room)).state is DeployState.SUCCEEDED
    with pytest.raises(PrivilegeError, match="reads the secret 'key'"):
        await room.apps.operations.deploys.deploy("shop", submission(text), ANN)

    await room.apps.operations.secrets.put("shop", "key", b"value", ANN)

    assert (await room.apps.operations.deploys.check("shop", submission(text))).problems == ()
