"""What can go wrong with the state, and the one place where a database's errors become ours."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import ClassVar, Final

from sqlalchemy import exc

from hunqi.errors import DependencyError, HunqiError, InvariantError, UserError


class StateUnavailableError(DependencyError):
    """The database does not answer, or stayed locked for too long."""

    code: ClassVar[str] = "state.unavailable"


class StateFullError(DependencyError):
    """The disk of the database is full; nothing was changed."""

    code: ClassVar[str] = "state.full"


class StateConflictError(UserError):
    """A row with this key is there already, or a row that it needs is not."""

    code: ClassVar[str] = "state.conflict"


class StateInvalidError(InvariantError):
    """The database did not understand us, or we did not understand it."""

    code: ClassVar[str] = "state.invalid"


class StateVersionError(UserError):
    """The database was written by another, newer Hunqi."""

    code: ClassVar[str] = "state.version"


class StateUrlError(UserError):
    """The URL of the database cannot be used; the message never repeats its password."""

    code: ClassVar[str] = "state.url"


class StateDamagedError(UserError):
    """The file is not a database, or not a whole one."""

    code: ClassVar[str] = "state.damaged"


class LeaseLostError(DependencyError):
    """Another process leads now: what this one wanted to write was not written."""

    code: ClassVar[str] = "state.lease-lost"


class SealBrokenError(UserError):
    """What was sealed cannot be opened with the key of this cluster."""

    code: ClassVar[str] = "state.seal-broken"


class ClusterKeyError(UserError):
    """The file of the cluster's key cannot be used."""

    code: ClassVar[str] = "state.cluster-key"


class BackupFailedError(DependencyError):
    """The copy of the database could not be made; what there is of it was removed."""

    code: ClassVar[str] = "state.backup-failed"


_FULL: Final = ("disk is full", "no space left", "could not extend file")
_DAMAGED: Final = ("file is not a database", "disk image is malformed")


def translate(error: BaseException) -> HunqiError:
    """Return the state's error for one of SQLAlchemy's, the drivers' or the kernel's."""
    if isinstance(error, exc.IntegrityError):
        return StateConflictError(f"the change contradicts what is stored: {_cause(error)}")
    text = str(error).lower()
    if any(part in text for part in _FULL):
        return StateFullError("the disk of the database is full: make room, then try again")
    if any(part in text for part in _DAMAGED):
        return StateDamagedError(f"the database is damaged ({_cause(error)}): restore a backup")
    unreachable = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, OSError, TimeoutError)
    if isinstance(error, unreachable) or (isinstance(error, exc.DBAPIError) and error.connection_invalidated):
        return StateUnavailableError(f"the database does not answer: {_cause(error)}")
    if isinstance(error, exc.DBAPIError) and _is_waiting(error):
        return StateUnavailableError(f"the database is too busy: {_cause(error)}")
    return StateInvalidError(f"the database refused a statement: {_cause(error)}")


@contextmanager
def translated() -> Generator[None]:
    """Raise the state's errors in place of SQLAlchemy's."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        raise translate(error) from error


def _cause(error: BaseException) -> str:
    """Say what the driver said, without the statement and its parameters, which may hold secrets."""
    origin = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    if isinstance(error, exc.StatementError) and not isinstance(error, exc.DBAPIError):
        return type(error).__name__
    return str(origin).split("\n", 1)[0][:200] or type(origin).__name__


def _is_waiting(error: exc.DBAPIError) -> bool:
    """Whether PostgreSQL gave up waiting (55P03), was cancelled or ends (57), lacks room (53), must be retried (40)."""
    state = str(getattr(error.orig, "sqlstate", "") or "")
    return state == "55P03" or state.startswith(("57", "53", "08", "40"))
