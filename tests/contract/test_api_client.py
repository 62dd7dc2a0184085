"""The client and the interface, together over a real connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from hunqi.api.app import ApiSettings
from hunqi.apps.model import DeployState
from hunqi.client.client import open_client
from hunqi.client.errors import ProjectFilesError, RefusedError, UnavailableError, UnreachableError
from hunqi.client.project import LocalProject, read_env_file
from hunqi.state.events import append
from support_api import PASSWORD, SHOP, World, make_token, run_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with run_world(tmp_path) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> LocalProject:
    root = tmp_path / "project"
    root.mkdir()
    (root / "compose.yaml").write_text("services: {web: {image: web}}")
    return LocalProject(root=root, entry=("compose.yaml",), variables={"USED": "1", "UNUSED": "2"})


async def test_the_first_user_is_made_with_the_setup_token_once(tmp_path: Path) -> None:
    async with run_world(tmp_path, populate=False) as world, world.client() as client:
        token = await world.directory.setup.new_token()
        assert token is not None
        with pytest.raises(RefusedError, match="setup token"):
            await client.people.set_up("hqs_wrong", "ann", PASSWORD)
        with pytest.raises(RefusedError, match="too short"):
            await client.people.set_up(token, "ann", "short")
        assert (await client.people.set_up(token, "ann", PASSWORD))["is_admin"]
        with pytest.raises(RefusedError, match="setup token"):
            await client.people.set_up(token, "bob", PASSWORD)
        assert await world.directory.setup.new_token() is None
        made = await client.people.log_in("ann", PASSWORD, token_name="laptop")
        async with open_client([world.url], token=made["secret"]) as ann:
            assert (await ann.people.me())["admin"]


async def test_a_setup_token_that_was_replaced_is_good_no_more(tmp_path: Path) -> None:
    async with run_world(tmp_path, populate=False) as world, world.client() as client:
        first, second = await world.directory.setup.new_token(), await world.directory.setup.new_token()
        with pytest.raises(RefusedError):
            await client.people.set_up(str(first), "ann", PASSWORD)
        assert await client.people.set_up(str(second), "ann", PASSWORD)


async def test_apps_are_listed_page_by_page_and_only_ones_own(world: World) -> None:
    for number in range(60):
        await world.rooms.make_app(f"app{number:02}", world.teams["sellers"])
    async with world.client("viewer") as viewer, world.client("stranger") as stranger, world.client("admin") as admin:
        assert [app["name"] async for app in viewer.apps.all()] == [*[f"app{n:02}" for n in range(60)], "shop"]
        assert [app["name"] async for app in stranger.apps.all()] == ["blog"]
        assert len([app async for app in admin.apps.all()]) == 62


async def test_a_project_sends_what_is_asked_for_and_nothing_else(world: World, project: LocalProject) -> None:
    (project.root / "deep").mkdir()
    (project.root / "deep" / "nginx.conf").write_text("server {}")
    (project.root / "logo.bin").write_bytes(b"\xff\xfe\x00")
    (project.root / "private.key").write_text("never sent")
    world.rooms.needs_files = {"deep/", "deep/nginx.conf", "logo.bin", "missing.env"}
    world.rooms.needs_variables = {"USED", "MISSING"}
    async with world.client("developer") as client:
        deploy = await client.deploys.deploy(SHOP, project, {"reason": "because"})
    assert deploy["reason"] == "because"
    sent = world.rooms.submissions[0]
    assert dict(sent.files) == {
        "compose.yaml": "services: {web: {image: web}}",
        "deep/": "nginx.conf",
        "deep/nginx.conf": "server {}",
        "logo.bin": b"\xff\xfe\x00",
    }
    assert sent.variables == {"USED": "1"}
    assert sent.absent_files == ("missing.env",)
    assert sent.absent_variables == ("MISSING",)
    assert sent.team is None


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "link", "linked/x", "a/../../outside", "~/x\0"])
async def test_no_file_outside_of_the_project_is_sent(world: World, project: LocalProject, path: str) -> None:
    (project.root.parent / "outside").write_text("secret")
    (project.root / "link").symlink_to(project.root.parent / "outside")
    (project.root / "linked").symlink_to("/etc")
    world.rooms.needs_files = {path}
    async with world.client("developer") as client:
        with pytest.raises(ProjectFilesError, match="outside"):
            await client.deploys.deploy(SHOP, project)
    assert world.rooms.submissions == []


async def test_an_interface_that_asks_without_end_is_given_up(world: World, project: LocalProject) -> None:
    world.rooms.needs_files = {"compose.yaml"}
    world.rooms.submissions = []

    async def ask_again(body: object) -> None:
        raise RefusedError(422, {"code": "compose.needs", "files": ["compose.yaml"], "variables": []})

    from hunqi.client.project import complete

    with pytest.raises(RefusedError):
        await complete(project, {}, ask_again)


async def test_a_new_app_belongs_to_the_callers_team(world: World, project: LocalProject) -> None:
    async with world.client("developer") as developer, world.client("viewer") as viewer, world.client("admin") as admin:
        await developer.deploys.deploy("new", project)
        assert (await developer.apps.show("new"))["team"] == world.teams["sellers"]
        with pytest.raises(RefusedError) as raised:
            await viewer.deploys.deploy("newer", project)
        assert raised.value.problem_code == "app.not-found"
        with pytest.raises(RefusedError) as raised:
            await developer.deploys.deploy("newer", project, {"team": "writers"})
        assert raised.value.problem_code == "team.not-found"
        await admin.deploys.deploy("newer", project, {"team": "writers"})
        assert (await admin.apps.show("newer"))["team"] == world.teams["writers"]
        with pytest.raises(RefusedError) as raised:
            await developer.deploys.deploy("newer", project)
        assert raised.value.problem_code == "app.not-found"


async def test_a_deploy_is_followed_to_its_end(world: World, project: LocalProject) -> None:
    async with world.client("developer") as client:
        deploy = await client.deploys.deploy(SHOP, project)
        seen: list[str] = []

        async def follow() -> None:
            async with client.deploys.follow(SHOP, deploy["id"]) as progress:
                async for each in progress:
                    seen.append(each["state"])
                    if each["state"] == "starting":
                        await world.rooms.finish(SHOP, deploy["id"], DeployState.SUCCEEDED)

        async with asyncio.timeout(10):
            await follow()
        assert seen == ["starting", "succeeded"]
        assert [each["id"] async for each in client.deploys.all(SHOP)] == [deploy["id"]]


async def test_deploys_are_paged_newest_first(world: World, project: LocalProject) -> None:
    async with world.client("developer") as client:
        for _ in range(3):
            await client.deploys.rollback(SHOP, 1)
        page = await client.transport.ask("GET", "/v1/apps/shop/deploys", query={"limit": 2})
        assert [each["id"] for each in page["items"]] == ["d00000002", "d00000001"]
        rest = await client.transport.ask("GET", "/v1/apps/shop/deploys", query={"cursor": page["next"]})
        assert [each["id"] for each in rest["items"]] == ["d00000000"]
        assert rest["next"] is None


async def test_events_are_replayed_followed_and_only_ones_own(world: World) -> None:
    async with world.client("viewer") as viewer, world.client("admin") as admin:
        async with viewer.cluster.events(after=0, follow=False) as events:
            mine = [event async for event in events]
        assert {event.data["app"] for event in mine} == {"shop"}
        async with admin.cluster.events(after=0, follow=False) as events:
            assert {event.kind for event in [each async for each in events]} >= {"user.created", "team.created"}
        async with viewer.cluster.events() as events:
            async with world.directory.database.begin() as connection:
                for app in ("blog", "shop"):
                    await append(connection, "app.changed", actor="x", app=app, reason="live")
            async with asyncio.timeout(10):
                event = await anext(events)
        assert (event.data["app"], event.data["reason"]) == ("shop", "live")
        assert int(event.id) == event.data["seq"]


async def test_a_stream_goes_on_after_the_last_event_id_and_beats(world: World) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['admin']}", "Last-Event-ID": "2"}
    async with aiohttp.ClientSession() as session, session.get(f"{world.url}/v1/events", headers=headers) as answer:
        assert answer.content_type == "text/event-stream"
        text = b""
        async with asyncio.timeout(20):
            while b": still here" not in text:
                text += await answer.content.readany()
    assert b"id: 3\n" in text
    assert b"id: 2\n" not in text


async def test_a_stream_ends_when_its_token_is_revoked(world: World) -> None:
    await make_token(world, "viewer", key="short-lived")
    async with world.client("short-lived") as client:
        token = next(iter([each async for each in client.people.tokens() if each["name"] == "short-lived"]))
        with pytest.raises(UnreachableError):  # noqa: PT012  (the stream is what ends)
            async with client.cluster.events() as events:
                await client.people.revoke_token(token["id"])
                async with asyncio.timeout(20):
                    async for _ in events:
                        pass


async def test_logs_are_streamed_and_left_when_the_client_goes(world: World) -> None:
    async with world.client("viewer") as client:
        async with client.tasks.logs(SHOP, ["web"]) as lines:
            assert [line["text"] async for line in lines] == [f"line {n} \u2028 \x00" for n in range(3)]
        async with client.tasks.logs(SHOP, follow=True) as lines:
            assert (await anext(lines))["service"] == "web"
            assert world.rooms.open_streams == 1
        async with asyncio.timeout(10):
            while world.rooms.open_streams:
                await asyncio.sleep(0.01)


async def test_requests_are_streamed(world: World) -> None:
    async with world.client("viewer") as client, client.requests.last(SHOP, status="404") as lines:
        assert [(line["status"], line["service"], line["task_ms"]) async for line in lines] == [(404, "web", None)]


async def test_a_stream_of_an_app_that_is_not_there_is_a_problem_not_a_stream(world: World) -> None:
    async with world.client("viewer") as client:
        with pytest.raises(RefusedError) as raised:
            async with client.tasks.logs("nothing"):
                pass
        assert raised.value.problem_code == "app.not-found"


async def test_a_command_in_a_task_speaks_both_ways_and_ends_with_its_code(world: World) -> None:
    async with world.client("developer") as client:
        async with client.tasks.execute(SHOP, {"command": ["cat"], "stdin": True}, service="web") as duplex:
            assert json.loads(str(await duplex.receive())) == {"command": ["cat"]}
            await duplex.send(b"\x00hello" * 10_000)
            assert await duplex.receive() == b"\x00hello" * 10_000
            await duplex.send('{"eof": true}')
            assert json.loads(str(await duplex.receive())) == {"exit": 7}
            assert await duplex.receive() is None
        async with client.tasks.execute(SHOP, {"command": ["cat"]}):
            pass
        async with asyncio.timeout(10):
            while world.rooms.open_streams:
                await asyncio.sleep(0.01)


async def test_a_command_in_a_task_that_is_not_there_says_so(world: World) -> None:
    async with world.client("developer") as client:
        async with client.tasks.execute(SHOP, {"command": ["ls"]}, service="nothing") as duplex:
            assert json.loads(str(await duplex.receive()))["error"]["code"] == "service.not-found"
        async with client.tasks.execute(SHOP, {"nonsense": 1}) as duplex:
            assert json.loads(str(await duplex.receive()))["error"]["code"] == "api.invalid"
    for who in ("viewer", "stranger"):
        async with world.client(who) as client:
            with pytest.raises(RefusedError):
                async with client.tasks.execute(SHOP, {"command": ["ls"]}):
                    pass


async def test_a_port_is_forwarded(world: World) -> None:
    async with world.client("developer") as client, client.tasks.forward(SHOP, 5432, service="web") as duplex:
        await duplex.send(b"bytes")
        assert await duplex.receive() == b"bytes"


async def test_files_travel_both_ways(world: World) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    async with world.client("developer") as client:
        await client.tasks.put_files(SHOP, "/srv/data", chunks(), service="web")
        async with client.tasks.get_files(SHOP, "/srv/data", service="web") as stream:
            assert b"".join([chunk async for chunk in stream]) == b"x" * 2_000_000


async def test_what_is_kept_for_an_app(world: World) -> None:
    async with world.client("developer") as client:
        await client.variables.put_secret(SHOP, "db", b"\xff\x00secret")
        assert world.rooms.secrets[SHOP, "db"] == b"\xff\x00secret"
        assert [secret["name"] async for secret in client.variables.secrets(SHOP)] == ["db"]
        await client.variables.remove_secret(SHOP, "db")
        await client.variables.put_environment(SHOP, {"A": "1", "B": "2"})
        await client.variables.put_environment(SHOP, {"A": None})
        assert [(each["name"], each["value"]) async for each in client.variables.environment(SHOP)] == [("B", "2")]
        sha = "ann:{SHA}" + "a" * 27 + "="
        added = await client.variables.add_route(
            SHOP, "web", {"port": 80, "hosts": ["A.example.com."], "basic_auth": [sha]}
        )
        assert added["spec"]["hosts"] == ["a.example.com"]
        assert added["spec"]["basic_auth"] == ["ann:…"]
        assert world.rooms.routes[SHOP][0].spec.basic_auth == (sha,)
        await client.variables.remove_route(SHOP, added["id"])
    async with world.client("viewer") as viewer:
        assert "secretsecret" not in json.dumps(await viewer.apps.show(SHOP))
        with pytest.raises(RefusedError):
            await viewer.deploys.revision(SHOP, 1)


async def test_day_two_changes_name_their_actor(world: World) -> None:
    async with world.client("developer") as client:
        await client.lifecycle.scale(SHOP, {"web": 3}, reason="sale")
        await client.lifecycle.restart(SHOP)
        await client.lifecycle.stop(SHOP)
        await client.lifecycle.start(SHOP)
        assert (await client.lifecycle.maintenance(SHOP, "back soon"))["maintenance"] == "back soon"
        run = await client.tasks.run(SHOP, "web", ["migrate"])
        assert (await client.tasks.show_run(SHOP, run["id"]))["state"] == "running"
        with pytest.raises(RefusedError) as raised:
            await client.lifecycle.scale(SHOP, {"nothing": 1})
        assert raised.value.problem_code == "service.not-found"
    assert {actor for _, _, actor in world.rooms.acts} == {"developer"}
    async with world.client("owner") as owner:
        await owner.apps.remove(SHOP, volumes=True)
        with pytest.raises(RefusedError):
            await owner.apps.show(SHOP)


async def test_the_cluster_is_an_administrators(world: World) -> None:
    async with world.client("admin") as admin, world.client("viewer") as viewer:
        assert [node["tasks"] async for node in admin.cluster.nodes()] == [{"shop": 2, "blog": 1}]
        assert [node["tasks"] async for node in viewer.cluster.nodes()] == [{"shop": 2}]
        assert (await admin.cluster.drain("one"))["intent"] == "drain"
        assert (await admin.cluster.change_node("one", labels={"disk": "ssd"}))["labels"] == {"disk": "ssd"}
        assert (await admin.cluster.new_join_token())["text"].startswith("hj1.")
        assert [token["text"] async for token in admin.cluster.join_tokens()] == [""]
        with pytest.raises(RefusedError) as raised:
            await viewer.cluster.new_join_token()
        assert raised.value.problem_code == "auth.denied"
        with pytest.raises(RefusedError) as raised:
            await admin.cluster.node("nothing")
        assert raised.value.problem_code == "nodes.not-found"
    async with world.client() as nobody:
        assert (await nobody.cluster.authority()).startswith("-----BEGIN")
        assert await nobody.cluster.x_hunqi_schema() == {"type": "object"}


async def test_one_that_does_not_lead_reads_and_sends_changes_on(world: World, tmp_path: Path) -> None:
    world.rooms.leading, world.rooms.address = False, "http://10.0.0.2:7000"
    async with world.client("developer") as client:
        assert (await client.apps.show(SHOP))["name"] == SHOP
        with pytest.raises(UnavailableError) as raised:
            await client.lifecycle.stop(SHOP)
        assert raised.value.problem_code == "api.not-leader"
        assert raised.value.problem["leader"] == "http://10.0.0.2:7000"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    async with run_world(elsewhere, populate=False) as leading:
        for name in ("sellers",):
            leading.teams[name] = world.teams[name]
        async with open_client(["http://127.0.0.1:9", world.url], token=world.tokens["viewer"]) as client:
            assert (await client.apps.show(SHOP))["name"] == SHOP


async def test_nobody_there_is_said(world: World) -> None:
    async with open_client(["http://127.0.0.1:9"]) as client:
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
            await client.people.me()


async def test_ready_and_health(world: World) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{world.url}/ready") as answer:
            assert answer.status == 200
        world.rooms.ready = False
        async with session.get(f"{world.url}/ready") as answer:
            assert answer.status == 503
        async with session.get(f"{world.url}/health") as answer:
            assert await answer.json() == {"healthy": True}


async def test_streams_are_bounded(tmp_path: Path) -> None:
    async with (
        run_world(tmp_path, settings=ApiSettings(most_streams=1)) as world,
        world.client("viewer") as client,
        client.tasks.logs(SHOP, follow=True) as lines,
    ):
        await anext(lines)
        with pytest.raises(UnavailableError) as raised:
            async with client.tasks.logs(SHOP):
                pass
        assert raised.value.problem_code == "api.too-many-streams"


def test_an_env_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(
        '# comment\nA=1\nexport B = two words # note\nC=\'$raw # kept\'\nD="a\\nb\\"c" # note\nE=\n\nF=a#b\n'
    )
    assert read_env_file(path) == {"A": "1", "B": "two words", "C": "$raw # kept", "D": 'a\nb"c', "E": "", "F": "a#b"}
    path.write_text("nonsense\n")
    with pytest.raises(ProjectFilesError, match=":1:"):
        read_env_file(path)


def test_a_project_is_found(tmp_path: Path) -> None:
    with pytest.raises(ProjectFilesError, match=r"compose\.yaml"):
        LocalProject.find([], directory=tmp_path)
    (tmp_path / "compose.yml").write_text("services: {}")
    (tmp_path / ".env").write_text("A=file\nB=file")
    found = LocalProject.find([], directory=tmp_path, environment={"A": "shell"})
    assert found.entry == ("compose.yml",)
    assert found.variables == {"A": "shell", "B": "file"}
    with pytest.raises(ProjectFilesError, match="not inside"):
        LocalProject.find([Path("/etc/hosts")], directory=tmp_path)
