"""Control and agents over the wire: every path with every role, the values that travel, and who cannot come in."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from hunqi.agent.access import ALLOWED, ANONYMOUS
from hunqi.agent.rosters import RosterFile
from hunqi.agent.settings import AgentSettings
from hunqi.agent.tables import Tables
from hunqi.gateway.counting import GatewayCounts
from hunqi.nodes.agent_client import AgentClient
from hunqi.nodes.authority import HOLDER_LIFE, ClusterAuthority
from hunqi.nodes.errors import AgentRefusedError, AgentUnreachableError, NoAgentError
from hunqi.nodes.identity import Role, client_context, pinned_context
from hunqi.nodes.model import AgentStatus, Member, Roster
from hunqi.nodes.renewal import Renewals
from hunqi.nodes.wire import GivenCertificates, ScrapeOrder, ScrapeTarget
from hunqi.telemetry.histogram import Histogram
from hunqi.telemetry.wire import ClusterCounts, HeldCounts
from support_agent import CLUSTER, NOW, MemoryGateway, agent_settings, served_without_docker, table_of, write_credential


@dataclass(kw_only=True)
class Served:
    """An agent that listens."""

    settings: AgentSettings
    name: str
    gateway: MemoryGateway
    tables: Tables
    authority: ClusterAuthority
    directory: Path
    told: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.settings.port}"

    def roster(self) -> Roster:
        member = Member(node="n1", name="one", address=self.address, agent=self.name)
        return Roster(version=3, members=(member,))

    def context(self, role: Role, *, authority: ClusterAuthority | None = None, cluster: str = "") -> ssl.SSLContext:
        signer = authority or self.authority
        if cluster:
            signer = ClusterAuthority(cluster, signer.credential)
        folder = self.directory / f"client-{role}-{cluster}-{id(signer)}"
        return client_context(write_credential(folder, signer.issue(role, "one", now=NOW), self.authority.ca_pem))

    async def knows(self, *agents: str) -> None:
        """Tell the agent which others there are."""
        others = tuple(Member(node=name, name=name, address="127.0.0.1:1", agent=name) for name in agents)
        roster = self.roster()
        self.told += 1
        async with self.client() as client:
            await client.put_roster("n1", Roster(version=3 + self.told, members=(*roster.members, *others)))

    @contextlib.asynccontextmanager
    async def client(self, role: Role = Role.CONTROL) -> AsyncGenerator[AgentClient]:
        client = AgentClient(self.context(role), self.roster)
        try:
            yield client
        finally:
            await client.close()


@contextlib.asynccontextmanager
async def served(directory: Path, *, life: timedelta = HOLDER_LIFE, **more: Any) -> AsyncGenerator[Served]:
    authority = ClusterAuthority.make(CLUSTER, now=NOW - timedelta(days=1), life=life)
    settings, name = agent_settings(directory / "agent", authority, "n1", **more)
    gateway = MemoryGateway()
    async with served_without_docker(settings, gateway) as tables:
        yield Served(
            settings=settings,
            name=name,
            gateway=gateway,
            tables=tables,
            authority=authority,
            directory=directory,
        )


async def test_a_table_a_report_and_a_drain_travel(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, agent.client() as client:
        table = table_of("a", "b", version=12)
        assert await client.push_table("n1", table) == 12
        report = await client.report("n1")
        while report.report.version != 12:
            report = await client.report("n1", after=report.seq, wait_s=5)
        assert {each.address for each in report.report.endpoints} == {"10.0.0.1", "10.0.0.2"}
        assert agent.gateway.applied[-1].clusters == table.clusters
        agent.gateway.open["10.0.0.1"] = 2
        assert await client.drain("n1", ["a"], timeout_s=0.6) == {"a": 2}
        agent.gateway.open.clear()
        assert await client.drain("n1", ["a"], timeout_s=5) == {}
        status = await client.status("n1")
        assert (status.node, status.table, status.gateway) == ("n1", 12, True)


async def test_a_sample_travels_with_what_could_not_be_measured_as_sentences(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, agent.client() as client:
        counted = ClusterCounts(
            backend="shop_web-r7",
            app="shop",
            service="web",
            revision=7,
            port=8080,
            requests=5,
            classes={2: 4, 5: 1},
            latency=Histogram.of([3.0, 250.0]),
        )
        held = HeldCounts(app="shop", service="web", waiting=1, since_start=9)
        agent.gateway.counts = GatewayCounts(boot="b7", answered=True, clusters=(counted,), held=(held,))
        agent.gateway.open["10.0.0.1"] = 3
        await client.push_table("n1", table_of("a"))
        while not (report := await client.report("n1")).report.endpoints:
            await client.report("n1", after=report.seq, wait_s=5)
        sample = await client.measure("n1", ScrapeOrder(targets=(ScrapeTarget(task="none", port=1),)))
        assert (sample.node, sample.boot, sample.gateway) == ("n1", "b7", True)
        assert sample.clusters == (replace(counted, active=3),)
        assert sample.held == (held,)
        assert (sample.tasks, sample.custom) == ((), ())
        (problem,) = sample.problems
        assert "which tasks run here cannot be asked" in problem
        agent.gateway.is_deaf = True
        deaf = await client.measure("n1", ScrapeOrder())
        assert (deaf.boot, deaf.gateway, deaf.clusters) == ("b7", False, ())
        assert "Envoy does not answer" in deaf.problems


async def test_a_roster_is_kept_over_a_restart(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, agent.client() as client:
        await client.put_roster("n1", agent.roster())
        again = RosterFile(agent.settings.data_dir)
        again.load()
        assert again.current() == agent.roster()


@pytest.mark.parametrize("role", list(Role))
async def test_every_path_lets_in_the_roles_that_it_names_and_no_others(tmp_path: Path, role: Role) -> None:
    async with served(tmp_path) as agent:
        await agent.knows("one")
        connector = aiohttp.TCPConnector(ssl=agent.context(role))
        async with aiohttp.ClientSession(connector=connector) as session:
            for path, roles in ALLOWED.items():
                statuses = set()
                for method in ("GET", "PUT", "POST"):
                    name = f"{agent.name}.agent.hunqi"
                    url = f"https://{agent.address}{path}"
                    async with session.request(method, url, server_hostname=name, data=b"{") as answer:
                        statuses.add(answer.status)
                assert (statuses == {403}) == (role not in roles), path


async def test_a_node_that_was_removed_is_refused_at_once_though_its_certificate_lasts(tmp_path: Path) -> None:
    async with served(tmp_path) as agent:
        await agent.knows("one")
        async with agent.client(Role.AGENT) as removed:
            assert (await removed.status("n1")).node == "n1"
            await agent.knows()
            # By the connection that it has still.
            with pytest.raises(AgentRefusedError, match="not of the cluster"):
                await removed.drain("n1", ["a"], timeout_s=0.1)
        async with agent.client() as control:
            assert (await control.status("n1")).node == "n1"


@dataclass(kw_only=True)
class Known:
    """What control found of one agent."""

    roster: Roster
    said: AgentStatus

    def current(self) -> Roster:
        return self.roster

    def status(self, node: str) -> AgentStatus:
        return self.said


async def test_certificates_are_renewed_and_no_connection_is_cut(tmp_path: Path) -> None:
    now = datetime.now(UTC)  # NOW is when the worker began: by now it may be ten minutes ago
    life, issued = timedelta(minutes=90), now - timedelta(minutes=80)
    async with served(tmp_path, life=life, issued=issued) as agent, agent.client() as client:
        said = await client.status("n1")
        assert said.renew
        assert said.expires_at == pytest.approx((issued + life).timestamp(), abs=2)
        waiting = asyncio.ensure_future(client.report("n1", after=(await client.report("n1")).seq, wait_s=10))
        await asyncio.sleep(0.1)
        key, before = agent.settings.tls.key.read_text(), await presented(agent)
        known = Known(roster=agent.roster(), said=said)
        await Renewals(client, agent.authority, known, now=lambda: now).renew_all()
        after = await client.status("n1")
        assert not after.renew
        assert after.expires_at == pytest.approx((now + life).timestamp(), abs=2)
        assert agent.settings.tls.key.read_text() != key
        fresh = await presented(agent)
        assert fresh["serialNumber"] != before["serialNumber"]
        assert fresh["subjectAltName"][:2] == before["subjectAltName"][:2], "another identity"
        assert not waiting.done(), "the connection was cut"
        agent.gateway.is_running = False
        async with asyncio.timeout(5):
            assert not (await waiting).report.running


async def presented(agent: Served) -> dict[str, Any]:
    """Return the certificate that the agent shows at a new connection."""
    context = agent.context(Role.CONTROL)
    host, _, port = agent.address.rpartition(":")
    name = f"{agent.name}.agent.hunqi"
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
    try:
        found: dict[str, Any] = writer.get_extra_info("peercert")
        return found
    finally:
        writer.close()


async def test_an_agent_takes_no_certificate_of_another_holder(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, agent.client() as client:
        asked = await client.certificate_requests("n1")
        now = NOW
        given = agent.authority.sign(asked.agent, Role.AGENT, name="somebody", now=now)
        before = agent.settings.tls.cert.read_text()
        with pytest.raises(AgentRefusedError, match="another holder"):
            await client.put_certificates("n1", GivenCertificates(agent=given))
        assert agent.settings.tls.cert.read_text() == before
        assert (await client.status("n1")).node == "n1"


async def test_an_agent_whose_certificate_is_over_is_said_to_join_again(tmp_path: Path) -> None:
    life, issued = timedelta(minutes=10), NOW - timedelta(minutes=30)
    async with served(tmp_path, life=life, issued=issued) as agent:
        valid = ClusterAuthority(CLUSTER, agent.authority.credential)
        paths = write_credential(tmp_path / "c", valid.issue(Role.CONTROL, "one", now=NOW), valid.ca_pem)
        client = AgentClient(client_context(paths), agent.roster)
        try:
            with pytest.raises(AgentUnreachableError, match=r"has expired.*join again"):
                await client.status("n1")
        finally:
            await client.close()


async def test_an_agent_of_another_cluster_or_authority_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as agent:
        name = f"{agent.name}.agent.hunqi"
        other = ClusterAuthority.make("c2", now=NOW)
        for context, refused in (
            (agent.context(Role.CONTROL, cluster="c2"), 403),
            (agent.context(Role.CONTROL, authority=other), None),
        ):
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
                url = f"https://{agent.address}/v1/status"
                if refused:
                    async with session.get(url, server_hostname=name) as answer:
                        assert answer.status == refused
                else:
                    with pytest.raises(aiohttp.ClientError):
                        await session.get(url, server_hostname=name)


async def test_without_a_certificate_only_the_door_is_open(tmp_path: Path) -> None:
    async with served(tmp_path) as agent:
        connector = aiohttp.TCPConnector(ssl=pinned_context(agent.authority.ca_pem))
        async with aiohttp.ClientSession(connector=connector) as session:
            name = f"{agent.name}.agent.hunqi"
            for path in ALLOWED:
                async with session.get(f"https://{agent.address}{path}", server_hostname=name) as answer:
                    assert answer.status == 403, path
            async with session.get(f"https://{agent.address}/v1/ca", server_hostname=name) as answer:
                assert (await answer.json())["ca"] == agent.authority.ca_pem
            async with session.get(f"https://{agent.address}/v1/../etc/passwd", server_hostname=name) as answer:
                assert answer.status == 403
    assert frozenset({"/v1/ca", "/v1/join"}) == ANONYMOUS


async def test_a_join_is_handed_to_control_and_its_answer_back(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def join(request: web.Request) -> web.Response:
        seen.append(await request.json())
        return web.json_response({"type": "about:blank", "code": "nodes.join-token"}, status=403)

    app = web.Application()
    app.router.add_post("/v1/join", join)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with served(tmp_path, control_url=f"http://127.0.0.1:{port}") as agent:
            connector = aiohttp.TCPConnector(ssl=pinned_context(agent.authority.ca_pem))
            async with aiohttp.ClientSession(connector=connector) as session:
                url, name = f"https://{agent.address}/v1/join", f"{agent.name}.agent.hunqi"
                async with session.post(url, json={"secret": "s"}, server_hostname=name) as answer:
                    assert (answer.status, (await answer.json())["code"]) == (403, "nodes.join-token")
                async with session.post(url, data=b"x" * 100_000, server_hostname=name) as answer:
                    assert answer.status == 400
    finally:
        await runner.cleanup()
    assert seen == [{"secret": "s"}]


async def test_a_server_with_another_name_is_not_believed(tmp_path: Path) -> None:
    async with served(tmp_path) as agent:
        member = Member(node="n1", name="one", address=agent.address, agent="0" * 32)
        client = AgentClient(agent.context(Role.CONTROL), lambda: Roster(version=1, members=(member,)))
        with pytest.raises(AgentUnreachableError):
            await client.status("n1")
        await client.close()


async def test_errors_say_who_can_do_something(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, agent.client() as client:
        with pytest.raises(NoAgentError):
            await client.status("n9")
        with pytest.raises(AgentRefusedError) as refused:
            await client.put_files("n1", "c", "relative", _nothing())
        assert refused.value.remote_code == "agent.bad-request"
        with pytest.raises(Exception, match="mirror") as failed:
            await client.warm("n1", ["127.0.0.1:5000/docker.io/library/nginx@sha256:0"])
        assert failed.value.remote_code == "agent.no-mirror"  # type: ignore[attr-defined]


async def test_a_listener_that_is_gone_is_told_from_a_machine_that_is_silent(tmp_path: Path) -> None:
    async with served(tmp_path) as agent:
        pass
    client = AgentClient(agent.context(Role.CONTROL), agent.roster)
    with pytest.raises(AgentUnreachableError) as found:
        await client.status("n1")
    assert found.value.is_refused
    await client.close()


async def test_a_caller_that_leaves_ends_its_wait(tmp_path: Path) -> None:
    async with served(tmp_path) as agent, agent.client() as client:
        report = await client.report("n1", wait_s=1)
        waiting = asyncio.create_task(client.report("n1", after=report.seq, wait_s=50))
        await asyncio.sleep(0.2)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0.3)
        looks = agent.gateway.looks
        await asyncio.sleep(1.5)
        assert agent.gateway.looks <= looks + 1


async def _nothing() -> AsyncGenerator[bytes]:
    yield b""
