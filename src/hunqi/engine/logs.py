"""Log lines of a service, a task or a container, from frames or from a terminal's bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, Protocol
from urllib.parse import unquote

from hunqi.engine.errors import EngineFailedError
from hunqi.engine.frames import STDOUT, Frames
from hunqi.engine.model import LogLine
from hunqi.engine.transport import Params, Transport

LINE_BYTES: Final = 1024 * 1024
"""A longer line is given in pieces."""
_FIRST_ANSWER_S: Final = 60.0
_TASK: Final = "com.docker.swarm.task.id"
_NODE: Final = "com.docker.swarm.node.id"
_SERVICE: Final = "com.docker.swarm.service.id"


class Source(Protocol):
    """Where pieces of a stream come from."""

    async def read(self) -> bytes:
        """Return the next bytes, empty at the end."""
        ...


class Lines:
    """Log lines, pulled. ``detailed``: each line carries its task's ids."""

    def __init__(self, source: Source, *, detailed: bool, framed: bool = True) -> None:
        self._source = source
        self._detailed = detailed
        self._frames = Frames() if framed else None
        self._ready: list[LogLine] = []
        self._rests: dict[str, bytes] = {}

    def __aiter__(self) -> Lines:
        """Iterate over the lines as they come."""
        return self

    async def __anext__(self) -> LogLine:
        """Return the next line. Raises the engine's errors; ends with the log."""
        while not self._ready:
            data = await self._source.read()
            if not data:
                self._finish()
                if not self._ready:
                    raise StopAsyncIteration
                break
            self._take(data)
        return self._ready.pop(0)

    def _take(self, data: bytes) -> None:
        if self._frames is None:
            self._split(STDOUT, data)
            return
        self._frames.feed(data)
        while (frame := self._frames.take()) is not None:
            self._split(*frame)

    def _split(self, stream: str, data: bytes) -> None:
        *lines, rest = (self._rests.pop(stream, b"") + data).split(b"\n")
        if len(rest) > LINE_BYTES:
            lines, rest = [*lines, rest], b""
        if rest:
            self._rests[stream] = rest
        self._ready += [_line(stream, line, detailed=self._detailed) for line in lines]

    def _finish(self) -> None:
        for stream, rest in self._rests.items():
            self._ready.append(_line(stream, rest, detailed=self._detailed))
        self._rests = {}


@asynccontextmanager
async def open_lines(
    transport: Transport, path: str, *, params: Params, detailed: bool, tty: bool
) -> AsyncGenerator[Lines]:
    """Open the log at ``path``. Raises the engine's errors."""
    query = {**params, "stdout": True, "stderr": True, "timestamps": True, "details": detailed}
    async with transport.stream("GET", path, params=query, timeout_s=_FIRST_ANSWER_S) as body:
        yield Lines(body, detailed=detailed, framed=not tty)


def _line(stream: str, data: bytes, *, detailed: bool) -> LogLine:
    text = data.decode(errors="replace").removesuffix("\r")
    time, _, text = text.partition(" ")
    if not detailed:
        return LogLine(text=text, stream=stream, time=time)
    details, _, text = text.partition(" ")
    ids: dict[str, str] = {}
    for pair in details.split(","):
        key, _, value = pair.partition("=")
        ids[key] = value
    if _TASK not in ids:
        raise EngineFailedError("a line of a service's log does not say whose it is")
    return LogLine(
        text=text,
        stream=stream,
        time=time,
        task=unquote(ids[_TASK]),
        node=unquote(ids.get(_NODE, "")),
        service=unquote(ids.get(_SERVICE, "")),
    )
