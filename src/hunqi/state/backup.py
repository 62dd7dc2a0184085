"""Copies of the database while it is in use: SQLite's online backup, ``pg_dump`` for PostgreSQL; and back.

The copy is consistent (one moment), readable by its owner only, and there whole or not at all. It holds no key: what is
sealed in it opens only with the cluster's key file, which is to be kept elsewhere.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from hunqi.state.engines import Url, parse_url
from hunqi.state.errors import BackupFailedError, StateDamagedError, StateUrlError

_TIMEOUT_S: Final = 3600.0
_PAGES: Final = 1024
"""Of 4 KiB at a time, so that writers get in between."""


async def back_up(url: str, target: Path) -> int:
    """Write a copy of the database at ``url`` to ``target`` and return its size in bytes.

    Raises ``BackupFailedError``; a file at ``target`` is replaced only by a whole copy.
    """
    parsed = parse_url(url)
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        if parsed.is_sqlite:
            await asyncio.to_thread(_copy_sqlite, parsed.path, unfinished)
        else:
            arguments = ("--format=custom", "--no-owner", "--no-privileges", "--file", str(unfinished))
            await _run(parsed, "pg_dump", arguments)
        size_bytes = unfinished.stat().st_size
        unfinished.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise BackupFailedError(f"the backup could not be written to {target}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return size_bytes


async def restore(url: str, source: Path) -> None:
    """Put the copy at ``source`` in place of the database at ``url``. No process may have it open.

    Raises ``StateUrlError``, ``StateDamagedError`` (``source`` is no copy) and ``BackupFailedError``.
    """
    parsed = parse_url(url)
    if not source.is_file():
        raise StateUrlError(f"there is no backup at {source}")
    try:
        if parsed.is_sqlite:
            await asyncio.to_thread(_restore_sqlite, source, parsed.path)
        else:
            arguments = ("--clean", "--if-exists", "--no-owner", "--single-transaction", "--exit-on-error", str(source))
            await _run(parsed, "pg_restore", ("--dbname", parsed.value.database or "", *arguments))
    except (OSError, sqlite3.Error) as error:
        raise BackupFailedError(f"the backup could not be restored: {error}") from error


def _copy_sqlite(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as origin,
        closing(sqlite3.connect(target)) as copy,
    ):
        origin.backup(copy, pages=_PAGES, sleep=0.005)
        copy.execute("PRAGMA journal_mode = DELETE")


def _restore_sqlite(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as origin:
        try:
            found = origin.execute("PRAGMA integrity_check").fetchone()
        except sqlite3.DatabaseError as error:
            raise StateDamagedError(f"{source} is no copy of a database: {error}") from error
    if found != ("ok",):
        raise StateDamagedError(f"{source} is damaged: {found[0]}")
    mine = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.close(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        shutil.copyfile(source, mine)
        for suffix in ("-wal", "-shm"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        mine.replace(target)
    finally:
        mine.unlink(missing_ok=True)


async def _run(url: Url, program: str, arguments: Sequence[str]) -> None:
    """Run one of PostgreSQL's programs; the password goes by its environment, never by an argument."""
    if (found := shutil.which(program)) is None:
        raise BackupFailedError(f"{program} is missing: install the postgresql-client package")
    process = await asyncio.create_subprocess_exec(
        found, *arguments, env=_environment(url), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, said = await process.communicate()
    except TimeoutError as error:
        raise BackupFailedError(f"{program} took more than {_TIMEOUT_S:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise BackupFailedError(f"{program} failed: {said.decode(errors='replace').strip()[-500:]}")


def _environment(url: Url) -> dict[str, str]:
    value = url.value
    host = value.host or value.query.get("host") or ""
    port = value.port or value.query.get("port") or ""
    wanted = {
        "PGHOST": host if isinstance(host, str) else host[0],
        "PGPORT": str(port),
        "PGUSER": value.username or "",
        "PGPASSWORD": str(value.password or ""),
        "PGDATABASE": value.database or "",
    }
    kept = {key: held for key, held in os.environ.items() if key in {"PATH", "HOME", "LANG", "LC_ALL"}}
    return kept | {key: held for key, held in wanted.items() if held}
