"""The cluster's commands as programs, against the real interface over a real connection."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hunqi.apps.model import DeployState
from hunqi.cli.main import build_app
from support_api import PASSWORD, SHOP, World, run_world

ENDS_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(kw_only=True)
class Terminal:
    """A user's shell, without a terminal: each command is a process of its own."""

    world: World
    home: Path
    token: str | None = None

    async def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> Said:
        """Run ``hunqi ARGUMENTS`` to its end."""
        process = await self.start(*arguments, **environment)
        async with asyncio.timeout(ENDS_S):
            out, err = await process.communicate(stdin.encode())
        return Said(code=process.returncode or 0, out=out.decode(), err=err.decode())

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        """Start ``hunqi ARGUMENTS``."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HUNQI_")}
        kept |= {"HUNQI_CONTEXTS": str(self.home / "contexts.json"), "HUNQI_URL": self.world.url}
        kept |= {"HUNQI_TOKEN": self.token} if self.token else {}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hunqi",
            *arguments,
            cwd=self.home,
            env=kept | environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def json(self, *arguments: str, stdin: str = "") -> dict[str, object]:
        """Run a command that must succeed and return its JSON."""
        said = await self(*arguments, "--json", stdin=stdin)
        assert said.code == 0, said.err
        found = json.loads(said.out)
        assert isinstance(found, dict)
        return found


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with run_world(tmp_path) as running:
        yield running


@pytest.fixture
def admin(world: World, tmp_path: Path) -> Terminal:
    home = tmp_path / "home"
    home.mkdir()
    return Terminal(world=world, home=home, token=world.tokens["admin"])


async def test_the_first_user_is_made_and_logged_in_and_out_again(tmp_path: Path) -> None:
    async with run_world(tmp_path, populate=False) as world:
        token = await world.directory.setup.new_token()
        hunqi = Terminal(world=world, home=tmp_path)
        login = ("login", "--setup", "--name", "ann", "--password-stdin", "--url", world.url)

        said = await hunqi(*login, stdin=PASSWORD + "\n", HUNQI_SETUP_TOKEN=str(token))
        assert said.code == 0, said.err
        assert "as ann" in said.out
        assert (tmp_path / "contexts.json").stat().st_mode & 0o077 == 0

        assert (await hunqi.json("whoami"))["admin"] is True
        assert (await hunqi("app", "ls")).code == 0

        assert (await hunqi("logout")).code == 0
        said = await hunqi("app", "ls")
        assert said.code == 1
        assert "hunqi login" in said.err
        async with world.client() as client:
            made = await client.people.log_in("ann", PASSWORD, token_name="other")
        assert [each.name for each in await _tokens(world, "ann")] == ["other"]
        assert made["secret"]


async def _tokens(world: World, name: str) -> list:
    from hunqi.identity.model import FULL, Actor, ActorKind

    user = await world.directory.users.find(name)
    return list(await world.directory.tokens.of(Actor(kind=ActorKind.USER, id=user.id, name=name, scope=FULL)))


async def test_no_password_is_asked_for_where_there_is_no_terminal(world: World, tmp_path: Path) -> None:
    hunqi = Terminal(world=world, home=tmp_path)

    said = await hunqi("login", "--name", "admin")

    assert said.code == 1
    assert "--password-stdin or HUNQI_PASSWORD" in said.err
    wrong = await hunqi("login", "--name", "admin", HUNQI_PASSWORD="wrong-password-of-ann")
    assert wrong.code == 1
    assert "wrong-password-of-ann" not in wrong.out + wrong.err


async def test_a_token_is_kept_and_used(world: World, tmp_path: Path) -> None:
    hunqi = Terminal(world=world, home=tmp_path)

    said = await hunqi("login", "--token-stdin", "--context", "ci", "--url", world.url, stdin=world.tokens["viewer"])

    assert said.code == 0, said.err
    assert [app["name"] for app in (await hunqi.json("app", "ls"))["apps"]] == [SHOP]  # type: ignore[attr-defined]
    said = await hunqi("app", "stop", SHOP)
    assert said.code == 1
    assert "→" in said.err


async def test_a_deploy_sends_what_is_asked_for_and_is_followed_to_its_end(admin: Terminal) -> None:
    rooms = admin.world.rooms
    rooms.needs_files, rooms.needs_variables = {"./pw.txt", "more.env"}, {"TAG", "NOT_THERE"}
    project = admin.home / "proj"
    project.mkdir()
    (project / "compose.yaml").write_text("name: shop\nservices: {web: {image: web}}")
    (project / "pw.txt").write_text("secret")
    (project / ".env").write_text("TAG=7\nUNUSED=1\n")

    process = await admin.start("app", "deploy", "-f", "proj/compose.yaml", "--image", "web=other:2", "--reason", "why")
    async with asyncio.timeout(ENDS_S):
        while not rooms.deploys.get(SHOP):
            await asyncio.sleep(0.05)
        await rooms.finish(SHOP, rooms.deploys[SHOP][-1].id, DeployState.SUCCEEDED)
        _out, err = await process.communicate()

    assert process.returncode == 0, err.decode()
    assert "✓ shop" in err.decode()
    sent = rooms.submissions[-1]
    assert dict(sent.files) == {"compose.yaml": "name: shop\nservices: {web: {image: web}}", "./pw.txt": "secret"}
    assert dict(sent.variables) == {"TAG": "7"}
    assert sent.absent_files == ("more.env",)
    assert sent.absent_variables == ("NOT_THERE",)
    assert dict(sent.images) == {"web": "other:2"}
    assert rooms.deploys[SHOP][-1].reason == "why"


async def test_a_deploy_that_fails_is_an_exit_code_and_in_json_too(admin: Terminal) -> None:
    rooms = admin.world.rooms
    (admin.home / "compose.yaml").write_text("services: {web: {image: web}}")

    process = await admin.start("app", "deploy", "--name", SHOP, "--json")
    async with asyncio.timeout(ENDS_S):
        while not rooms.deploys.get(SHOP):
            await asyncio.sleep(0.05)
        await rooms.finish(SHOP, rooms.deploys[SHOP][-1].id, DeployState.FAILED)
        out, _err = await process.communicate()

    assert process.returncode == 1
    assert json.loads(out)["state"] == "failed"


async def test_a_detached_deploy_returns_at_once(admin: Terminal) -> None:
    (admin.home / "compose.yaml").write_text("services: {web: {image: web}}")

    found = await admin.json("app", "deploy", "--name", SHOP, "--detach")

    assert found["state"] == "starting"
    assert (await admin.json("app", "cancel", SHOP))["state"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--name", "Not_A_Name"), "no app's name"),
        (("--name", SHOP, "--image", "web"), "SERVICE=REFERENCE"),
        (("--name", SHOP, "--order", "sideways"), "order"),
    ],
)
async def test_a_deploy_that_is_asked_wrongly_says_how(
    admin: Terminal, arguments: tuple[str, ...], complaint: str
) -> None:
    (admin.home / "compose.yaml").write_text("services: {web: {image: web}}")

    said = await admin("app", "deploy", *arguments)

    assert said.code == 1
    assert complaint in said.err


async def test_a_file_outside_of_the_project_is_never_sent(admin: Terminal) -> None:
    (admin.home / "secret").write_text("of the machine")
    project = admin.home / "proj"
    project.mkdir()
    (project / "compose.yaml").write_text("services: {web: {image: web}}")
    admin.world.rooms.needs_files = {"../secret"}

    said = await admin("app", "deploy", "-f", "proj/compose.yaml", "--name", SHOP)

    assert said.code == 1
    assert "not sent" in said.err
    assert admin.world.rooms.submissions == []


async def test_revisions_are_listed_compared_and_gone_back_to(admin: Terminal) -> None:
    found = await admin.json("app", "history", SHOP)
    assert [each["number"] for each in found["revisions"]] == [3, 2, 1]  # type: ignore[attr-defined]
    assert "services.web.image" in (await admin("app", "diff", SHOP, "1", "2")).out

    assert (await admin.json("app", "rollback", SHOP, "--detach"))["app"] == SHOP
    assert admin.world.rooms.acts[-1][:2] == (SHOP, "deployed")


async def test_changes_of_a_running_app(admin: Terminal) -> None:
    assert (await admin("app", "scale", SHOP, "web=2")).code == 0
    assert (await admin("app", "scale", SHOP, "web")).code == 1
    assert (await admin("app", "restart", SHOP, "web")).code == 0
    assert (await admin("app", "stop", SHOP, "--detach")).code == 0
    assert (await admin("app", "start", SHOP)).code == 0
    assert (await admin("app", "maintenance", SHOP, "Back at six.")).code == 0
    assert (await admin("app", "maintenance", SHOP)).code == 1

    done = [what for app, what, _ in admin.world.rooms.acts if app == SHOP]
    assert done == ["scaled", "restarted", "stopped", "started", "maintained"]


async def test_nothing_is_removed_without_a_yes(admin: Terminal) -> None:
    said = await admin("app", "rm", SHOP)
    assert said.code == 1
    assert "--yes" in said.err
    assert admin.world.rooms.acts == []

    said = await admin("app", "rm", SHOP, "--volumes", "--yes")
    assert said.code == 0, said.err
    assert admin.world.rooms.acts[-1][:2] == (SHOP, "removed-with-volumes")


async def test_what_tasks_wrote_is_shown_with_service_and_node(admin: Terminal) -> None:
    said = await admin("app", "logs", SHOP, "--tail", "5")

    assert said.code == 0, said.err
    assert len(said.out.splitlines()) >= 3
    assert said.out.startswith("web.task0@one | line 0")
    assert "\x00" not in said.out
    lines = [json.loads(line) for line in (await admin("app", "logs", SHOP, "--json")).out.split("\n") if line]
    assert [line["service"] for line in lines] == ["web"] * 3


async def test_requests_are_shown_a_line_each(admin: Terminal) -> None:
    said = await admin("app", "requests", SHOP, "--status", "5xx")

    assert said.code == 0, said.err
    (line,) = said.out.splitlines()
    when, status, took, unit, whom, method, what, client, flags = line.split()
    assert (when, status, took, unit) == ("03:04:05.503", "503", "12", "ms")
    assert (whom, method, what, client, flags) == ("web-r7@one", "GET", "shop.test/x?token=***", "192.0.2.7", "UH")
    lines = [json.loads(line) for line in (await admin("app", "requests", SHOP, "--json")).out.splitlines()]
    assert [line["status"] for line in lines] == [200, 404, 503]
    assert (await admin("app", "requests", SHOP, "--status", "9xx")).code != 0


async def test_events_are_shown_with_who_did_it(admin: Terminal) -> None:
    await admin("app", "restart", SHOP, "--reason", "it was slow")

    said = await admin("app", "events", SHOP)

    assert said.code == 0, said.err
    assert "app.restarted" in said.out
    assert "it was slow" in said.out


async def test_a_command_in_a_task_gets_its_input_and_ends_with_its_code(admin: Terminal) -> None:
    said = await admin("app", "exec", SHOP, "web", "--", "cat", "-n", stdin="hello\n")

    assert said.code == 7, said.err
    assert "hello" in said.out
    said = await admin("app", "exec", SHOP, "nobody", "ls")
    assert said.code == 1
    assert "nobody" in said.err


async def test_a_port_of_a_task_is_reached_from_here(admin: Terminal) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await admin.start("app", "port-forward", SHOP, "web", f"{port}:80")
    try:
        assert process.stderr is not None
        async with asyncio.timeout(ENDS_S):
            assert b"Ctrl-C ends it" in await process.stderr.readline()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"over there")
            assert await reader.readexactly(10) == b"over there"
            writer.close()
    finally:
        process.terminate()
        await process.communicate()


async def test_files_go_into_a_task_and_come_out_again(admin: Terminal) -> None:
    (admin.home / "seed.sql").write_text("select 1;")
    assert (await admin("app", "cp", "seed.sql", f"{SHOP}/web:/tmp")).code == 0
    (admin.home / "out").mkdir()

    said = await admin("app", "cp", f"{SHOP}/web:/tmp", "out")

    assert said.code == 0, said.err
    assert (admin.home / "out/seed.sql").read_text() == "select 1;"
    for wrong in (("seed.sql", "out"), (f"{SHOP}/web:relative", "out")):
        assert (await admin("app", "cp", *wrong)).code == 1


async def test_a_tar_that_would_leave_the_directory_is_refused(admin: Terminal) -> None:
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("../escaped")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    admin.world.rooms.files["/evil"] = buffer.getvalue()
    (admin.home / "out").mkdir()

    said = await admin("app", "cp", f"{SHOP}/web:/evil", "out")

    assert said.code == 1
    assert not (admin.home / "escaped").exists()


async def test_secrets_come_from_standard_input_and_are_never_shown(admin: Terminal) -> None:
    said = await admin("secret", "set", SHOP, "db_password", "-f", "-", stdin="s3cret\n")

    assert said.code == 0, said.err
    assert admin.world.rooms.secrets[SHOP, "db_password"] == b"s3cret\n"
    assert "s3cret" not in said.out + said.err + (await admin("secret", "ls", SHOP)).out
    assert (await admin("secret", "rm", SHOP, "db_password")).code == 0


async def test_variables_and_routes_are_kept(admin: Terminal) -> None:
    (admin.home / "prod.env").write_text("A=1\nB='two'\n")
    assert (await admin("env", "set", SHOP, "C=three=3", "-f", "prod.env")).code == 0
    assert admin.world.rooms.environment[SHOP] == {"A": "1", "B": "two", "C": "three=3"}
    assert (await admin("env", "rm", SHOP, "A")).code == 0
    assert "three=3" in (await admin("env", "ls", SHOP)).out

    said = await admin("route", "add", SHOP, "web", "--port", "80", "--host", "a.example.com", "--path", "/api")
    assert said.code == 0, said.err
    assert "a.example.com/api" in (await admin("route", "ls", SHOP)).out
    number = admin.world.rooms.routes[SHOP][0].id
    assert (await admin("route", "rm", SHOP, number)).code == 0


async def test_machines_are_listed_drained_and_invited(admin: Terminal) -> None:
    assert "moving shop away" in (await admin("node", "ls")).out
    assert (await admin("node", "show", "one")).code == 0
    assert (await admin.json("node", "drain", "one", "--detach"))["intent"] == "drain"
    assert (await admin("node", "set", "one", "--label", "disk=ssd")).code == 0
    assert admin.world.rooms.labels == {"disk": "ssd"}
    assert "hj1.secret-of-joining" in (await admin("node", "token")).out
    assert (await admin("node", "rm", "one", "--yes")).code == 0
    assert (await admin("ca", "show")).out.startswith("-----BEGIN CERTIFICATE-----")
    assert "shop.example.com" in (await admin("cert", "ls")).out
    assert "/var/lib/hunqi/backup" in (await admin("backup")).out


async def test_people_are_made_and_unmade(admin: Terminal) -> None:
    assert (await admin("user", "add", "ada", "--password-stdin", stdin=PASSWORD)).code == 0
    assert (await admin("team", "add", "tea", "--quota", "apps=2")).code == 0
    assert (await admin("team", "member", "tea", "ada", "developer")).code == 0
    assert "ada (developer)" in (await admin("team", "ls")).out
    made = await admin.json("token", "add", "ci", "--machine", "--scope", "viewer", "--scope", f"app:{SHOP}")
    number = made["token"]["id"]  # type: ignore[index]
    assert str(made["secret"]) not in (await admin("token", "ls")).out
    assert (await admin("token", "rm", str(number))).code == 0
    assert (await admin("team", "member", "tea", "ada", "none")).code == 0
    assert (await admin("user", "rm", "ada", "--yes")).code == 0


async def test_an_api_that_is_not_there_says_what_to_do(admin: Terminal) -> None:
    said = await admin("app", "ls", HUNQI_URL="http://127.0.0.1:1")

    assert said.code == 1
    assert "hunqi up" in said.err
    assert "Traceback" not in said.err


async def test_every_command_teaches_by_example() -> None:
    import click
    import typer

    def leaves(command: click.Command, words: tuple[str, ...]) -> list[tuple[str, str]]:
        children: dict[str, click.Command] | None = getattr(command, "commands", None)
        if children is None:
            return [] if command.hidden else [(" ".join(words), command.help or "")]
        shown = {name: child for name, child in children.items() if not child.hidden}
        return [leaf for name, child in shown.items() for leaf in leaves(child, (*words, name))]

    silent = [name for name, text in leaves(typer.main.get_command(build_app()), ("hunqi",)) if name not in text]

    assert silent == []


async def test_a_change_finds_the_leader_among_the_addresses_that_are_known(world: World, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    async with run_world(elsewhere) as leader:
        world.rooms.leading, world.rooms.address = False, leader.url
        hunqi = Terminal(world=world, home=tmp_path, token=world.tokens["admin"])

        said = await hunqi("app", "restart", SHOP)
        assert said.code == 1
        assert leader.url in said.err
        assert "--url for each manager" in said.err
        assert leader.rooms.acts == []  # an address that only an answer names gets no token

        said = await hunqi("app", "restart", SHOP, HUNQI_URL=f"{world.url},{leader.url}")
        assert said.code == 0, said.err
        assert [what for _, what, _ in leader.rooms.acts] == ["restarted"]

        login = ("login", "--token-stdin", "--url", world.url, "--url", leader.url)
        assert (await hunqi(*login, stdin=world.tokens["admin"])).code == 0
        assert (await hunqi("app", "restart", SHOP, HUNQI_URL="", HUNQI_TOKEN="")).code == 0
        assert len(leader.rooms.acts) == 2
    assert world.rooms.acts == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("logs", SHOP, "-s", "wbe"), "did you mean 'web'"),
        (("port-forward", SHOP, "wbe", "80"), "did you mean 'web'"),
        (("port-forward", SHOP, "web", "99999"), "from 1 to 65535"),
        (("cancel", SHOP), "is under way"),
    ],
)
async def test_what_cannot_be_done_is_said_before_anything_is_asked_for(
    admin: Terminal, arguments: tuple[str, ...], complaint: str
) -> None:
    said = await admin("app", *arguments)

    assert said.code == 1
    assert complaint in said.err
    assert admin.world.rooms.acts == []


async def test_a_run_is_shown_to_its_end_and_gives_its_exit_code(admin: Terminal) -> None:
    rooms = admin.world.rooms
    process = await admin.start("app", "run", SHOP, "web", "--", "false")
    async with asyncio.timeout(ENDS_S):
        assert process.stdout is not None
        assert (await process.stdout.readline()).startswith(b"line 0")
        rooms.lines += 1  # written after the last look at it
        rooms.rooms().apps.runs.finish(SHOP, 9)  # type: ignore[attr-defined]
        out, err = await process.communicate()

    assert process.returncode == 9
    assert [line.split()[1] for line in out.decode().split("\n") if line] == ["1", "2", "3"]
    assert "failed with exit code 9" in err.decode()


async def test_following_ends_when_nobody_reads_any_more(admin: Terminal) -> None:
    process = await admin.start("app", "logs", SHOP, "-f")
    async with asyncio.timeout(ENDS_S):
        assert process.stdout is not None
        await process.stdout.readline()
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]  # as head -1 does
        assert await process.wait() == 1
        assert process.stderr is not None
        assert await process.stderr.read() == b""


async def test_output_that_cannot_be_written_is_an_error_in_a_line(admin: Terminal) -> None:
    environment = {**os.environ, "HUNQI_URL": admin.world.url, "HUNQI_TOKEN": str(admin.token)}
    with open("/dev/full", "wb") as full:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hunqi", "app", "ls", env=environment, stdout=full, stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()

    assert process.returncode == 1
    assert err.decode().splitlines() == ["error: the output cannot be written: No space left on device"]


async def test_a_directory_of_a_task_is_copied_under_another_name(admin: Terminal) -> None:
    (admin.home / "seed.sql").write_text("select 1;")
    assert (await admin("app", "cp", "seed.sql", f"{SHOP}/web:/tmp")).code == 0

    said = await admin("app", "cp", f"{SHOP}/web:/tmp", "other")

    assert said.code == 0, said.err
    assert [path.name for path in admin.home.iterdir() if path.name == "other"] == ["other"]
