"""A second machine joins a real Swarm by a token, through the first one's agent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from hunqi.agent.main import serve_agent
from hunqi.agent.settings import AgentSettings
from hunqi.engine.client import Docker
from hunqi.errors import HunqiError
from hunqi.kit.codec import decode, encode
from hunqi.nodes.agent_client import AgentClient
from hunqi.nodes.authority import ClusterAuthority
from hunqi.nodes.errors import JoinTokenError
from hunqi.nodes.identity import Role, TlsPaths, client_context
from hunqi.nodes.join import JoinRequest, Joins, JoinWorld
from hunqi.nodes.joining import Joiner, join_cluster
from hunqi.nodes.model import AgentStatus, Roster
from hunqi.nodes.renewal import Known, Renewals
from hunqi.nodes.store import NodeStore
from hunqi.nodes.tokens import JoinDoor
from hunqi.state.database import open_database
from support_agent import CLUSTER, NOW, agent_settings, running, write_credential
from testbed.programs import free_port
from testbed.swarm import swarm

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("three-nodes")]


async def test_a_machine_joins_the_swarm_and_its_agent_is_reached(tmp_path: Path) -> None:
    with swarm(2, joined=1) as bed:
        first, second = bed.machines
        authority = ClusterAuthority.make(CLUSTER, now=NOW)
        async with (
            Docker(str(first.socket)) as docker,
            Docker(str(second.socket)) as other,
            open_database(str(tmp_path / "state.db")) as database,
        ):
            store = NodeStore(database)

            async def managers() -> tuple[str, ...]:
                return tuple(f"{node.address}:2377" for node in await docker.nodes.list() if node.role == "manager")

            joins = Joins(
                JoinWorld(
                    store=store,
                    authority=authority,
                    swarm=docker.swarm,
                    nodes=docker.nodes,
                    managers=managers,
                    settings={},
                    now=lambda: datetime.now(UTC),
                )
            )
            async with _control(joins) as url, _agent(tmp_path, authority, first.socket, url) as door:
                text = str(await joins.issue("worker", doors=(door,)))
                joiner = Joiner(
                    system=other.system,
                    swarm=other.swarm,
                    agent_dir=tmp_path / "two/agent",
                    mirror_dir=tmp_path / "two/mirror",
                    host=second.address,
                    agent_port=free_port(),
                )
                joined = await join_cluster(text, joiner)
                assert joined.answer.role == "worker"
                assert (await join_cluster(text, joiner)).node == joined.node, "done again, it changes nothing"
                elsewhere = tmp_path / "three"
                with pytest.raises(JoinTokenError):
                    await join_cluster(text, _elsewhere(joiner, elsewhere))
                node = await docker.nodes.inspect(joined.node)
                assert (node.hostname, node.role, node.state) == (second.hostname, "worker", "ready")

                settings = AgentSettings(
                    data_dir=joiner.agent_dir,
                    cluster=joined.answer.cluster,
                    node=joined.node,
                    host="127.0.0.1",
                    port=joiner.agent_port,
                    docker_socket=second.socket,
                    has_gateway=False,
                    mirror_tls=TlsPaths(
                        cert=joiner.mirror_dir / "peer.pem",
                        key=joiner.mirror_dir / "peer.key",
                        ca=joiner.mirror_dir / "cluster-ca.pem",
                    ),
                )
                listening = asyncio.Event()
                async with running(serve_agent(settings, on_listening=listening.set)):
                    async with asyncio.timeout(20):
                        await listening.wait()
                    await _reach(tmp_path, authority, store, joined.node, joiner.agent_port)


async def _reach(directory: Path, authority: ClusterAuthority, store: NodeStore, node: str, port: int) -> None:
    """Speak to the new agent as control does; only its address is another one here (the host's loopback)."""
    roster = await store.roster()
    (member,) = roster.members
    here = replace(roster, members=(replace(member, address=f"127.0.0.1:{port}"),))
    credential = authority.issue(Role.CONTROL, "one", now=NOW)
    paths = write_credential(directory / "control", credential, authority.ca_pem)
    client = AgentClient(client_context(paths), lambda: here)
    try:
        status = await client.status(node)
        assert status.node == node
        assert not status.renew
        # Renewed from one certificate that is to be renewed to another: agent and mirror keep their name.
        long = ClusterAuthority(CLUSTER, authority.credential, life=timedelta(days=200))
        await Renewals(client, long, _known(here, status), now=lambda: NOW).renew(here.members[0])
        renewed = await client.status(node)
        assert renewed.expires_at > status.expires_at + 100 * 86400
        assert not renewed.renew
    finally:
        await client.close()


def _known(roster: Roster, status: AgentStatus) -> Known:
    class One:
        def current(self) -> Roster:
            return roster

        def status(self, node: str) -> AgentStatus | None:
            return status

    return One()


def _elsewhere(joiner: Joiner, directory: Path) -> Joiner:
    return replace(joiner, agent_dir=directory / "agent", mirror_dir=directory / "mirror")


@contextlib.asynccontextmanager
async def _agent(directory: Path, authority: ClusterAuthority, docker: Path, control: str) -> AsyncGenerator[JoinDoor]:
    settings, name = agent_settings(
        directory / "one", authority, "n1", docker_socket=docker, has_gateway=False, control_url=control
    )
    listening = asyncio.Event()
    async with running(serve_agent(settings, on_listening=listening.set)):
        async with asyncio.timeout(20):
            await listening.wait()
        yield JoinDoor(agent=name, address=f"127.0.0.1:{settings.port}")


@contextlib.asynccontextmanager
async def _control(joins: Joins) -> AsyncGenerator[str]:
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
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
