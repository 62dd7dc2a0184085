"""What the reconciler waits for at the gateways, in the background, so that an app's worker is never held up by it.

Each wait belongs to an app and a subject; a new one of the same subject with another question ends the old one. What
came true is kept as a fact until the question changes, and the app is marked to be looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final

from hunqi.apps.ports import Images
from hunqi.apps.serving import Routing, Serving, Waited
from hunqi.apps.state import DeployRecord
from hunqi.errors import HunqiError

FORCE_TIMEOUT_S: Final = 30.0
HEALTH_TIMEOUT_S: Final = 60.0
COPIES: Final = 2
"""Nodes that hold a revision's images before it is deployed, if there are so many."""
_RETRY_S: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wait:
    question: Hashable
    task: asyncio.Task[None]


class Waits:
    """The waits of all apps; their tasks live in the controller's group."""

    def __init__(self, group: asyncio.TaskGroup, routing: Routing, images: Images, mark: Callable[[str], None]) -> None:
        self._group = group
        self._routing = routing
        self._images = images
        self._mark = mark
        self._waits: dict[tuple[str, str], _Wait] = {}
        self._in_force: dict[str, Serving] = {}
        self._drained: dict[str, set[str]] = {}
        self._spread: dict[str, tuple[str, str]] = {}

    def in_force(self, app: str) -> Serving | None:
        """Return the last offer of ``app`` that was found in force."""
        return self._in_force.get(app)

    def drained(self, app: str) -> frozenset[str]:
        """Return the backends of ``app`` that were found without requests since they take nothing new."""
        return frozenset(self._drained.get(app, ()))

    def spread(self, deploy: DeployRecord) -> str:
        """Return why the images of ``deploy`` are not on enough nodes yet; empty if they are."""
        of, sentence = self._spread.get(deploy.app, ("", ""))
        return sentence if of == deploy.id else "its images are being brought to the nodes"

    def expect_spread(self, deploy: DeployRecord, references: frozenset[str]) -> None:
        """Bring the images to the nodes, and learn when enough have them."""

        async def wait() -> bool:
            missing = await self._images.spread(references, copies=COPIES)
            self._spread[deploy.app] = (deploy.id, "; ".join(missing))
            return not missing

        self._expect(deploy.app, "spread", deploy.id, wait)

    def expect_force(self, app: str, serving: Serving) -> None:
        """Learn when ``serving``, just offered, is in force."""
        if self._in_force.get(app) == serving:
            return

        async def wait() -> bool:
            waited = await self._routing.wait_in_force(app, timeout_s=FORCE_TIMEOUT_S)
            if waited is Waited.REACHED:
                self._in_force[app] = serving
            return waited is Waited.REACHED

        self._expect(app, "force", _Same(serving), wait)

    def expect_drained(self, app: str, serving: Serving, timeouts: Mapping[str, float]) -> None:
        """Learn when the draining backends have no requests left, once that they drain is in force."""
        known = self._drained.setdefault(app, set())
        known &= set(timeouts)
        for backend, timeout_s in timeouts.items():
            if backend in known:
                continue
            if self._in_force.get(app) != serving:
                self.expect_force(app, serving)
                continue

            async def wait(backend: str = backend, timeout_s: float = timeout_s) -> bool:
                await self._routing.wait_drained(backend, timeout_s=timeout_s)
                self._drained.setdefault(app, set()).add(backend)
                return True

            self._expect(app, f"drained {backend}", backend, wait)

    def expect_healthy(self, app: str, backend: str, tasks: frozenset[str]) -> None:
        """Have the app looked at when the gateways find these tasks healthy."""

        async def wait() -> bool:
            waited = await self._routing.wait_healthy(backend, tasks, timeout_s=HEALTH_TIMEOUT_S)
            return waited is Waited.REACHED

        self._expect(app, f"healthy {backend}", tasks, wait)

    def forget(self, app: str) -> None:
        """End all waits of ``app`` and forget what came of them."""
        for key in [key for key in self._waits if key[0] == app]:
            self._waits.pop(key).task.cancel()
        self._in_force.pop(app, None)
        self._drained.pop(app, None)
        self._spread.pop(app, None)

    def _expect(self, app: str, subject: str, question: Hashable, wait: Callable[[], Awaitable[bool]]) -> None:
        key = (app, subject)
        held = self._waits.get(key)
        if held is not None and not held.task.done():
            if held.question == question:
                return
            held.task.cancel()
        self._waits[key] = _Wait(question, self._group.create_task(self._run(key, app, wait)))

    async def _run(self, key: tuple[str, str], app: str, wait: Callable[[], Awaitable[bool]]) -> None:
        try:
            if not await wait():
                await asyncio.sleep(_RETRY_S)
        except HunqiError as error:
            _log.warning("app=%s: a wait on the gateways failed: %s", app, error)
            await asyncio.sleep(_RETRY_S)
        held = self._waits.get(key)
        if held is not None and held.task is asyncio.current_task():
            del self._waits[key]
        self._mark(app)


class _Same:
    """Compares an offer, which has no hash, by value."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._serving == self._serving

    def __hash__(self) -> int:
        return hash(self._serving.app)
