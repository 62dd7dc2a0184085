"""Brings a database to the schema of this version: alembic's migrations, run from code, in one transaction.

Alembic is imported only when there is something to do: it weighs several MiB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.state.errors import StateVersionError

HEAD: Final = "0003"
"""The last migration of this version; a test compares it with the scripts."""
SCRIPTS: Final = Path(__file__).parent / "migrations"
_VERSION_TABLE: Final = "alembic_version"


async def migrate(connection: AsyncConnection, *, to: str = HEAD) -> None:
    """Bring the schema to ``to``, forward only. Raises ``StateVersionError`` for one of a newer Hunqi."""
    if await connection.run_sync(current) != to:
        await connection.run_sync(_upgrade, to)


def current(connection: Connection) -> str | None:
    """Return the migration that the database is at; None for an empty one."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608  (a constant)


def configuration() -> Any:  # alembic's Config: named as Any so that nobody imports alembic for a type
    """Return alembic's configuration for the scripts of this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _upgrade(connection: Connection, to: str) -> None:
    from alembic import command
    from alembic.util.exc import CommandError

    config = configuration()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise StateVersionError(
            f"the database is at {current(connection)}, which this Hunqi does not know: it was written by a newer one. "
            "Install that version again, or restore a backup made before the upgrade"
        ) from error
