"""What is measured, through the interface, the client and the commands; as others scrape it, and are asked."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sqlalchemy import select
from test_cli_cluster import Terminal

from hunqi.client.errors import RefusedError, UnavailableError
from hunqi.state.tables import METRIC_SOURCES
from hunqi.telemetry.errors import NotMeasuredError, PromQueryError, PromUnavailableError, SourceError
from hunqi.telemetry.exposition import expose
from hunqi.telemetry.prometheus import Prometheus, Server
from support_api import BLOG, SHOP, World, run_world
from support_telemetry import Node, measuring


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with run_world(tmp_path) as running:
        running.rooms.telemetry.measure(SHOP, BLOG, rounds=13)
        yield running


async def test_values_are_answered_from_memory_and_the_history_is_asked_for_what_is_older(world: World) -> None:
    async with world.client("viewer") as viewer:
        rps = await viewer.metrics.query(SHOP, "rps", service="web", since_s=300, step_s=60)
        assert rps["unit"] == "requests/s"
        assert {round(point["value"], 1) for line in rps["lines"] for point in line["points"]} == {10.0}
        assert rps["measured_until"] == pytest.approx(time.time(), abs=60)
        assert world.rooms.telemetry.asked[-1]["end"] <= rps["until"]
        for measure, value in (("error-rate", 0.1), ("success-rate", 0.9), ("active", 2), ("cpu", 0.2), ("tasks", 1)):
            found = await viewer.metrics.query(SHOP, measure, since_s=300, step_s=60, by="service")
            (line,) = found["lines"]
            assert line["name"] == "web"
            assert line["points"][-1]["value"] == pytest.approx(value, rel=0.01), measure
        p99 = await viewer.metrics.query(SHOP, "p99", since_s=300, step_s=60, by="revision")
        assert [line["name"] for line in p99["lines"]] == ["web-r1"]
        assert (await viewer.metrics.query(SHOP, "own_metric"))["lines"] == []
        for measure, more in (("rps", {"by": "task"}), ("no-such", {}), ("rps", {"since_s": 86_400, "step_s": 5})):
            with pytest.raises(RefusedError) as refused:
                await viewer.metrics.query(SHOP, measure, **more)  # type: ignore[arg-type]
            assert (refused.value.status, refused.value.problem_code) == (422, "telemetry.measure")


async def test_nobody_sees_what_another_team_measures(world: World) -> None:
    for who, mine in (("viewer", {SHOP}), ("stranger", {BLOG}), ("admin", {SHOP, BLOG})):
        async with world.client(who) as client:
            assert {row["app"] for row in await client.metrics.top()} == mine
        headers = {"Authorization": f"Bearer {world.tokens[who]}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.get(f"{world.url}/v1/metrics") as answer:
                assert answer.content_type == "application/openmetrics-text"
                families = list(text_string_to_metric_families(await answer.text()))
            assert {sample.labels["app"] for family in families for sample in family.samples} == mine
            other = ({SHOP, BLOG} - mine or {"absent"}).pop()
            async with session.get(f"{world.url}/v1/apps/{other}/metrics/rps") as answer:
                assert answer.status == 404
            async with session.get(f"{world.url}/v1/metrics/top?team=writers") as answer:
                seen = {row["app"] for row in (await answer.json()).get("items", ())}
                assert (answer.status, seen) == ((404, set()) if who == "viewer" else (200, {BLOG}))
    async with world.client("admin") as admin:
        assert [row["rps"] for row in await admin.metrics.top()] == pytest.approx([10, 10], rel=0.01)
    world.rooms.leading = False
    async with world.client("admin") as admin:
        with pytest.raises(UnavailableError) as refused:
            await admin.metrics.top()
        assert refused.value.problem_code == "api.not-leader"


async def test_sources_are_kept_sealed_and_shown_without_their_tokens(world: World) -> None:
    async with world.client("admin") as admin:
        made = await admin.metrics.set_source("prom", "http://127.0.0.1:9/prom/", token="secret-of-prom")
        assert (made["url"], made["has_token"], made["has_ca"]) == ("http://127.0.0.1:9/prom", True, False)
        assert [each["name"] async for each in admin.metrics.sources()] == ["prom"]
        for url in ("ftp://x", "http://a:b@x", "http://", "http://x/?q=1", "x"):
            with pytest.raises(RefusedError) as refused:
                await admin.metrics.set_source("other", url)
            assert refused.value.problem_code == "telemetry.source"
        async with world.rooms.database.read() as connection:
            (sealed,) = (await connection.execute(select(METRIC_SOURCES.c.sealed))).scalars()
        assert b"secret" not in sealed
        await admin.metrics.remove_source("prom")
        with pytest.raises(RefusedError) as refused:
            await admin.metrics.remove_source("prom")
        assert refused.value.status == 404
    events = await world.events.read(limit=500)
    told = [event for event in events if event.kind.startswith("metric-source")]
    assert [event.kind for event in told] == ["metric-source.set", "metric-source.removed"]
    assert "secret-of-prom" not in json.dumps([event.reason for event in events])


async def test_the_commands_show_it(world: World, tmp_path: Path) -> None:
    hunqi = Terminal(world=world, home=tmp_path, token=world.tokens["admin"])
    said = await hunqi("metrics", "query", SHOP, "web", "p95", "--since", "10m")
    assert said.code == 0, said.err
    assert "┤" in said.out
    assert "31.6 ms" in said.out
    assert "p95" in said.out
    said = await hunqi("metrics", "query", SHOP, "rps", "--since", "5m", "--step", "60s", "--csv")
    assert said.out.splitlines()[0] == "time,name,rps"
    said = await hunqi("metrics", "top", "--team", "sellers")
    assert (SHOP in said.out, BLOG in said.out) == (True, False)
    assert "10 %" in said.out
    (tmp_path / "token").write_text("secret-of-prom\n")
    said = await hunqi("metrics", "source", "add", "prom", "http://127.0.0.1:9", "--token-file", "token")
    assert said.code == 0, said.err
    listed = await hunqi("metrics", "source", "ls")
    assert ("prom" in listed.out, "secret-of-prom" in said.out + listed.out) == (True, False)


def test_labels_are_escaped_and_buckets_are_cumulative() -> None:
    measured = measuring("a")
    node = Node("a")
    node.requests['sh"op', "we\nb", 1] = []
    measured.nodes["a"] = node
    measured.poll()
    node.requests['sh"op', "we\nb", 1] += [0.05, 5, 50, 500, 2e6, -50]
    node.held['sh"op', "we\nb"] = 2
    measured.poll()
    text = expose(measured.live, {'sh"op'}, now=measured.clock.now)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {
        "hunqi_app_requests", "hunqi_app_request_seconds", "hunqi_app_held_requests", "hunqi_task_cpu_seconds",
        "hunqi_task_memory_bytes",
    }  # fmt: skip
    for family in families.values():
        for sample in family.samples:
            assert (sample.labels["app"], sample.labels["service"]) == ('sh"op', "we\nb")
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for sample in families["hunqi_app_request_seconds"].samples
        if sample.name.endswith("_bucket")
    ]
    assert [count for bound, count in buckets if bound in {0.0001, 0.01, 0.1, 1.0, 1000.0, float("inf")}] == [
        1, 2, 4, 5, 5, 6,
    ]  # fmt: skip
    assert sum(sample.value for sample in families["hunqi_app_requests"].samples) == 6
    assert [sample.value for sample in families["hunqi_app_held_requests"].samples] == [2]
    assert expose(measured.live, {"other"}, now=measured.clock.now).endswith("# EOF\n")


@asynccontextmanager
async def prometheus(directory: Path, world: World, token: str) -> AsyncIterator[str]:
    """Run the real one, which scrapes this interface with a token."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Debian's package prometheus is not installed here: make packages")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {
                "job_name": "hunqi",
                "metrics_path": "/v1/metrics",
                "authorization": {"credentials": token},
                "static_configs": [{"targets": [world.url.removeprefix("http://")]}],
            }
        ],
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    with (directory / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


async def test_a_real_prometheus_scrapes_us_and_answers_us(world: World, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(prometheus(tmp_path, world, world.tokens["viewer"]))
        session = world.rooms.telemetry.session = await stack.enter_async_context(aiohttp.ClientSession())
        asked = Prometheus(session, Server(url=url))
        query = 'sum(hunqi_app_requests_total{service="web"})'
        deadline = time.monotonic() + 40
        while True:
            try:
                assert await asked.value(query) == 600, "of the viewer's app, and not of the other's"
                break
            except (NotMeasuredError, PromUnavailableError):
                assert time.monotonic() < deadline, (tmp_path / "prometheus.log").read_text()
                await asyncio.sleep(0.2)
        p50 = "histogram_quantile(0.5, sum by (le) (hunqi_app_request_seconds_bucket))"
        assert await asked.value(p50) == pytest.approx(0.0316, rel=0.6)
        assert await asked.value("scalar(vector(42))") == 42
        assert await asked.value("vector(1) / 0") == float("inf")
        now = time.time()
        points = await asked.values(query, start=now - 5, end=now, step_s=1)
        assert {point.value for point in points} == {600}
        for wrong, error, said in (
            ("sum(", PromQueryError, "does not understand"),
            ("absent_metric", NotMeasuredError, "finds nothing"),
            ("vector(0) / 0", NotMeasuredError, "NaN"),
            ("hunqi_app_requests_total", PromQueryError, "5 series"),
            ('"text"', PromQueryError, "not a string"),
            ("up[1m]", PromQueryError, "not a matrix"),
        ):
            with pytest.raises(error, match=said):
                await asked.value(wrong)
        with pytest.raises(NotMeasuredError):
            await asked.values("absent_metric", start=now - 5, end=now, step_s=1)
        async with world.client("admin") as admin:
            await admin.metrics.set_source("prom", url)
        rooms = world.rooms.telemetry.operations(world.rooms.database)
        assert await rooms.sources.value("prom", "vector(7)") == 7


async def test_a_server_that_is_none_or_slow_or_down_is_an_error_and_never_a_number() -> None:
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        match (await request.post())["query"]:
            case "page":
                return web.Response(text="<html>")
            case "locked":
                return web.json_response({"status": "error"}, status=401)
            case "elsewhere":
                raise web.HTTPFound("http://127.0.0.1:9/")
            case "odd":
                return web.json_response({"status": "success", "data": {"resultType": "vector", "result": [{}]}})
            case "huge":
                return web.Response(body=b" " * 5_000_000)
            case _:
                await asyncio.sleep(30)
                return web.Response()

    app = web.Application()
    app.router.add_post("/api/v1/query", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as session:
        server = Server(url=f"http://127.0.0.1:{port}", token="secret-of-prom")
        asked = Prometheus(session, server, answer_s=1.0)
        for query in ("page", "locked", "elsewhere", "odd", "slow"):
            with pytest.raises(PromUnavailableError) as raised:
                await asked.value(query)
            assert "secret-of-prom" not in str(raised.value) + repr(server)
        with pytest.raises(PromQueryError, match="bytes"):
            await asked.value("huge")
        assert set(seen) == {"Bearer secret-of-prom"}
        await runner.cleanup()
        with pytest.raises(PromUnavailableError, match="could not be asked"):
            await asked.value("1")
        with pytest.raises(SourceError):
            Prometheus(session, Server(url="http://x", ca_pem="no certificate"))
