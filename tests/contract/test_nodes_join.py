"""Joining, over the wire: a machine with a token becomes a member, and nobody else does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hunqi.agent.door import Door
from hunqi.engine.errors import NotFoundError
from hunqi.engine.model import EngineInfo, Node, SwarmSettings, SwarmState
from hunqi.errors import HunqiError
from hunqi.kit.codec import decode, encode
from hunqi.nodes.authority import ClusterAuthority
from hunqi.nodes.errors import JoinTokenError, NodeRefusedError
from hunqi.nodes.identity import TlsPaths, client_context, server_context
from hunqi.nodes.join import JoinRequest, Joins, JoinWorld
from hunqi.nodes.joining import Joiner, NotJoinedError, join_cluster
from hunqi.nodes.store import NodeStore
from hunqi.nodes.tokens import JoinDoor, JoinToken
from hunqi.state.database import open_database
from support_agent import CLUSTER, NOW, agent_settings
from testbed.programs import free_port

HOST = "10.0.0.9"


@dataclass(kw_only=True)
class MemorySwarm:
    """A Swarm and the machine that joins it, in memory."""

    nodes: dict[str, Node] = field(default_factory=dict[str, Node])
    state: str = "inactive"
    node_id: str = ""
    joined: list[tuple[Sequence[str], str]] = field(default_factory=list[tuple[Sequence[str], str]])

    async def inspect(self) -> SwarmSettings:
        return SwarmSettings(id="s", version=1, worker_token="W", manager_token="M", address_pools=(), subnet_size=24)

    async def info(self) -> EngineInfo:
        swarm = SwarmState(
            state=self.state,
            is_manager=False,
            node_id=self.node_id,
            node_address=HOST,
            managers=(),
            cluster_id="",
            error="",
        )
        return EngineInfo(
            name="two",
            version="20",
            os="linux",
            arch="x86_64",
            kernel="6",
            cpus=2,
            memory_bytes=1,
            storage_driver="overlay2",
            cgroup_version="2",
            data_root="/",
            swarm=swarm,
        )

    async def join(self, *, managers: Sequence[str], token: str, advertise: str) -> None:
        self.joined.append((managers, token))
        self.state, self.node_id = "active", "node2"
        self.nodes["node2"] = node("node2", "two")


class MemoryNodes:
    """The Swarm's nodes, as a manager tells them."""

    def __init__(self, swarm: MemorySwarm) -> None:
        self._swarm = swarm

    async def inspect(self, name: str, /) -> Node:
        if name not in self._swarm.nodes:
            raise NotFoundError(name)
        return self._swarm.nodes[name]


def node(id_: str, hostname: str) -> Node:
    return Node(
        id=id_,
        version=1,
        hostname=hostname,
        role="worker",
        availability="active",
        state="ready",
        address=HOST,
        labels={},
        is_leader=False,
        reachable=True,
        nano_cpus=1,
        memory_bytes=1,
        engine_version="20",
        platform="linux/x86_64",
        spec={},
    )


@dataclass(kw_only=True)
class Cluster:
    """A cluster with an agent's door and control behind it."""

    authority: ClusterAuthority
    store: NodeStore
    joins: Joins
    swarm: MemorySwarm
    door: JoinDoor
    directory: Path
    clock: list[datetime]

    def joiner(self) -> Joiner:
        return Joiner(
            system=self.swarm,
            swarm=self.swarm,
            agent_dir=self.directory / "two/agent",
            mirror_dir=self.directory / "two/mirror",
            host=HOST,
            agent_port=7001,
        )

    async def token(self, role: str = "worker") -> JoinToken:
        return await self.joins.issue(role, doors=(self.door,))


@contextlib.asynccontextmanager
async def cluster(directory: Path) -> AsyncGenerator[Cluster]:
    authority = ClusterAuthority.make(CLUSTER, now=NOW)
    settings, name = agent_settings(directory / "one", authority, "n1")
    swarm, clock = MemorySwarm(), [NOW]

    async def managers() -> tuple[str, ...]:
        return ("10.0.0.1:2377",)

    async with open_database(str(directory / "state.db")) as database:
        store = NodeStore(database)
        joins = Joins(
            JoinWorld(
                store=store,
                authority=authority,
                swarm=swarm,
                nodes=MemoryNodes(swarm),
                managers=managers,
                settings={"peers_port": 5001},
                now=lambda: clock[0],
            )
        )
        control, url = await _control(joins)
        door = Door(ca_file=settings.tls.ca, control_url=url)
        app = web.Application()
        app.router.add_get("/v1/ca", door.authority)
        app.router.add_post("/v1/join", door.join)
        runner = web.AppRunner(app)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=server_context(settings.tls, anonymous=True)).start()
        try:
            yield Cluster(
                authority=authority,
                store=store,
                joins=joins,
                swarm=swarm,
                door=JoinDoor(agent=name, address=f"127.0.0.1:{port}"),
                directory=directory,
                clock=clock,
            )
        finally:
            await runner.cleanup()
            await control.cleanup()


async def _control(joins: Joins) -> tuple[web.AppRunner, str]:
    async def answer(request: web.Request) -> web.Response:
        try:
            return web.json_response(encode(await joins.answer(decode(JoinRequest, await request.json()))))
        except HunqiError as error:
            return web.json_response({"code": error.code, "detail": str(error)}, status=403)

    app = web.Application()
    app.router.add_post("/v1/join", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


@pytest.mark.parametrize(("role", "swarm_token"), [("worker", "W"), ("manager", "M")])
async def test_a_machine_with_a_token_becomes_a_member(tmp_path: Path, role: str, swarm_token: str) -> None:
    async with cluster(tmp_path) as it:
        joined = await join_cluster(str(await it.token(role)), it.joiner())
        assert joined.node == "node2"
        assert it.swarm.joined == [(("10.0.0.1:2377",), swarm_token)]
        assert joined.answer.settings == {"peers_port": 5001}
        roster = await it.store.roster()
        assert [(each.node, each.name, each.address) for each in roster.members] == [("node2", "two", f"{HOST}:7001")]
        assert joined.answer.roster == roster
        files = it.joiner()
        paths = TlsPaths(
            cert=files.agent_dir / "agent.pem",
            key=files.agent_dir / "agent.key",
            ca=files.agent_dir / "cluster-ca.pem",
        )
        assert client_context(paths)
        for path in (*files.agent_dir.iterdir(), *files.mirror_dir.iterdir()):
            assert path.stat().st_mode & 0o077 == 0, path


async def test_a_token_serves_one_machine(tmp_path: Path) -> None:
    async with cluster(tmp_path) as it:
        text = str(await it.token())
        await join_cluster(text, it.joiner())
        other = replace(it.joiner(), agent_dir=tmp_path / "three/agent", mirror_dir=tmp_path / "three/mirror")
        with pytest.raises(JoinTokenError, match="another machine"):
            await join_cluster(text, other)


async def test_an_interrupted_joining_is_done_again(tmp_path: Path) -> None:
    async with cluster(tmp_path) as it:
        text = str(await it.token())
        for path in ("agent.pem", "cluster-ca.pem"):
            await join_cluster(text, it.joiner())
            (it.joiner().agent_dir / path).unlink()
        joined = await join_cluster(text, it.joiner())
        assert joined.node == "node2"
        assert len((await it.store.roster()).members) == 1
        assert len(it.swarm.joined) == 1


async def test_a_token_expires(tmp_path: Path) -> None:
    async with cluster(tmp_path) as it:
        text = str(await it.token())
        it.clock[0] = NOW + timedelta(hours=2)
        with pytest.raises(JoinTokenError, match="expired"):
            await join_cluster(text, it.joiner())
        assert it.swarm.joined == []


async def test_a_revoked_or_invented_token_opens_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path) as it:
        text = str(await it.token())
        await it.store.remove_token((await it.store.tokens())[0].id)
        with pytest.raises(JoinTokenError):
            await join_cluster(text, it.joiner())
        invented = JoinToken.make(it.authority.fingerprint, (it.door,))
        with pytest.raises(JoinTokenError):
            await join_cluster(str(invented), it.joiner())
        assert it.swarm.joined == []


async def test_another_clusters_door_is_not_believed(tmp_path: Path) -> None:
    async with cluster(tmp_path / "a") as it, cluster(tmp_path / "b") as other:
        token = await it.token()
        lured = JoinToken(ca_fingerprint=token.ca_fingerprint, secret=token.secret, doors=(other.door,))
        with pytest.raises(NotJoinedError, match="not of the cluster"):
            await join_cluster(str(lured), it.joiner())
        assert (await it.store.tokens())[0].used_at is None


async def test_another_agent_of_the_cluster_cannot_pass_for_the_door(tmp_path: Path) -> None:
    async with cluster(tmp_path) as it:
        token = await it.token()
        lured = JoinToken(
            ca_fingerprint=token.ca_fingerprint,
            secret=token.secret,
            doors=(JoinDoor(agent="0" * 32, address=it.door.address),),
        )
        with pytest.raises(NotJoinedError):
            await join_cluster(str(lured), it.joiner())
        assert (await it.store.tokens())[0].used_at is None


async def test_a_door_that_is_closed_is_passed_by(tmp_path: Path) -> None:
    async with cluster(tmp_path) as it:
        closed = JoinDoor(agent="0" * 32, address=f"127.0.0.1:{free_port()}")
        token = await it.joins.issue("worker", doors=(closed, it.door))
        assert (await join_cluster(str(token), it.joiner())).node == "node2"


async def test_a_machine_of_another_swarm_is_no_member(tmp_path: Path) -> None:
    async with cluster(tmp_path) as it:
        it.swarm.state, it.swarm.node_id = "active", "elsewhere"
        with pytest.raises(JoinTokenError, match="another Swarm"):
            await join_cluster(str(await it.token()), it.joiner())
        assert it.swarm.joined == []
        assert (await it.store.roster()).members == ()


async def test_a_node_cannot_be_claimed_by_another_machine(tmp_path: Path) -> None:
    async with cluster(tmp_path) as it:
        it.swarm.nodes["victim"] = node("victim", "three")
        it.swarm.state, it.swarm.node_id = "active", "victim"
        with pytest.raises(JoinTokenError, match="another machine"):
            await join_cluster(str(await it.token()), it.joiner())


async def test_tokens_are_kept_as_hashes_and_shown_nowhere(tmp_path: Path) -> None:
    async with cluster(tmp_path) as it:
        token = await it.token()
        assert token.secret not in repr(token)
        held = await asyncio.to_thread((tmp_path / "state.db").read_bytes)
        wal = tmp_path / "state.db-wal"
        held += wal.read_bytes() if wal.exists() else b""
        assert token.secret.encode() not in held
        assert "secret" not in json.dumps(encode((await it.store.tokens())[0]))


@pytest.mark.parametrize(
    ("role", "valid", "doors"),
    [
        ("root", timedelta(hours=1), 1),
        ("worker", timedelta(days=8), 1),
        ("worker", timedelta(0), 1),
        ("worker", timedelta(1), 0),
    ],
)
async def test_senseless_tokens_are_not_made(tmp_path: Path, role: str, valid: timedelta, doors: int) -> None:
    async with cluster(tmp_path) as it:
        with pytest.raises(NodeRefusedError):
            await it.joins.issue(role, doors=(it.door,) * doors, valid=valid)


@pytest.mark.parametrize("text", ["", "hj1.", "hj1.AAAA", "x" * 50, "hj1." + "A" * 5000, "hj1." + "é" * 60])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(JoinTokenError):
        JoinToken.parse(text)


def test_a_token_is_read_as_it_was_written() -> None:
    door = JoinDoor(agent="a" * 32, address="[fd00::1]:7001")
    token = JoinToken.make("f" * 64, (door, JoinDoor(agent="b" * 32, address="manager.example:7001")))
    text = str(token)
    assert JoinToken.parse(f"  {text[:40]}\n{text[40:]} ") == token


async def test_a_machine_that_came_back_is_one_member(tmp_path: Path) -> None:
    async with cluster(tmp_path) as it:
        await join_cluster(str(await it.token()), it.joiner())
        before = await it.store.roster()
        it.swarm.nodes = {"node9": node("node9", "two")}
        it.swarm.node_id = "node9"
        await join_cluster(str(await it.token()), it.joiner())
        after = await it.store.roster()
        assert [each.node for each in after.members] == ["node9"]
        assert after.version > before.version
        assert datetime.fromisoformat((await it.store.records())["node9"].joined_at).tzinfo == UTC


async def test_requests_with_one_key_for_two_are_refused(tmp_path: Path) -> None:
    async with cluster(tmp_path) as it:
        from hunqi.nodes.authority import make_request

        _, request = make_request()
        asked: dict[str, Any] = {"agent_request": request, "mirror_request": request}
        with pytest.raises(NodeRefusedError):
            await it.joins.answer(JoinRequest(secret="s", name="two", host=HOST, agent_port=7001, **asked))
