"""Tells webhooks of events, on the manager that leads: each in order, each until it is taken or given up.

One follower reads the log and wakes a teller per webhook. An event that is not taken is tried again, later each time,
for about an hour; then it is given up, which the webhook's list shows, and the next one is told. How far a webhook is
lies in the database, so that after a crash at most one event is told twice (``webhook-id`` is the same then).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from hunqi.apps.operations import Change
from hunqi.errors import HunqiError
from hunqi.hooks.calling import Caller
from hunqi.hooks.errors import HookNotFoundError
from hunqi.hooks.model import Hook, HookDelivery
from hunqi.hooks.store import HookStore
from hunqi.state.database import Database
from hunqi.state.events import Event, EventLog, now

PAUSES_S: Final = (1.0, 5.0, 30.0, 120.0, 600.0, 1800.0)
"""Between attempts; after the last one more, an event is given up."""
_PAGE: Final = 200
_LOOK_S: Final = 30.0
_RETRY_S: Final = 5.0
_GONE: Final = 410
_log: Final = logging.getLogger(__name__)


class HookController:
    """All webhooks: ``run`` tells them, the rest is asked of it by the API (the port ``Hooks``)."""

    def __init__(
        self,
        database: Database,
        store: HookStore,
        clock: Callable[[], float],
        *,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self._log = EventLog(database)
        self._store = store
        self._clock = clock
        self._pauses_s = tuple(pauses_s)
        self._news = asyncio.Event()
        self._changed = asyncio.Event()

    # the port
    async def hooks(self, app: str | None) -> Sequence[Hook]:
        """Return them, oldest first, without secrets."""
        return await self._store.of(app)

    async def add(self, app: str | None, url: str, kinds: Sequence[str], change: Change, *, trusted: bool) -> Hook:
        """Make one that is told of what happens from now on. Raises ``HookRefusedError``."""
        made = await self._store.add(app, url, kinds, change, trusted=trusted)
        self._changed.set()
        return made

    async def remove(self, app: str | None, hook: str, change: Change) -> None:
        """Forget one. Raises ``HookNotFoundError``."""
        await self._store.remove(app, hook, change)
        self._changed.set()

    async def deliveries(self, app: str | None, hook: str, *, limit: int = 50) -> Sequence[HookDelivery]:
        """Return the last attempts, newest first. Raises ``HookNotFoundError``."""
        return await self._store.deliveries(app, hook, limit=limit)

    async def test(self, app: str | None, hook: str) -> HookDelivery:
        """Tell it of an event ``hook.test`` now, once. Raises ``HookNotFoundError``."""
        found = await self._store.find(app, hook)
        event = Event(seq=0, at=now(), kind="hook.test", app=app, subject=found.id, actor="hunqi", reason="a test")
        caller = Caller(self._clock)
        try:
            answer = await caller.call(found, await self._store.key(found), event)
        finally:
            await caller.close()
        delivery = HookDelivery(event=0, at=now(), attempt=1, status=answer.status, problem=answer.problem)
        await self._store.record(found.id, delivery)
        return delivery

    # the loops
    async def run(self) -> None:
        """Tell webhooks, until cancelled."""
        caller = Caller(self._clock)
        tellers: dict[str, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                while True:
                    self._changed.clear()
                    hooks = {each.id: each for each in await self._all()}
                    for gone in tellers.keys() - hooks.keys():
                        tellers.pop(gone).cancel()
                    for new in hooks.keys() - tellers.keys():
                        tellers[new] = group.create_task(self._tell(hooks[new], caller))
                    await _within(self._changed.wait(), _LOOK_S)
        finally:
            await caller.close()

    async def _all(self) -> Sequence[Hook]:
        while True:
            try:
                return await self._store.all()
            except HunqiError as error:
                _log.warning("webhooks could not be read: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        seen = 0
        while True:
            try:
                seen = max(seen, await self._log.last())
                self._wake()
                await self._log.wait(after=seen, timeout_s=_LOOK_S)
            except HunqiError as error:
                _log.warning("events could not be read: %s", error)
                await asyncio.sleep(_RETRY_S)

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _tell(self, hook: Hook, caller: Caller) -> None:
        """Tell one webhook of all that it wants, as it comes."""
        # After a recovery the log begins anew, and what is kept of the old one's numbers means nothing.
        told: int | None = None
        while True:
            news = self._news
            try:
                if told is None:
                    told = min(hook.told, await self._log.last())
                events = await self._log.read(after=told, limit=_PAGE)
                if not events:
                    await _within(news.wait(), _LOOK_S)
                    continue
                wanted = [event for event in events if hook.wants(event)]
                for event in wanted:
                    await self._deliver(hook, event, caller)
                    told = event.seq
                told = events[-1].seq
                if not wanted:
                    await self._store.skip(hook.id, told)
            except HookNotFoundError:
                self._changed.set()
                return
            except HunqiError as error:
                _log.warning("webhook %s: %s", hook.id, error)
                await asyncio.sleep(_RETRY_S)

    async def _deliver(self, hook: Hook, event: Event, caller: Caller) -> None:
        """Tell ``hook`` of ``event`` until it takes it, or the last attempt has failed."""
        for attempt, pause_s in enumerate((*self._pauses_s, None), start=1):
            # Read each time: the webhook of a removed app must tell nothing of the next app of that name.
            key = await self._store.key(hook)
            answer = await caller.call(hook, key, event)
            last = answer.problem is None or pause_s is None or answer.status == _GONE
            delivery = HookDelivery(
                event=event.seq, at=now(), attempt=attempt, status=answer.status, problem=answer.problem
            )
            await self._store.note(hook.id, delivery, told=last)
            if last or pause_s is None:
                if answer.problem is not None:
                    _log.warning("webhook %s: event %d is given up: %s", hook.id, event.seq, answer.problem)
                return
            await asyncio.sleep(pause_s)


async def _within(wait: Awaitable[object], timeout_s: float) -> None:
    """Wait for something, at most so long."""
    try:
        async with asyncio.timeout(timeout_s):
            await wait
    except TimeoutError:
        return
