"""Asks tasks of this node for what they count themselves, each from inside its own network, whatever that is.

Bounded in time, bytes and values. A task that does not answer is a sentence, never a value; after a silence it is left
alone for a while, so that one that hangs does not keep the others waiting each time.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiohttp

from hunqi.agent.errors import NoConnectionError
from hunqi.agent.exposition import Exposition, Sample, name_filter, parse_exposition
from hunqi.agent.netns import socket_inside
from hunqi.agent.usage import Found, TaskBook
from hunqi.nodes.wire import ScrapeTarget
from hunqi.telemetry.wire import CustomValue

ANSWER_S: Final = 2.0
BODY_BYTES: Final = 1024 * 1024
TASK_VALUES: Final = 200
NODE_VALUES: Final = 2000
SILENT_S: Final = 15.0
"""How long a task that did not answer is left alone."""
_AT_ONCE: Final = 16
_HEADERS: Final = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "identity",
    "User-Agent": "hunqi",
}
_OK: Final = 200


class _ScrapeError(Exception):
    """Why there are no values, as the end of a sentence."""


class Scraping:
    """Scrapes. For one event loop."""

    def __init__(self, book: TaskBook, *, monotonic: Callable[[], float]) -> None:
        """``monotonic`` tells seconds."""
        self._book = book
        self._monotonic = monotonic
        self._silent: dict[str, tuple[float, str]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def scrape(self, targets: Sequence[ScrapeTarget]) -> tuple[list[CustomValue], list[str]]:
        """Return the values of all ``targets`` that run here, and a sentence on each that gave none or too many."""
        self._silent = {task: each for task, each in self._silent.items() if each[0] > self._monotonic()}
        known = [(found, each) for each in targets if (found := self._book.of(each.task))]
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._one(found, target)) for found, target in known]
        values: list[CustomValue] = []
        problems: list[str] = []
        for answer in asked:
            own, said = answer.result()
            problems += said
            values += own
        if len(values) > NODE_VALUES:
            problems.append(f"the tasks here count {len(values)} values: only {NODE_VALUES} are taken, name fewer")
        return values[:NODE_VALUES], problems

    async def _one(self, found: Found, target: ScrapeTarget) -> tuple[list[CustomValue], list[str]]:
        who = f"task {found.task} of {found.app}/{found.service}"
        if found.task in self._silent:
            return [], [self._silent[found.task][1]]
        try:
            async with self._slots, asyncio.timeout(ANSWER_S):
                said = await _ask(found, target)
        except TimeoutError:
            problem = f"{who} did not tell its metrics within {ANSWER_S:.0f} s"
            self._silent[found.task] = self._monotonic() + SILENT_S, problem
            return [], [problem]
        except _ScrapeError as error:
            return [], [f"{who} tells no metrics: {error}"]
        return [_value(found, each) for each in said.samples], _problems(who, said)


async def _ask(found: Found, target: ScrapeTarget) -> Exposition:
    body = await _fetch(found, target)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _ScrapeError("the answer is not UTF-8") from error
    return parse_exposition(text, name_filter(target.names), most=TASK_VALUES)


async def _fetch(found: Found, target: ScrapeTarget) -> bytes:
    def inside(_address: Any) -> socket.socket:
        made = socket_inside(found.pid)
        made.setblocking(False)
        return made

    refused: Exception | None = None
    connector = aiohttp.TCPConnector(socket_factory=inside, force_close=True)
    headers = {**_HEADERS, "Host": f"{found.service}:{target.port}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers, auto_decompress=False) as session:
        for host in ("127.0.0.1", *found.addresses):
            url = f"http://{host}:{target.port}{target.path}"
            try:
                async with session.get(url, allow_redirects=False) as answer:
                    if answer.status != _OK:
                        raise _ScrapeError(f"it answered {answer.status} at {target.path}")
                    return await _body(answer)
            except (aiohttp.ClientConnectorError, NoConnectionError) as error:
                refused = error
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise _ScrapeError(str(error) or type(error).__name__) from error
    raise _ScrapeError(f"nothing takes connections at port {target.port} ({refused})")


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    pieces = bytearray()
    async for piece in answer.content.iter_chunked(64 * 1024):
        pieces += piece
        if len(pieces) > BODY_BYTES:
            raise _ScrapeError(f"it is more than {BODY_BYTES >> 20} MiB")
    return bytes(pieces)


def _value(found: Found, sample: Sample) -> CustomValue:
    return CustomValue(
        task=found.task,
        app=found.app,
        service=found.service,
        revision=found.revision,
        metric=sample.metric,
        value=sample.value,
        labels=sample.labels,
        grows=sample.grows,
    )


def _problems(who: str, said: Exposition) -> list[str]:
    problems: list[str] = []
    if said.left_out:
        problems.append(f"{who} counts {said.left_out} values more than are taken: name those that you need")
    if said.unreadable:
        problems.append(f"{who} wrote {said.unreadable} lines that are not in the format of Prometheus")
    return problems
