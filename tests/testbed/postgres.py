"""A real PostgreSQL server of our own: a private cluster on a unix socket in a temporary directory.

PostgreSQL refuses to run as root, so root starts it as the user ``postgres`` of Debian's package.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class PostgresServer:
    """A running server that makes databases."""

    def __init__(self, directory: Path, bin_directory: Path, user: str | None) -> None:
        self._directory = directory
        self._bin = bin_directory
        self._user = user

    def create(self) -> str:
        """Make an empty database and return its URL."""
        name = f"hunqi_{secrets.token_hex(6)}"
        self.run("createdb", "--host", str(self._directory), "--username", "postgres", name)
        return f"postgresql://postgres@/{name}?host={self._directory}"

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs and return what it printed."""
        return subprocess.run(
            [str(self._bin / program), *arguments],
            user=self._user,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self._directory,
        ).stdout


@contextmanager
def run_postgres() -> Iterator[PostgresServer]:
    """Start a server without durability, for tests; it is gone afterwards."""
    bin_directory = max(Path("/usr/lib/postgresql").glob("*/bin"))
    user = "postgres" if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="hunqi-pg-"))
    if user:
        entry = pwd.getpwnam(user)
        os.chown(directory, entry.pw_uid, entry.pw_gid)
    server = PostgresServer(directory, bin_directory, user)
    data = directory / "data"
    try:
        server.run("initdb", "--pgdata", str(data), "--username", "postgres", "--auth", "trust", "--encoding", "UTF8",
                   "--locale", "C.UTF-8", "--no-sync")  # fmt: skip
        options = f"-c listen_addresses= -c unix_socket_directories={directory} -c fsync=off -c shared_buffers=16MB"
        server.run("pg_ctl", "--pgdata", str(data), "--wait", "--log", str(directory / "log"), "-o", options, "start")
        try:
            yield server
        finally:
            server.run("pg_ctl", "--pgdata", str(data), "--mode", "immediate", "--wait", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of a process."""
    with run_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.create()
