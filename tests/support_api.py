"""The interface under test: a real server on loopback over a real database, two teams with an app each, every role."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from hunqi.api.app import ApiSettings, build_api
from hunqi.client.client import HunqiClient, open_client
from hunqi.identity.directory import Directory, open_directory
from hunqi.identity.model import FULL, Actor, ActorKind, Role
from hunqi.identity.registry import RegistryLogins
from hunqi.state.backup import back_up
from hunqi.state.database import open_database
from hunqi.state.events import EventLog
from hunqi.state.sealing import Sealer
from testbed.rooms import MemoryRooms

PASSWORD = "correct horse battery"
SHOP, BLOG = "shop", "blog"


@dataclass
class World:
    """A running interface. ``tokens`` are of: admin; owner, developer, viewer of shop's team; stranger of blog's."""

    url: str
    rooms: MemoryRooms
    directory: Directory
    events: EventLog
    server: uvicorn.Server
    tokens: dict[str, str] = field(default_factory=dict)
    teams: dict[str, str] = field(default_factory=dict)
    setup_token: str = ""

    @asynccontextmanager
    async def client(self, who: str | None = None) -> AsyncGenerator[HunqiClient]:
        """Open a client as somebody."""
        async with open_client([self.url], token=self.tokens[who] if who else None) as client:
            yield client


@asynccontextmanager
async def run_world(
    directory: Path, *, populate: bool = True, settings: ApiSettings | None = None
) -> AsyncGenerator[World]:
    """Run an interface over a new database below ``directory``."""
    async with AsyncExitStack() as stack:
        if populate and _populated:
            (directory / "control.db").write_bytes(_populated[0].database)
        database = await stack.enter_async_context(open_database(str(directory / "control.db")))
        people = open_directory(database)
        rooms = MemoryRooms(database)
        log = EventLog(database)
        logins = RegistryLogins(Sealer(secrets.token_bytes(32)))
        api = build_api(people, rooms.rooms(), log, logins, settings=settings or ApiSettings(heartbeat_s=0.5))
        url, server = await stack.enter_async_context(serve(api))
        world = World(url=url, rooms=rooms, directory=people, events=log, server=server)
        if populate:
            await _populate_once(world, directory)
        yield world


@dataclass(frozen=True)
class Populated:
    """A database with everybody in it, to copy: making them takes a second."""

    database: bytes
    tokens: dict[str, str]
    teams: dict[str, str]
    setup_token: str


_populated: list[Populated] = []


async def _populate_once(world: World, directory: Path) -> None:
    if not _populated:
        await populate_world(world)
        copy = directory / "copy.db"
        await back_up(str(directory / "control.db"), copy)
        _populated.append(Populated(copy.read_bytes(), dict(world.tokens), dict(world.teams), world.setup_token))
    made = _populated[0]
    world.tokens, world.teams, world.setup_token = dict(made.tokens), dict(made.teams), made.setup_token


@asynccontextmanager
async def serve(api: object) -> AsyncGenerator[tuple[str, uvicorn.Server]]:
    """Serve ``api`` on a free port of loopback."""
    config = uvicorn.Config(api, log_config=None, lifespan="off", timeout_graceful_shutdown=2, ws="websockets-sansio")
    server = uvicorn.Server(config)
    # With its protocol named: asyncio turns Nagle's algorithm off only for these, else a request costs 40 ms more.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve(sockets=[listening]))  # without its signal handlers
            async with asyncio.timeout(20):
                while not server.started:
                    await asyncio.sleep(0.01)
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}", server
            finally:
                server.should_exit = True
                await serving


async def populate_world(world: World) -> None:
    """Make the people, their tokens, the teams and the two apps."""
    people = world.directory
    token = await people.setup.new_token()
    assert token is not None
    world.setup_token = token
    await people.setup.redeem(token, "admin", PASSWORD)
    for team in ("sellers", "writers"):
        world.teams[team] = (await people.teams.create(team, quota={}, actor="test")).id
    members = {"owner": Role.OWNER, "developer": Role.DEVELOPER, "viewer": Role.VIEWER}
    for name, role in members.items():
        await people.users.create(name, None, is_admin=False, actor="test")
        await people.teams.set_member("sellers", name, role, actor="test")
    await people.users.create("stranger", None, is_admin=False, actor="test")
    await people.teams.set_member("writers", "stranger", Role.OWNER, actor="test")
    await world.rooms.make_app(SHOP, world.teams["sellers"])
    await world.rooms.make_app(BLOG, world.teams["writers"])
    for name in ("admin", *members, "stranger"):
        await make_token(world, name)


async def make_token(world: World, name: str, scopes: tuple[str, ...] | None = None, *, key: str | None = None) -> str:
    """Make a token of a user and keep it under ``key``."""
    user = await world.directory.users.find(name)
    actor = Actor(kind=ActorKind.USER, id=user.id, name=user.name, is_admin=user.is_admin, scope=FULL)
    wanted = scopes if scopes is not None else (("admin",) if user.is_admin else ())
    made = await world.directory.tokens.create_personal(actor, key or "test", wanted, days=1)
    world.tokens[key or name] = made.secret
    return made.secret
