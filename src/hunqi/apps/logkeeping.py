"""Log lines that outlive the services that wrote them: copied to files as a service is stopped.

Docker removes a task's log with the task. So when a service is about to be scaled to zero or removed, its last lines
are read and then followed until it is gone. Bounded three times: lines of a service, bytes of its file, bytes of an
app (the oldest files go). A file holds a JSON object per line, named after the Swarm service.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hunqi.apps.operations import LogLine
from hunqi.apps.situation import Situation
from hunqi.engine.errors import NotFoundError
from hunqi.engine.ports import Engine
from hunqi.errors import HunqiError
from hunqi.kit.files import write_atomic

TAIL_LINES: Final = 5000
FILE_BYTES: Final = 4 * 1024 * 1024
APP_BYTES: Final = 32 * 1024 * 1024
FOLLOW_S: Final = 90.0
"""How long a service that stops is followed."""
_AT_ONCE: Final = 16
_BATCH: Final = 200
_LOOK_S: Final = 1.0
"""Between writes, and looks at whether a service is still there."""
_LINE_BYTES: Final = 16 * 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A Swarm service whose lines are kept. ``nodes``: id → host name."""

    app: str
    name: str
    service: str
    revision: int
    nodes: Mapping[str, str]


class LogKeeper:
    """Keeps lines below ``directory``, one folder per app; copies while ``run`` runs."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self._engine = engine
        self._directory: Final = directory
        self._group: asyncio.TaskGroup | None = None
        self._kept: set[str] = set()
        self._forgotten: set[str] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Copy what is to be kept, until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    def keep(self, service: str, at: Situation) -> None:
        """Begin to keep what the Swarm service ``service`` wrote and still writes; returns at once."""
        standing = at.standings.get(service)
        if self._group is None or standing is None or service in self._kept:
            return
        self._kept.add(service)
        self._forgotten.discard(at.app.name)
        nodes = {node.id: node.hostname for node in at.snapshot.nodes.values()}
        source = Source(app=at.app.name, name=service, service=standing.key, revision=standing.revision, nodes=nodes)
        self._group.create_task(self.copy(source, follow=True))

    def read(
        self, app: str, *, services: Iterable[str] = (), tail: int | None = None, name: str | None = None
    ) -> list[LogLine]:
        """Return kept lines of ``app``, oldest service first; of all services if none is named. Reads files.

        ``name`` is that of one Swarm service.
        """
        wanted = set(services)
        lines: list[LogLine] = []
        for path in self._files(app):
            if name is not None and path.stem != name:
                continue
            found = [line for line in _lines_of(path) if not wanted or line.service in wanted]
            lines.extend(found if tail is None else found[-tail:] if tail else ())
        return lines

    def forget(self, app: str) -> None:
        """Remove what is kept of an app, and keep nothing that its services still write."""
        self._forgotten.add(app)
        for path in self._files(app):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            (self._directory / app).rmdir()

    async def copy(self, source: Source, *, follow: bool) -> None:
        """Copy the last lines of a service, with ``follow`` those to come until it is gone (``FOLLOW_S`` at most)."""
        batch: list[str] = []
        try:
            async with self._slots, asyncio.timeout(FOLLOW_S):
                if follow:
                    await self._follow(source, batch)
                else:
                    await self._read(source, batch, follow=False)
        except (HunqiError, TimeoutError) as error:
            _log.info("app=%s service=%s: no more of its lines: %s", source.app, source.name, error or "in time")
        finally:
            self._kept.discard(source.name)
            self._write(source, batch)

    async def _follow(self, source: Source, batch: list[str]) -> None:
        """Read until the service is gone: Docker does not end the stream of one that is removed."""
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read(source, batch, follow=True))
            while not reading.done():
                await asyncio.sleep(_LOOK_S)
                self._write(source, batch)
                try:
                    await self._engine.services.inspect(source.name)
                except NotFoundError:
                    await asyncio.sleep(_LOOK_S)
                    reading.cancel()
                    return
                except HunqiError:
                    continue

    async def _read(self, source: Source, batch: list[str], *, follow: bool) -> None:
        try:
            async with self._engine.services.logs(source.name, follow=follow, tail=TAIL_LINES) as lines:
                async for line in lines:
                    kept = {
                        "service": source.service,
                        "revision": source.revision,
                        "task": line.task,
                        "node": source.nodes.get(line.node, line.node),
                        "stream": line.stream,
                        "at": line.time,
                        "text": line.text[:_LINE_BYTES],
                    }
                    batch.append(json.dumps(kept, ensure_ascii=False))
                    if len(batch) >= _BATCH:
                        self._write(source, batch)
        except HunqiError as error:
            _log.info("app=%s service=%s: no more of its lines: %s", source.app, source.name, error)

    def _write(self, source: Source, batch: list[str]) -> None:
        """Write the batch (a few dozen KiB) and empty it."""
        lines, batch[:] = list(batch), []
        if source.app in self._forgotten:
            return
        try:
            append_lines(self._directory / source.app / f"{source.name}.log", lines)
            self._bound(source.app)
        except OSError as error:
            _log.warning("app=%s service=%s: its lines cannot be kept: %s", source.app, source.name, error)

    def _bound(self, app: str) -> None:
        files = self._files(app)
        total = sum(path.stat().st_size for path in files)
        for path in files[:-1]:
            if total <= APP_BYTES:
                return
            total -= path.stat().st_size
            path.unlink(missing_ok=True)

    def _files(self, app: str) -> list[Path]:
        """Return the app's files, oldest first."""
        folder = self._directory / app
        if not folder.is_dir():
            return []
        return sorted(folder.glob("*.log"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def append_lines(path: Path, lines: list[str]) -> None:
    """Add lines to a file of the owner's; past ``FILE_BYTES`` it keeps the newer half. Raises ``OSError``."""
    if not lines:
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = ("\n".join(lines) + "\n").encode()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab") as file:
        fits = file.tell() + len(data) <= FILE_BYTES
        if fits:
            file.write(data)
    if not fits:
        # The newest lines tell why it stopped: the older half goes.
        write_atomic(path, _last_lines(path.read_bytes() + data, FILE_BYTES // 2), mode=0o600)


def _last_lines(data: bytes, most: int) -> bytes:
    if len(data) <= most:
        return data
    return data[-most:].partition(b"\n")[2]


def _lines_of(path: Path) -> Iterator[LogLine]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                yield LogLine(**json.loads(text))
            except (ValueError, TypeError):
                continue
