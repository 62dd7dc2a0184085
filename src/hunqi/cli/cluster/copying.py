"""``hunqi app cp``: files out of a running task, and into one."""

from __future__ import annotations

import asyncio
import tarfile
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Final

import typer
from rich.text import Text

from hunqi.cli.cluster.calls import Api, call_api, path_of
from hunqi.cli.cluster.entering import EnterError
from hunqi.cli.cluster.given import TaskOption
from hunqi.cli.show import out
from hunqi.client.errors import RefusedError

_PIECE: Final = 64 * 1024
Place = tuple[str, str, str]
"""App, service and path."""


def cp(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A path here, or APP/SERVICE:PATH.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A path here, or APP/SERVICE:PATH.")],
    *,
    task: TaskOption = "",
) -> None:
    """Copy files out of a running task, or into one.

    What is copied into a task is gone with the task; volumes stay.

    [bold]Examples[/bold]

      [cyan]hunqi app cp shop/web:/app/report.csv .[/cyan]
      [cyan]hunqi app cp seed.sql shop/db:/tmp[/cyan]
    """
    there, here = _place(source), _place(target)
    if (there is None) == (here is None):
        raise EnterError("one of the two is APP/SERVICE:PATH, the other a path on this machine")
    if there is not None:
        call_api(lambda api: _get(api, there, Path(target), task))
    elif here is not None:
        call_api(lambda api: _put(api, Path(source), here, task))


def _place(text: str) -> Place | None:
    """Return app, service and path of ``APP/SERVICE:PATH``; None for a path on this machine."""
    head, colon, path = text.partition(":")
    app, slash, service = head.partition("/")
    if not colon or not slash or not app or not service or "/" in service or app.startswith("."):
        return None
    if not path.startswith("/"):
        raise EnterError(f"{text!r}: a path in a task is absolute")
    return app, service, path


async def _get(api: Api, place: Place, target: Path, task: str) -> None:
    app, service, path = place
    with tempfile.TemporaryFile() as spool:
        async with api.stream("GET", path_of("apps", app, "files"), query=_file_query(service, path, task)) as content:
            async for data in content.iter_chunked(_PIECE):
                spool.write(data)
        spool.seek(0)
        names = unpack(spool, target, name=PurePosixPath(path).name)
    out().print(Text(f"copied {len(names)} {'file' if len(names) == 1 else 'files'} to {target}"))


def unpack(source: IO[bytes], target: Path, *, name: str) -> list[str]:
    """Unpack a tar of a task below ``target``; return the names of its files.

    A ``target`` that is not there names the one file, or the directory ``name``, itself. Nothing leaves it: links out
    of it and special files are refused (PEP 706). Raises :class:`EnterError`.
    """
    with tarfile.open(fileobj=source, mode="r:") as archive:
        members = archive.getmembers()
        if not target.is_dir():
            _rename(members, target, name)
            target = target.parent
        try:
            archive.extractall(target, members=members, filter="data")
        except (tarfile.FilterError, tarfile.TarError) as error:
            raise EnterError(f"the task sent what may not be unpacked: {error}") from error
        except OSError as error:
            raise EnterError(f"{error.filename or target} cannot be written: {error.strerror}") from error
        return [member.name for member in members if member.isfile()]


def _rename(members: list[tarfile.TarInfo], target: Path, name: str) -> None:
    """Give what came the name of ``target``, which is no directory. Raises :class:`EnterError`."""
    if not target.parent.is_dir():
        raise EnterError(f"{target.parent} is no directory")
    is_file = len(members) == 1 and members[0].isfile()
    if target.exists() and not is_file:
        raise EnterError(f"{target} is a file, and {name} a directory")
    for member in members:
        first, slash, rest = member.name.partition("/")
        if first != name and not is_file:
            raise EnterError(f"the task sent what may not be unpacked: {member.name}")
        member.name = target.name + (slash + rest if not is_file else "")


async def _put(api: Api, source: Path, place: Place, task: str) -> None:
    """Send a file or directory into a directory of a task, or a file under another name."""
    app, service, path = place
    if not source.exists():
        raise EnterError(f"{source} does not exist")
    try:
        await _send(api, source, place, task, name=source.resolve().name)
    except RefusedError as error:
        parent = PurePosixPath(path).parent
        if error.problem_code != "task-path.not-found" or not source.is_file() or path.endswith("/"):
            raise
        await _send(api, source, (app, service, str(parent)), task, name=PurePosixPath(path).name)
    out().print(Text(f"copied {source} to {app}/{service}:{path}"))


async def _send(api: Api, source: Path, place: Place, task: str, *, name: str) -> None:
    app, service, path = place
    with tempfile.TemporaryFile() as spool:
        with tarfile.open(fileobj=spool, mode="w") as archive:
            archive.add(source, arcname=name)
        spool.seek(0)
        query = _file_query(service, path, task)
        async with api.stream("PUT", path_of("apps", app, "files"), query=query, data=_pieces(spool)):
            pass


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while data := await asyncio.to_thread(file.read, _PIECE):
        yield data


def _file_query(service: str, path: str, task: str) -> dict[str, str]:
    return {"service": service, "task": task, "path": path}
