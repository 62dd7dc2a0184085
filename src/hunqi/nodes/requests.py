"""The access logs of all gateways as one, in the order of time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Final, Protocol

from hunqi.errors import HunqiError
from hunqi.nodes.wire import RequestLine, RequestLines, RequestQuery

FOLLOW_S: Final = 1.0
"""How often a follower asks for what is new."""
FOLLOW_LINES: Final = 1000
"""More lines of a node within that time are left out."""
_log: Final = logging.getLogger(__name__)


class RequestAgents(Protocol):
    """The agents."""

    @property
    def nodes(self) -> Collection[str]:
        """Ids of the nodes that have one."""
        ...

    async def requests(self, node: str, query: RequestQuery) -> RequestLines:
        """Return lines of the node's gateway."""
        ...


class NodeRequests:
    """Reads access logs by the agents. Implements the API's port ``Requests``."""

    def __init__(self, agents: RequestAgents, *, name: Callable[[str], str]) -> None:
        """``name`` gives a node's name for its id."""
        self._agents = agents
        self._name = name

    @asynccontextmanager
    async def open(self, query: RequestQuery, *, follow: bool) -> AsyncGenerator[AsyncIterator[RequestLine]]:
        """Open the last lines of all gateways, and those that come if ``follow``.

        A gateway that cannot be asked is left out, and said in the log. Raises what the agents raise if none can be.
        """
        after: dict[str, str] = {}
        old = await self._round(query, after, must=True)
        async with aclosing(self._lines(deque(old, maxlen=query.limit), query, after, follow=follow)) as lines:
            yield lines

    async def _lines(
        self, old: Collection[RequestLine], query: RequestQuery, after: dict[str, str], *, follow: bool
    ) -> AsyncGenerator[RequestLine]:
        for line in old:
            yield line
        query = replace(query, limit=FOLLOW_LINES)
        while follow:
            await asyncio.sleep(FOLLOW_S)
            for line in await self._round(query, after):
                yield line

    async def _round(self, query: RequestQuery, after: dict[str, str], *, must: bool = False) -> list[RequestLine]:
        """Ask every node for what came after the last round, and note how far it was read."""
        errors: list[HunqiError] = []

        async def ask(node: str) -> RequestLines:
            try:
                return await self._agents.requests(node, replace(query, after=after.get(node, "")))
            except HunqiError as error:
                errors.append(error)
                _log.info("the access log of node %s cannot be read: %s", node, error)
                return RequestLines(until=after.get(node, ""))

        nodes = tuple(self._agents.nodes)
        async with asyncio.TaskGroup() as group:
            asked = {node: group.create_task(ask(node)) for node in nodes}
        if must and errors and len(errors) == len(nodes):
            raise errors[0]
        found: list[RequestLine] = []
        for node, task in asked.items():
            after[node] = task.result().until
            found += [replace(each, node=self._name(node)) for each in task.result().lines]
        return sorted(found, key=lambda each: each.written)
