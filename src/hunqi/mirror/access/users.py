"""The users file: read again whenever it changed, replaced whole by one writer at a time.

No file means no users. A file that is broken from the start is an error; one that breaks under a running process is
reported once and what was last good stays in force, so that a slip of the editor neither locks out nor lets in.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from argon2 import PasswordHasher

from hunqi.errors import UserError
from hunqi.mirror.access.model import ANONYMOUS, EVERYTHING, Action, Grant, GrantError, User, Users
from hunqi.mirror.access.passwords import new_hasher
from hunqi.mirror.access.private_file import open_lock, remove_leftovers, write_private
from hunqi.mirror.access.users_json import UsersFileError, format_users, parse_user_name, parse_users
from hunqi.oci.reference import looks_like_host

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
MAX_PASSWORD_BYTES: Final = 1024
LOCK_WAIT_S: Final = 10.0
"""Longest wait for other writers, in seconds."""
_LOCK_POLL_S: Final = 0.02
_log = logging.getLogger(__name__)


class UserExistsError(UserError):
    """There is a user of that name already."""

    code: ClassVar[str] = "access.user_exists"


class UnknownUserError(UserError):
    """There is no user of that name."""

    code: ClassVar[str] = "access.user_unknown"


class PasswordError(UserError):
    """A password that cannot be used."""

    code: ClassVar[str] = "access.password"


class _Stamp(NamedTuple):
    """What tells one state of the file from another without reading it."""

    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int


class _Read(NamedTuple):
    stamp: _Stamp | None
    users: Users


class UsersFile:
    """The users that ``path`` holds; safe to use from several threads and processes."""

    def __init__(self, path: Path, *, hasher: PasswordHasher | None = None) -> None:
        self.path = path
        self._hasher = hasher or new_hasher()
        self._read: _Read | None = None
        self._unreadable = False

    def load(self) -> Users:
        """Return the users of this moment; costs one ``stat`` while the file has not changed.

        Raises :class:`UsersFileError` if the file is broken and was never read in a good state by this object.
        """
        read = self._read
        stamp: _Stamp | None = None
        unreadable = False
        try:
            stamp = _stamp(os.stat(self.path))  # noqa: PTH116  (half the cost of Path.stat, on every request)
            if read is not None and read.stamp == stamp:
                return read.users
            read = self._parse()
        except FileNotFoundError:
            if read is None or read.stamp is not None:
                read = _Read(None, Users())
        except OSError as error:
            if read is None:
                raise self._broken(error) from error
            unreadable = True
            if not self._unreadable:
                self._report(error)
        except UsersFileError as error:
            if read is None:
                raise self._broken(error) from error
            self._report(error)
            read = _Read(stamp, read.users)
        self._read, self._unreadable = read, unreadable
        return read.users

    def list(self) -> tuple[User, ...]:
        """Return all users by name, :data:`ANONYMOUS` among them if it has grants; raise :class:`UsersFileError`."""
        try:
            users = self._current()
        except UsersFileError as error:
            raise self._broken(error) from error
        return tuple(sorted(users.values(), key=lambda user: user.name))

    def add(self, name: str, password: str, grants: Iterable[Grant] = ()) -> None:
        """Add a user; blocks for the time of a password hash.

        Raises :class:`UserNameError`, :class:`PasswordError`, :class:`UserExistsError` or :class:`UsersFileError`.
        """
        parse_user_name(name)
        if name == ANONYMOUS:
            raise UserExistsError(f"{ANONYMOUS!r} stands for everybody and has no password: give it grants instead")
        user = User(name, self._hash(password), tuple(grants))
        with self._writing() as users:
            if name in users:
                raise UserExistsError(f"there is a user {name!r} already: change its password or grants, or remove it")
            users[name] = user

    def set_password(self, name: str, password: str) -> None:
        """Change a password; raises :class:`PasswordError`, :class:`UnknownUserError` or :class:`UsersFileError`."""
        password_hash = self._hash(password)
        with self._writing() as users:
            users[name] = User(name, password_hash, _known(users, name).grants)

    def set_grants(self, name: str, grants: Iterable[Grant]) -> None:
        """Replace a user's grants; :data:`ANONYMOUS` can be given pulls of local repositories, and nothing else.

        Raises :class:`GrantError`, :class:`UnknownUserError` or :class:`UsersFileError`.
        """
        given = tuple(grants)
        if name == ANONYMOUS:
            _require_public(given)
        with self._writing() as users:
            if name != ANONYMOUS:
                users[name] = User(name, _known(users, name).password_hash, given)
            elif given:
                users[name] = User(name, None, given)
            else:
                users.pop(name, None)

    def remove(self, name: str) -> None:
        """Remove a user; raises :class:`UnknownUserError` or :class:`UsersFileError`."""
        with self._writing() as users:
            _known(users, name)
            del users[name]

    def _hash(self, password: str) -> str:
        try:
            secret = password.encode()
        except UnicodeEncodeError:
            raise PasswordError("the password is not UTF-8") from None
        if not 0 < len(secret) <= MAX_PASSWORD_BYTES:
            raise PasswordError(f"a password has 1 to {MAX_PASSWORD_BYTES} bytes")
        return self._hasher.hash(secret)

    def _parse(self) -> _Read:
        with self.path.open("rb") as file:
            stamp = _stamp(os.fstat(file.fileno()))
            text = file.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise UsersFileError(f"it is larger than {MAX_FILE_BYTES} bytes")
        return _Read(stamp, Users(parse_users(text)))

    def _current(self) -> dict[str, User]:
        try:
            users = self._parse().users
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UsersFileError(f"it cannot be read: {error.strerror}") from error
        return dict(users.by_name) | ({ANONYMOUS: users.anonymous} if users.anonymous else {})

    @contextlib.contextmanager
    def _writing(self) -> Generator[dict[str, User]]:
        """Hold every other writer back, let the body change the users, and write them if it did not raise."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = open_lock(self.path.with_name(f"{self.path.name}.lock"))
        except OSError as error:
            raise UsersFileError(f"the users file {self.path} cannot be locked: {error.strerror}") from error
        try:
            self._lock(descriptor)
            try:
                users = self._current()
            except UsersFileError as error:
                raise self._broken(error) from error
            yield users
            self._write(users.values())
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise UsersFileError(f"another process keeps writing {self.path}: try again") from error
                time.sleep(_LOCK_POLL_S)
            else:
                return

    def _write(self, users: Iterable[User]) -> None:
        try:
            remove_leftovers(self.path)
            write_private(self.path, format_users(users))
        except OSError as error:
            raise UsersFileError(f"the users file {self.path} cannot be written: {error.strerror}") from error

    def _report(self, error: Exception) -> None:
        _log.error("what the users file last said stays in force: %s", self._broken(error))

    def _broken(self, error: Exception) -> UsersFileError:
        fault = error.strerror if isinstance(error, OSError) else str(error)
        return UsersFileError(
            f"the users file {self.path} cannot be used: {fault}. Repair it, or move it away and add the users again "
            "with `hunqi mirror user add`"
        )


def _stamp(status: os.stat_result) -> _Stamp:
    return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _known(users: dict[str, User], name: str) -> User:
    if name not in users:
        raise UnknownUserError(f"there is no user {name[:100]!r}: `hunqi mirror user ls` shows all")
    return users[name]


def _require_public(grants: Iterable[Grant]) -> None:
    for grant in grants:
        first = grant.prefix.partition("/")[0]
        if grant.actions != frozenset({Action.PULL}) or (grant.prefix != EVERYTHING and looks_like_host(first)):
            raise GrantError(
                f"{grant}: {ANONYMOUS!r} can be given pulls of local repositories only (anonymous pushes are "
                "--allow-anonymous-push; a private repository of an upstream is for users)"
            )
