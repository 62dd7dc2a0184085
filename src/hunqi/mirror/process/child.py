"""What every child process does around its own work: logging, stopping by signal or when the supervisor is gone."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import uuid
from pathlib import Path


def begin_logging() -> None:
    """Log to standard error, one line per record."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # a malformed request is its sender's business
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def allow_many_files() -> None:
    """Raise the limit of open files as far as this user may: each client takes one or two, and 1024 is customary."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stop_event(parent: int) -> asyncio.Event:
    """Return an event that is set by SIGTERM, SIGINT or the end of the supervisor."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor gets it too, and stops us in order
    loop.add_reader(parent, _orphaned, loop, parent, stop)
    return stop


def _orphaned(loop: asyncio.AbstractEventLoop, parent: int, stop: asyncio.Event) -> None:
    loop.remove_reader(parent)
    stop.set()


def node_id(data_dir: Path) -> str:
    """Return this instance's name in hop marks: made once, kept in the data directory."""
    path = data_dir / "node_id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(uuid.uuid4().hex[:12])
        return path.read_text().strip()
