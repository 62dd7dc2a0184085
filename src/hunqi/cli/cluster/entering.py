"""``hunqi app exec|run|port-forward``: ways into the tasks of an app."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections import Counter
from collections.abc import Generator
from typing import Annotated, Any, ClassVar, Final

import aiohttp
import typer
from rich.console import Console
from rich.text import Text

from hunqi.cli.cluster.calls import Api, call_api, path_of
from hunqi.cli.cluster.given import AppArgument, DetachOption, ReasonOption, TaskOption
from hunqi.cli.cluster.logs import plain, require_service
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_json
from hunqi.errors import DependencyError, HunqiError, UserError

STDIN: Final = 0
STDERR: Final = 2
"""The first byte of a binary frame."""
_PIECE: Final = 64 * 1024
_RUN_ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "skipped"})
_LOOK_S: Final = 0.5
_PORTS: Final = 65536

ServiceArgument = Annotated[str, typer.Argument(metavar="SERVICE")]


class EnterError(UserError):
    """A task cannot be entered as asked."""

    code: ClassVar[str] = "cli.enter"


class CutError(DependencyError):
    """The connection to a task was cut before its end."""

    code: ClassVar[str] = "cli.cut"


def execute(
    app: AppArgument,
    service: ServiceArgument,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="After -- if it has options.")],
    *,
    task: TaskOption = "",
    user: Annotated[str, typer.Option("--user", "-u", metavar="USER", help="Run as this user.")] = "",
    workdir: Annotated[str, typer.Option("--workdir", "-w", metavar="DIR", help="Run in this directory.")] = "",
    no_tty: Annotated[bool, typer.Option("--no-tty", "-T", help="No terminal, though there is one.")] = False,
) -> None:
    """Run a command in a running task; its exit code becomes yours.

    [bold]Examples[/bold]

      [cyan]hunqi app exec shop web sh[/cyan]
      [cyan]hunqi app exec shop db -- psql -U shop -c "select count(*) from orders"[/cyan]
      [cyan]cat dump.sql | hunqi app exec shop db -- psql -U shop[/cyan]
    """
    has_tty = not no_tty and sys.stdin.isatty() and sys.stdout.isatty()
    size = shutil.get_terminal_size()
    frame = {
        "command": command,
        "tty": has_tty,
        "stdin": True,
        "user": user,
        "workdir": workdir,
        "columns": size.columns,
        "rows": size.lines,
    }

    async def enter(api: Api) -> int:
        async with api.socket(path_of("apps", app, "exec"), service=service, task=task) as socket:
            await socket.send_str(json.dumps(frame))
            with _raw_terminal(active=has_tty):
                return await _pump(socket, has_tty=has_tty)

    raise typer.Exit(call_api(enter))


def run(
    app: AppArgument,
    service: ServiceArgument,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]...", help="Default: what the service runs.")
    ] = None,
    *,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="NAME=VALUE", help="Repeatable.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="S", help="Seconds until it is stopped.")] = 3600.0,
    reason: ReasonOption = "",
    detach: DetachOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a one-off command in a service's image, with its networks, secrets and volumes; then it is gone.

    [bold]Examples[/bold]

      [cyan]hunqi app run shop web -- python3 manage.py migrate[/cyan]
    """
    body: dict[str, Any] = {
        "service": service,
        "command": command or None,
        "environment": _environment(env or []),
        "timeout_s": timeout,
        "reason": reason,
    }

    async def work(api: Api) -> Any:
        begun = await api.post(path_of("apps", app, "runs"), body)
        return begun if detach else await _follow_run(api, app, str(begun["id"]), quiet=as_json)

    found = call_api(work)
    if as_json:
        print_json(found)
    elif detach:
        out().print(Text(f"run {found['id']} has begun"))
    elif found["state"] != "succeeded":
        code = f" with exit code {found['exit_code']}" if found["exit_code"] else ""
        Console(stderr=True).print(Text(f"the run {found['state']}{code}", style="red"))
    raise typer.Exit(0 if detach or found["state"] == "succeeded" else found["exit_code"] or 1)


def port_forward(
    app: AppArgument,
    service: ServiceArgument,
    ports: Annotated[str, typer.Argument(metavar="[HERE:]THERE", help="Such as 5432, or 15432:5432.")],
    *,
    task: TaskOption = "",
) -> None:
    """Reach a port of a task at a port of this machine (on loopback), until Ctrl-C.

    [bold]Examples[/bold]

      [cyan]hunqi app port-forward shop db 15432:5432[/cyan]
          Then: psql -h 127.0.0.1 -p 15432 -U shop
    """
    here, _, there = ports.rpartition(":")
    if not there.isdecimal() or (here and not here.isdecimal()):
        raise EnterError(f"{ports!r} is not [HERE:]THERE, such as 15432:5432")
    if not 0 < int(there) < _PORTS or not int(here or 0) < _PORTS:
        raise EnterError(f"{ports!r}: a port is a number from 1 to {_PORTS - 1}")
    path, query = path_of("apps", app, "forward"), {"service": service, "task": task, "port": int(there)}

    async def work(api: Api) -> None:
        await require_service(api, app, service)
        await _forward(api, path, query, int(here or there))

    call_api(work)


async def _pump(socket: aiohttp.ClientWebSocketResponse, *, has_tty: bool) -> int:
    """Carry bytes both ways until the command ends; return its exit code."""
    loop = asyncio.get_running_loop()
    typed: asyncio.Queue[bytes] = asyncio.Queue(maxsize=16)

    changed = asyncio.Event()

    async def send() -> None:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            while data := await typed.get():
                await socket.send_bytes(bytes([STDIN]) + data)
            await socket.send_str(json.dumps({"eof": True}))

    async def resize() -> None:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            while await changed.wait():
                changed.clear()
                size = shutil.get_terminal_size()
                await socket.send_str(json.dumps({"resize": [size.columns, size.lines]}))

    if has_tty:
        loop.add_signal_handler(signal.SIGWINCH, changed.set)
    _StdinThread(loop, typed).start()
    async with asyncio.TaskGroup() as tasks:
        others = [tasks.create_task(send()), tasks.create_task(resize())]
        outcome = await _receive(socket)
        for task in others:
            task.cancel()
    if isinstance(outcome, HunqiError):
        raise outcome
    return outcome


async def _receive(socket: aiohttp.ClientWebSocketResponse) -> int | HunqiError:
    """Write what comes; return the exit code, or why there is none."""
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY:
            channel, data = message.data[0], message.data[1:]
            sink = sys.stderr.buffer if channel == STDERR else sys.stdout.buffer
            sink.write(data)
            sink.flush()
        elif message.type is aiohttp.WSMsgType.TEXT:
            said: Any = json.loads(message.data)
            if "exit" in said:
                return int(said["exit"])
            if "error" in said:
                return EnterError(str(said["error"].get("message") or said["error"]))
    return CutError("the connection was cut before the command ended; it may still run")


class _StdinThread:
    """Reads standard input beside the loop: pipes and terminals alike, and a read of them cannot be cancelled."""

    def __init__(self, loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[bytes]) -> None:
        self._loop, self._queue = loop, queue

    def start(self) -> None:
        """Begin; the thread ends with the program."""
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    def _read(self) -> None:
        descriptor = sys.stdin.fileno()
        while True:
            try:
                data = os.read(descriptor, _PIECE)
                asyncio.run_coroutine_threadsafe(self._queue.put(data), self._loop).result()
            except (OSError, RuntimeError):
                return  # the loop has ended
            if not data:
                return


@contextlib.contextmanager
def _raw_terminal(*, active: bool) -> Generator[None]:
    if not active:
        yield
        return
    descriptor = sys.stdin.fileno()
    kept = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, kept)


async def _follow_run(api: Api, app: str, number: str, *, quiet: bool) -> Any:
    """Show what a run writes until it has ended, and return it; Docker does not say that nothing more will come."""
    path = path_of("apps", app, "runs", number)
    shown = Counter[str]()
    async with asyncio.TaskGroup() as tasks:
        following = None if quiet else tasks.create_task(_show_run(api, path, shown, follow=True))
        while True:
            found = await api.get(path)
            if found["state"] in _RUN_ENDED:
                break
            await asyncio.sleep(_LOOK_S)
        if following is not None:
            following.cancel()
    if not quiet:
        await _show_run(api, path, shown, follow=False)
    return found


async def _show_run(api: Api, path: str, shown: Counter[str], *, follow: bool) -> None:
    """Write the lines of a run but the first ``shown`` of each stream, and count them there."""
    passed = Counter[str]()
    with contextlib.suppress(DependencyError):  # how the run ended is asked for beside
        async with api.lines(f"{path}/logs", follow=follow) as lines:
            async for line in lines:
                passed[name := str(line["stream"])] += 1
                if passed[name] <= shown[name]:
                    continue
                shown[name] += 1
                stream = sys.stderr if name == "stderr" else sys.stdout
                stream.write(plain(str(line["text"])) + "\n")
                stream.flush()


def _environment(texts: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or (not equals and name not in os.environ):
            raise EnterError(f"--env: {text!r} is neither NAME=VALUE nor the name of a variable here")
        pairs[name] = value if equals else os.environ[name]
    return pairs


async def _forward(api: Api, path: str, query: dict[str, Any], here: int) -> None:
    console = Console(stderr=True, highlight=False)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with api.socket(path, **query) as socket:
                await _carry(socket, reader, writer)
        except (UserError, DependencyError, OSError) as error:
            console.print(Text(str(error), style="red"))
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(serve, "127.0.0.1", here)
    except OSError as error:
        raise EnterError(
            f"127.0.0.1:{here} cannot be listened on: {error.strerror}; give another: HERE:THERE"
        ) from error
    async with server:
        port = server.sockets[0].getsockname()[1]
        console.print(f"127.0.0.1:{port} is port {query['port']} of {query['service']}; Ctrl-C ends it")
        await server.serve_forever()


async def _carry(
    socket: aiohttp.ClientWebSocketResponse, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    async def outwards() -> None:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            while data := await reader.read(_PIECE):
                await socket.send_bytes(data)
            await socket.send_str(json.dumps({"eof": True}))

    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(outwards())
        problem = await _inwards(socket, writer)
        sending.cancel()
    if problem is not None:
        raise problem


async def _inwards(socket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter) -> EnterError | None:
    with contextlib.suppress(ConnectionError):
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                writer.write(message.data)
                await writer.drain()
            elif message.type is aiohttp.WSMsgType.TEXT:
                said: Any = json.loads(message.data)
                if "error" in said:
                    return EnterError(str(said["error"].get("message") or said["error"]))
    return None
