"""Images on nodes: who holds which, and that enough do before a revision depends on them.

A revision whose images lie on one node only is lost with it, and a registry that cannot be reached at the wrong moment
must not matter: so they are fetched by a second node's mirror first (from its peer, mostly). What retained revisions
use is pinned in every mirror that has it; what nothing uses is removed from the engines.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol

from hunqi.errors import HunqiError
from hunqi.nodes.wire import ImageAnswer

ROUND_S: Final = 900.0
"""Pins are told again and unused images removed that often."""
_MOST_AT_ONCE: Final = 8
_log: Final = logging.getLogger(__name__)


class ImageAgents(Protocol):
    """The agents, as far as images go."""

    async def set_pins(self, node: str, pins: Mapping[str, str]) -> ImageAnswer:
        """Have a node's mirror keep these."""
        ...

    async def held(self, node: str, images: Iterable[str]) -> ImageAnswer:
        """Return which are there whole."""
        ...

    async def warm(self, node: str, images: Iterable[str]) -> ImageAnswer:
        """Have them fetched whole."""
        ...

    async def prune(self, node: str, keep: Iterable[str]) -> ImageAnswer:
        """Remove what is neither kept nor in use from the node's engine."""
        ...


class NodeImages:
    """The images of the cluster's nodes (``pin`` and ``spread`` of the apps' port ``Images``)."""

    def __init__(self, agents: ImageAgents, nodes: Callable[[], Collection[str]]) -> None:
        """``nodes`` returns the ids of the nodes that have an agent and take tasks."""
        self._agents = agents
        self._nodes = nodes
        self._pins: Mapping[str, str] | None = None
        self._wake = asyncio.Event()

    async def pin(self, pins: Mapping[str, Collection[str]]) -> None:
        """Have every mirror keep the references that the retained revisions of each app use; replaces the last.

        Returns at once; nodes are told in the background and again every quarter of an hour.
        """
        self._pins = {image: f"app {app}" for app, images in sorted(pins.items()) for image in images}
        self._wake.set()

    async def spread(self, references: Collection[str], *, copies: int = 2) -> Sequence[str]:
        """Have at least ``copies`` nodes (all, if there are fewer) hold each image; return what is lacking, said."""
        wanted = sorted(set(references))
        nodes = sorted(self._nodes())
        if not wanted or not nodes:
            return []
        holders = await self._holders(nodes, wanted)
        enough = min(copies, len(nodes))
        orders = assign(nodes, holders, copies=enough)
        answers = await self._each(orders, self._agents.warm)
        problems: dict[str, str] = {}
        for node, answer in answers.items():
            for image in orders[node]:
                if answer is not None and image in answer.done:
                    holders[image].add(node)
                else:
                    problems[image] = answer.failures.get(image, "") if answer else f"node {node} does not answer"
        return [
            f"{image} is on {len(holders[image])} of {enough} nodes: {problems.get(image) or 'it was not fetched'}"
            for image in wanted
            if len(holders[image]) < enough
        ]

    async def run(self) -> None:
        """Keep pins told and engines clean, until cancelled. Nothing is removed before the first :meth:`pin`."""
        while True:
            self._wake.clear()
            if self._pins is not None:
                await self._round(self._pins)
            try:
                async with asyncio.timeout(ROUND_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _round(self, pins: Mapping[str, str]) -> None:
        nodes = sorted(self._nodes())

        async def tell(node: str, _: Sequence[str]) -> ImageAnswer:
            await self._agents.set_pins(node, pins)
            return await self._agents.prune(node, pins)

        await self._each(dict.fromkeys(nodes, ()), tell)

    async def _holders(self, nodes: Sequence[str], images: Sequence[str]) -> dict[str, set[str]]:
        answers = await self._each(dict.fromkeys(nodes, images), self._agents.held)
        return {
            image: {node for node, answer in answers.items() if answer is not None and image in answer.done}
            for image in images
        }

    async def _each(
        self, orders: Mapping[str, Sequence[str]], ask: Callable[[str, Sequence[str]], Awaitable[ImageAnswer]]
    ) -> Mapping[str, ImageAnswer | None]:
        """Ask every node its own; None stands for one that does not answer."""
        room = asyncio.Semaphore(_MOST_AT_ONCE)

        async def one(node: str, images: Sequence[str]) -> ImageAnswer | None:
            try:
                async with room:
                    return await ask(node, images)
            except HunqiError as error:
                _log.warning("%s", error)
                return None

        async with asyncio.TaskGroup() as group:
            tasks = {node: group.create_task(one(node, images)) for node, images in orders.items()}
        return {node: task.result() for node, task in tasks.items()}


def assign(nodes: Sequence[str], holders: Mapping[str, Collection[str]], *, copies: int) -> dict[str, list[str]]:
    """Return who is to fetch what, so that each image is on ``copies`` nodes; spread evenly, the same each time."""
    orders: dict[str, list[str]] = {}
    for image, held in holders.items():
        others = [node for node in nodes if node not in held]
        others.sort(key=lambda node: hashlib.sha256(f"{image} {node}".encode()).digest())
        for node in others[: max(0, copies - len(held))]:
            orders.setdefault(node, []).append(image)
    return orders
