"""A new database is made in a process of its own: the tools of migrations weigh 10 MB, and are needed once."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Final

from hunqi.state.database import open_database

_log: Final = logging.getLogger(__name__)


def make_apart(url: str) -> None:
    """Make the SQLite database at ``url``, a plain path, in a child process if there is no such file.

    Call it before there are threads and an event loop. What fails is only logged: whoever opens the database next
    makes it, or is told why it cannot be.
    """
    if "://" in url or Path(url).exists():
        return
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            asyncio.run(_make(url))
            status = 0
        except BaseException:
            _log.exception("the database was not made apart")
        finally:
            os._exit(status)
    os.waitpid(pid, 0)


async def _make(url: str) -> None:
    async with open_database(url):
        pass
