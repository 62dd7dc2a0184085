"""The gateway's access log: Envoy writes a line of JSON for each request to its container's output, Docker keeps them.

Read from the end, as far as a bound. Credentials do not get into that log as headers; those that clients put into a
query are taken out here.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from hunqi.engine.client import Docker
from hunqi.engine.errors import NotFoundError
from hunqi.engine.model import LABEL_CLUSTER, LABEL_KIND, LogLine
from hunqi.gateway.boxes import KIND_ENVOY
from hunqi.nodes.wire import RequestLine, RequestLines, RequestQuery

LOOKED_AT: Final = (1000, 20_000)
"""Lines of each Envoy that are read: the last ones, then more of them if too few were meant."""
MOST: Final = 1000
_SECRET: Final = re.compile(
    r"([?&](?:code|[^=&#]*(?:token|secret|password|passwd|pwd|key|auth|authorization|signature|sig|session|session_?id"
    r"|jwt|credentials?))=)[^&#]*",
    re.IGNORECASE,
)
_STATUS: Final = re.compile(r"[1-5](?:xx|\d\d)")


def is_status(text: str) -> bool:
    """Whether ``text`` is a status (``404``) or a class of them (``5xx``)."""
    return _STATUS.fullmatch(text) is not None


def without_secrets(path: str) -> str:
    """Return the path with ``***`` for values of its query whose names sound secret."""
    return _SECRET.sub(r"\1***", path) if "?" in path else path


class RequestLog:
    """The access log of this node's gateway."""

    def __init__(self, docker: Docker, *, cluster: str, gateway: str) -> None:
        """``gateway`` is what the names of its containers begin with."""
        self._docker = docker
        self._labels = {LABEL_CLUSTER: cluster, LABEL_KIND: KIND_ENVOY}
        self._prefix = f"{gateway}-"

    async def read(self, query: RequestQuery) -> RequestLines:
        """Return what is meant of the lines that are kept. Raises the engine's errors."""
        envoys = await self._docker.containers.list(self._labels, stopped=True)
        ours = [each.id for each in envoys if each.name.lstrip("/").startswith(self._prefix)]
        limit = min(max(query.limit, 0), MOST)
        found: list[RequestLine] = []
        until, incomplete = query.after, False
        for container in ours:
            lines, last, was_cut = await self._of(container, query, limit)
            found += lines
            until = max(until, last)
            incomplete = incomplete or was_cut
        found.sort(key=lambda each: each.written)
        return RequestLines(lines=tuple(found[-limit:] if limit else ()), until=until, incomplete=incomplete)

    async def _of(self, container: str, query: RequestQuery, limit: int) -> tuple[list[RequestLine], str, bool]:
        found: list[RequestLine] = []
        last, was_cut = "", False
        for tail in LOOKED_AT:
            found, last, looked_at = await self._tail(container, query, tail)
            was_cut = looked_at >= tail
            if len(found) >= limit or not was_cut:
                return found, last, False
        return found, last, was_cut

    async def _tail(self, container: str, query: RequestQuery, tail: int) -> tuple[list[RequestLine], str, int]:
        found: list[RequestLine] = []
        last, looked_at = "", 0
        try:
            async with self._docker.containers.logs(container, tail=tail) as lines:
                async for line in lines:
                    if line.time <= query.after:
                        continue
                    looked_at += 1
                    last = line.time
                    if (request := _meant(line, query)) is not None:
                        found.append(request)
        except NotFoundError:
            return [], "", 0  # it has gone
        return found, last, looked_at


def _meant(line: LogLine, query: RequestQuery) -> RequestLine | None:
    if line.stream != "stdout" or f'"app":"{query.app}"' not in line.text:
        return None
    try:
        said: Any = orjson.loads(line.text)
    except ValueError:
        return None
    request = _parse(line.time, said)
    if request.app != query.app or (query.service and request.service != query.service):
        return None
    if query.revision is not None and request.revision != query.revision:
        return None
    if query.status and not _fits(request.status, query.status):
        return None
    return request


def _fits(status: int, wanted: str) -> bool:
    return str(status) == wanted or (wanted.endswith("xx") and str(status)[:1] == wanted[:1])


def _parse(written: str, said: Any) -> RequestLine:
    revision = str(said.get("revision", ""))
    return RequestLine(
        written=written,
        at=str(said.get("time", "")),
        node=str(said.get("node", "")),
        app=str(said.get("app", "")),
        service=str(said.get("service", "")),
        revision=int(revision) if revision.isdecimal() else None,
        task=str(said.get("task", "")),
        kind=str(said.get("kind", "")),
        client=str(said.get("client", "")),
        method=str(said.get("method", "")),
        host=str(said.get("host", "")),
        path=without_secrets(str(said.get("path", ""))),
        protocol=str(said.get("protocol", "")),
        status=_number(said, "status"),
        flags=str(said.get("flags", "")),
        detail=str(said.get("detail", "")),
        duration_ms=_number(said, "duration_ms"),
        task_ms=_number(said, "task_ms") if "task_ms" in said else None,
        attempts=_number(said, "attempts"),
        received_bytes=_number(said, "received_bytes"),
        sent_bytes=_number(said, "sent_bytes"),
        request_id=str(said.get("request_id", "")),
        user_agent=str(said.get("agent", "")),
    )


def _number(said: Any, name: str) -> int:
    held = said.get(name, 0)
    return held if isinstance(held, int) else 0
