"""Lines of the access log: which are meant, and what of them is kept from being shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from hunqi.agent.requests import RequestLog, is_status, without_secrets
from hunqi.engine.model import Container, LogLine
from hunqi.nodes import requests as merging
from hunqi.nodes.errors import AgentUnreachableError
from hunqi.nodes.requests import NodeRequests
from hunqi.nodes.wire import RequestLine, RequestLines, RequestQuery


def written(number: int) -> str:
    return f"2026-01-02T03:04:05.{number:09}Z"


def log_line(number: int, **fields: Any) -> LogLine:
    said = {"app": "shop", "service": "web", "revision": "7", "status": 200, "path": "/x", "duration_ms": 3, **fields}
    return LogLine(text=json.dumps(said, separators=(",", ":")), stream="stdout", time=written(number))


class MemoryLogs:
    """An engine whose containers have written ``lines``; ``tails`` notes how many were asked for."""

    def __init__(self, **lines: list[LogLine]) -> None:
        self.containers = self
        self.lines = lines
        self.tails: list[int] = []

    async def list(self, labels: Mapping[str, str], *, stopped: bool) -> list[Container]:
        made = Container(id="", name="", image="", image_id="", state="running", labels=labels, addresses={})
        return [replace(made, id=name, name=f"/{name}") for name in self.lines]

    def logs(self, container: str, *, tail: int) -> Any:
        self.tails.append(tail)
        given = self.lines[container][-tail:]

        class _Open:
            async def __aenter__(self) -> Any:
                return self

            async def __aexit__(self, *_: object) -> None:
                return None

            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> LogLine:
                if not given:
                    raise StopAsyncIteration
                return given.pop(0)

        return _Open()


async def read(logs: MemoryLogs, **query: Any) -> RequestLines:
    log = RequestLog(logs, cluster="c1", gateway="gw")  # type: ignore[arg-type]
    return await log.read(RequestQuery(app="shop", **query))


async def test_lines_of_an_app_are_found_by_status_service_and_revision() -> None:
    lines = [
        log_line(1),
        log_line(2, status=503),
        log_line(3, app="other", status=503),
        log_line(4, service="api", status=502),
        log_line(5, revision="8", status=500),
        LogLine(text='{"app":"shop", cut', stream="stdout", time=written(6)),
        LogLine(text="[warning] about shop", stream="stderr", time=written(7)),
    ]
    everything = await read(MemoryLogs(**{"gw-a": lines}))
    assert [each.status for each in everything.lines] == [200, 503, 502, 500]
    assert everything.until == written(7)
    assert not everything.incomplete
    assert [each.status for each in (await read(MemoryLogs(**{"gw-a": lines}), status="5xx", service="web")).lines] == [
        503,
        500,
    ]
    assert [each.revision for each in (await read(MemoryLogs(**{"gw-a": lines}), revision=8)).lines] == [8]
    assert (await read(MemoryLogs(**{"gw-a": lines}), after=written(4))).lines[0].status == 500


async def test_two_envoys_are_one_log_and_containers_of_others_are_none() -> None:
    logs = MemoryLogs(**{"gw-a": [log_line(1), log_line(4)], "gw-b": [log_line(2)], "else-c": [log_line(3)]})
    found = await read(logs, limit=2)
    assert [each.written for each in found.lines] == [written(2), written(4)]


async def test_more_is_read_only_if_too_few_were_meant_and_never_without_end() -> None:
    others = [log_line(number, app="other") for number in range(5, 30_000)]
    logs = MemoryLogs(**{"gw-a": [log_line(1), *others]})
    found = await read(logs, limit=5)
    assert (found.lines, found.incomplete, logs.tails) == ((), True, [1000, 20_000])
    logs = MemoryLogs(**{"gw-a": [*others, *(log_line(30_000 + number) for number in range(5))]})
    assert len((await read(logs, limit=5)).lines) == 5
    assert logs.tails == [1000]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/x", "/x"),
        ("/x?page=2&q=keys", "/x?page=2&q=keys"),
        ("/x?keyword=shoes&country_code=de", "/x?keyword=shoes&country_code=de"),
        ("/x?accessToken=a&session_id=b#key=c", "/x?accessToken=***&session_id=***#key=c"),
        ("/cb?code=abc&state=x", "/cb?code=***&state=x"),
        ("/x?a=1&access_token=abc.def&b=2", "/x?a=1&access_token=***&b=2"),
        ("/x?X-Amz-Signature=00ff&X-Amz-Date=1", "/x?X-Amz-Signature=***&X-Amz-Date=1"),
        ("/x?api_key=1", "/x?api_key=***"),
        ("/x?Password=&x=1", "/x?Password=***&x=1"),
        ("/token=1", "/token=1"),
    ],
)
def test_what_sounds_secret_in_a_query_is_not_shown(path: str, shown: str) -> None:
    assert without_secrets(path) == shown


def test_what_is_a_status() -> None:
    assert all(map(is_status, ("5xx", "404", "1xx")))
    assert not any(map(is_status, ("", "6xx", "5x", "5xxx", "40", "4040", "xx5")))


@dataclass
class Agents:
    nodes: tuple[str, ...] = ("n1", "n2", "n3")
    answers: dict[str, list[RequestLines]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def requests(self, node: str, query: RequestQuery) -> RequestLines:
        self.asked.append((node, query.after))
        if node not in self.answers:
            raise AgentUnreachableError(node, "no answer in time", is_refused=False)
        answers = self.answers[node]
        return answers.pop(0) if answers else RequestLines(until=query.after)


def told(node: str, *numbers: int) -> RequestLines:
    lines = [RequestLine(written=written(each), at="", node=node, app="shop", service="web") for each in numbers]
    return RequestLines(lines=tuple(lines), until=written(max(numbers)))


async def test_gateways_are_one_log_in_time_without_one_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "FOLLOW_S", 0.01)
    agents = Agents(answers={"n1": [told("n1", 1, 5), told("n1", 9)], "n2": [told("n2", 3), told("n2", 8)]})
    log = NodeRequests(agents, name=str.upper)
    found: list[tuple[str, str]] = []
    async with log.open(RequestQuery(app="shop", limit=2), follow=True) as lines:
        async with asyncio.timeout(5):
            async for line in lines:
                found.append((line.node, line.written))
                if len(found) == 4:
                    break
    assert found == [("N2", written(3)), ("N1", written(5)), ("N2", written(8)), ("N1", written(9))]
    assert ("n1", written(5)) in agents.asked


async def test_where_no_gateway_can_be_asked_it_is_an_error() -> None:
    with pytest.raises(AgentUnreachableError):
        async with NodeRequests(Agents(), name=str).open(RequestQuery(app="shop"), follow=False):
            pass
