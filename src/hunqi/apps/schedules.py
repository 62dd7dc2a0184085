"""When scheduled jobs are due. Times are in UTC; pure.

A run that was missed (control was away) is made up for once if it is not older than ``CATCH_UP``; older ones are
skipped and said to be. A job is never run twice at once: one that is due while the last still runs is skipped.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar, Final

from cronsim import CronSim, CronSimError

from hunqi.errors import UserError

CATCH_UP: Final = timedelta(hours=1)


class ScheduleError(UserError):
    """The text is no schedule: five fields of cron."""

    code: ClassVar[str] = "app.schedule"


def next_due(schedule: str, after: datetime) -> datetime:
    """Return the first moment after ``after`` at which ``schedule`` is due. Raises ``ScheduleError``."""
    try:
        return next(CronSim(schedule, after))
    except (CronSimError, StopIteration) as error:
        raise ScheduleError(f"{schedule!r} is no schedule: write five fields, such as 0 4 * * *") from error


def last_due(schedule: str, after: datetime, now: datetime) -> tuple[datetime | None, int]:
    """Return the last moment in (``after``, ``now``] at which it was due, and how many there were (at most 1000)."""
    moments = CronSim(schedule, after)
    found: datetime | None = None
    count = 0
    for moment in moments:
        if moment > now or count >= _MOST:
            break
        found, count = moment, count + 1
    if count >= _MOST:
        return last_due(schedule, max(after, now - timedelta(days=1)), now)
    return found, count


_MOST: Final = 2000
