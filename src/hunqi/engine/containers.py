"""Containers of this node: plain ones that Hunqi keeps, and those of tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from hunqi.engine import parse
from hunqi.engine.logs import Lines, open_lines
from hunqi.engine.model import JSON, Container
from hunqi.engine.transport import Body, Transport, filters, labelled, quoted

_START_S: Final = 60.0
_ARCHIVE_S: Final = 24 * 3600.0


class Containers:
    """Containers, by id or name."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self, labels: Mapping[str, str] | None = None, *, stopped: bool = False) -> list[Container]:
        """Return the containers with all of these labels that run, the stopped ones too if asked."""
        params = {"filters": filters(label=labelled(labels)), "all": stopped}
        answer = await self._transport.call("GET", "/containers/json", params=params)
        return [parse.listed_container(item) for item in parse.items(answer, "containers")]

    async def inspect(self, container: str) -> Container:
        """Return a container, with its health, address and pid. Raises ``NotFoundError``."""
        answer = await self._transport.call("GET", f"/containers/{quoted(container)}/json")
        return parse.container(parse.fields(answer, "container"))

    async def create(self, name: str, spec: JSON) -> str:
        """Create a container of the API's ``ContainerCreate`` body and return its id.

        Raises ``ConflictError`` where the name is taken, ``NotFoundError`` without its image.
        """
        answer = await self._transport.call(
            "POST", "/containers/create", params={"name": name}, body=spec, timeout_s=_START_S
        )
        return parse.fields(answer, "container")["Id"]

    async def start(self, container: str) -> None:
        """Start a container; one that runs is left as it is. Raises ``EngineFailedError`` with Docker's reason."""
        await self._transport.call("POST", f"/containers/{quoted(container)}/start", timeout_s=_START_S)

    async def stop(self, container: str, *, grace_s: int = 10) -> None:
        """Send the stop signal, kill after ``grace_s``; one that is stopped is left as it is."""
        path = f"/containers/{quoted(container)}/stop"
        await self._transport.call("POST", path, params={"t": grace_s}, timeout_s=grace_s + _START_S)

    async def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send a signal. Raises ``ConflictError`` if it does not run."""
        await self._transport.call("POST", f"/containers/{quoted(container)}/kill", params={"signal": signal})

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container, with its anonymous ``volumes`` if asked. Raises ``NotFoundError``, ``ConflictError``."""
        params = {"force": force, "v": volumes}
        await self._transport.call("DELETE", f"/containers/{quoted(container)}", params=params, timeout_s=_START_S)

    async def rename(self, container: str, name: str) -> None:
        """Give a container another name. Raises ``ConflictError`` where that is taken."""
        await self._transport.call("POST", f"/containers/{quoted(container)}/rename", params={"name": name})

    async def wait(self, container: str, *, timeout_s: float) -> int:
        """Wait until it does not run and return its exit code. Raises ``EngineUnreachableError`` past the time."""
        answer = await self._transport.call("POST", f"/containers/{quoted(container)}/wait", timeout_s=timeout_s)
        return parse.fields(answer, "exit")["StatusCode"]

    async def stats(self, container: str) -> JSON:
        """Return the Engine API's sample of now (``cpu_stats``, ``memory_stats``, ``networks``)."""
        params = {"stream": False, "one-shot": True}
        return parse.fields(
            await self._transport.call("GET", f"/containers/{quoted(container)}/stats", params=params), "sample"
        )

    @asynccontextmanager
    async def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_s: int | None = None,
        tty: bool = False,
    ) -> AsyncGenerator[Lines]:
        """Open a container's lines; ``since_s`` in seconds of Unix time."""
        params = {"follow": follow, "tail": "all" if tail is None else str(tail), "since": since_s}
        path = f"/containers/{quoted(container)}/logs"
        async with open_lines(self._transport, path, params=params, detailed=False, tty=tty) as lines:
            yield lines

    @asynccontextmanager
    async def read_archive(self, container: str, path: str) -> AsyncGenerator[Body]:
        """Open a tar of the file or directory at ``path``. Raises ``NotFoundError``."""
        target = f"/containers/{quoted(container)}/archive"
        async with self._transport.stream("GET", target, params={"path": path}, timeout_s=_START_S) as body:
            yield body

    async def write_archive(self, container: str, path: str, tar: AsyncIterable[bytes]) -> None:
        """Unpack a tar into the directory at ``path``. Raises ``NotFoundError``, ``EngineRefusedError``."""
        target = f"/containers/{quoted(container)}/archive"
        await self._transport.call("PUT", target, params={"path": path}, body=tar, timeout_s=_ARCHIVE_S)
