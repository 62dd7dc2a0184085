"""Who leads: a lease in the database, with an epoch that grows with each holder, and writes that are fenced by it.

A holder renews every third of the lease's time. Another may take it when it has run out by the *database's* clock, so
that machines whose clocks differ agree. A holder that was asleep finds its epoch gone when it next writes: the write is
not made. By its own monotonic clock it stops leading before anybody else can start.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.errors import DependencyError
from hunqi.state.database import Database
from hunqi.state.errors import LeaseLostError
from hunqi.state.tables import LEASES

TTL_S: Final = 9.0
"""How long a lease lasts unrenewed: with the campaign's interval, a successor leads in under 12 s."""
CAMPAIGN_S: Final = 2.0
"""How often a process that does not lead tries to."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """``holder`` leads in ``epoch``; a fence for writes (see ``Database.fenced``)."""

    name: str
    holder: str
    epoch: int

    async def check(self, connection: AsyncConnection) -> None:
        """Raise ``LeaseLostError`` unless this is still the newest epoch."""
        row = (
            await connection.execute(select(LEASES.c.epoch, LEASES.c.holder).where(LEASES.c.name == self.name))
        ).first()
        if row is None or (row.epoch, row.holder) != (self.epoch, self.holder):
            raise LeaseLostError(f"{self.holder} does not lead any more: nothing was written")


class Leases:
    """The leases of one database, as the process ``holder`` sees them."""

    def __init__(self, database: Database, *, holder: str, ttl_s: float = TTL_S) -> None:
        self._database = database
        self._holder = holder
        self.ttl_s = ttl_s

    async def acquire(self, name: str) -> Lease | None:
        """Take the lease if it is free, has run out or is ours by name already; None while another holds it."""
        async with self._database.begin() as connection:
            now = await self._now(connection)
            row = (await connection.execute(select(LEASES).where(LEASES.c.name == name))).first()
            if row is not None and row.expires_at > now and row.holder != self._holder:
                return None
            epoch = 1 if row is None else row.epoch + 1
            values: dict[str, Any] = {"holder": self._holder, "epoch": epoch, "expires_at": now + self.ttl_s}
            if row is None:
                await connection.execute(LEASES.insert().values(name=name, **values))
            else:
                await connection.execute(update(LEASES).where(LEASES.c.name == name).values(**values))
        return Lease(name=name, holder=self._holder, epoch=epoch)

    async def renew(self, lease: Lease) -> None:
        """Hold it for another ``ttl_s``. Raises ``LeaseLostError`` and what ``Database.begin`` raises."""
        async with self._database.fenced(lease).begin() as connection:
            until = await self._now(connection) + self.ttl_s
            await connection.execute(update(LEASES).where(LEASES.c.name == lease.name).values(expires_at=until))

    async def release(self, lease: Lease) -> None:
        """Let another take it at once. The epoch is kept, so it still grows."""
        with suppress(LeaseLostError):
            async with self._database.fenced(lease).begin() as connection:
                await connection.execute(update(LEASES).where(LEASES.c.name == lease.name).values(expires_at=0.0))

    async def holder(self, name: str) -> str | None:
        """Return who holds the lease now; None when nobody does."""
        async with self._database.read() as connection:
            now = await self._now(connection)
            row = (await connection.execute(select(LEASES).where(LEASES.c.name == name))).first()
        return row.holder if row is not None and row.expires_at > now else None

    async def forget(self, name: str) -> None:
        """Remove the lease and its epoch; for a database that was restored elsewhere."""
        async with self._database.begin() as connection:
            await connection.execute(delete(LEASES).where(LEASES.c.name == name))

    async def _now(self, connection: AsyncConnection) -> float:
        if self._database.is_sqlite:  # a file has one machine, and so one clock
            return time.time()
        return float(await connection.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0.0)


class Leadership:
    """Campaigns for a lease, leads while it is held, and campaigns again when it is lost."""

    def __init__(self, leases: Leases, *, name: str = "control", clock: Callable[[], float] = time.monotonic) -> None:
        self._leases = leases
        self._name = name
        self._clock = clock
        self._until = 0.0
        self._lease: Lease | None = None

    @property
    def lease(self) -> Lease | None:
        """The lease while this process leads, else None."""
        return self._lease if self._lease is not None and self._clock() < self._until else None

    async def run(self, lead: Callable[[Lease], Awaitable[None]]) -> None:
        """Lead for ever, whenever the lease is held: ``lead`` is cancelled when it is lost.

        An error of ``lead`` ends this too, the lease released; so does its return.
        """
        while not _is_cancelled():
            lease = await self._campaign()
            _log.info("this process leads now", extra={"epoch": lease.epoch})
            try:
                await self._lead(lease, lead)
                return
            except* LeaseLostError:
                _log.warning("this process leads no more: another took over, or the database was away for too long")
            finally:
                self._lease = None
                with suppress(DependencyError):
                    await self._leases.release(lease)
        raise asyncio.CancelledError

    async def _campaign(self) -> Lease:
        while True:
            asked_at = self._clock()
            with suppress(DependencyError):
                if (lease := await self._leases.acquire(self._name)) is not None:
                    self._lease, self._until = lease, asked_at + self._leases.ttl_s
                    return lease
            await asyncio.sleep(CAMPAIGN_S)

    async def _lead(self, lease: Lease, lead: Callable[[Lease], Awaitable[None]]) -> None:
        async with asyncio.TaskGroup() as tasks:
            renewing = tasks.create_task(self._renew(lease))
            await lead(lease)
            renewing.cancel()

    async def _renew(self, lease: Lease) -> None:
        """Renew until it is lost, or until it must be taken for lost; then raise ``LeaseLostError``."""
        while True:
            await asyncio.sleep(self._leases.ttl_s / 3)
            asked_at = self._clock()
            try:
                async with asyncio.timeout(max(0.1, self._until - asked_at)):
                    await self._leases.renew(lease)
            except LeaseLostError:
                raise
            except (DependencyError, TimeoutError) as error:
                if self._clock() >= self._until - self._leases.ttl_s / 6:
                    raise LeaseLostError("the lease could not be renewed in time") from error
                continue
            self._until = asked_at + self._leases.ttl_s


def _is_cancelled() -> bool:
    """Whether this task is cancelled, though a task group that failed at that moment has raised its errors instead."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
