"""Commands inside running containers of this node."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from hunqi.engine import parse
from hunqi.engine.duplex import Duplex
from hunqi.engine.transport import Transport, quoted


class Execs:
    """Commands: created, started as a duplex stream, looked at."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self,
        container: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        user: str = "",
        directory: str = "",
        stdin: bool = False,
        tty: bool = False,
    ) -> str:
        """Prepare a command and return its id. Raises ``NotFoundError``, ``ConflictError`` if it does not run."""
        body = {
            "Cmd": list(argv),
            "Env": [f"{key}={value}" for key, value in (env or {}).items()],
            "User": user,
            "WorkingDir": directory,
            "AttachStdin": stdin,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": tty,
        }
        answer = await self._transport.call("POST", f"/containers/{quoted(container)}/exec", body=body)
        return parse.fields(answer, "command")["Id"]

    @asynccontextmanager
    async def start(self, command: str, *, tty: bool = False) -> AsyncGenerator[Duplex]:
        """Start it and give its streams; a program that is not there is said in them, and exits with 126 or 127."""
        body = {"Detach": False, "Tty": tty}
        async with self._transport.duplex(f"/exec/{quoted(command)}/start", body=body, tty=tty) as duplex:
            yield duplex

    async def resize(self, command: str, *, rows: int, columns: int) -> None:
        """Tell its terminal its size."""
        params = {"h": rows, "w": columns}
        await self._transport.call("POST", f"/exec/{quoted(command)}/resize", params=params)

    async def exit_code(self, command: str) -> int | None:
        """Return the exit code, None while it runs."""
        answer = parse.fields(await self._transport.call("GET", f"/exec/{quoted(command)}/json"), "command")
        return None if answer.get("Running") else answer.get("ExitCode")
