"""The text of the users file, in JSON.

``{"version": 1, "users": {NAME: {"password": PHC, "grants": [{"prefix": PREFIX, "actions": [ACTION, …]}, …]}, …}}``
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, ClassVar, Final

from argon2 import extract_parameters
from argon2.exceptions import InvalidHashError

from hunqi.errors import UserError
from hunqi.mirror.access.model import ANONYMOUS, Action, Grant, GrantError, User

_VERSION: Final = 1
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?")


class UserNameError(UserError):
    """A user's name that cannot be one."""

    code: ClassVar[str] = "access.user_name"


class UsersFileError(UserError):
    """The users file cannot be read, understood or written; the message says which and what to do."""

    code: ClassVar[str] = "access.users_file"


def parse_user_name(text: str) -> str:
    """Return ``text`` if it can name a user; raise :class:`UserNameError`."""
    if not _NAME.fullmatch(text):
        raise UserNameError(
            f"{text[:100]!r} cannot be a user's name: 1 to 64 letters, digits, '.', '_', '@' and '-', "
            "a letter or digit first and last"
        )
    return text


def parse_users(text: bytes) -> tuple[User, ...]:
    """Parse the whole file; raise :class:`UsersFileError` that names the fault, never a password or its hash."""
    try:
        document: Any = json.loads(text)
        version, entries = document["version"], dict[str, Any](document["users"])
    except (ValueError, RecursionError) as error:
        raise UsersFileError("it is not JSON") from error
    except (KeyError, TypeError) as error:
        raise UsersFileError(f'it is not of the form {{"version": {_VERSION}, "users": {{…}}}}') from error
    if version != _VERSION:
        raise UsersFileError(f"its version is {version!r}, and this program knows version {_VERSION}")
    return tuple(_parse_user(name, entry) for name, entry in entries.items())


def format_users(users: Iterable[User]) -> bytes:
    """Return the file's text for ``users``, sorted by name."""
    entries = {user.name: _user_to_json(user) for user in sorted(users, key=lambda user: user.name)}
    return json.dumps({"version": _VERSION, "users": entries}, indent=2).encode() + b"\n"


def _parse_user(name: str, entry: Any) -> User:
    try:
        parse_user_name(name)
        grants = tuple(
            Grant.of(grant["prefix"], [Action(word) for word in grant["actions"]]) for grant in entry["grants"]
        )
        password_hash = entry.get("password")
        if (password_hash is None) != (name == ANONYMOUS):
            raise UsersFileError(f"user {name!r}: every user but {ANONYMOUS!r} needs a password, and that one has none")
        if password_hash is not None:
            _require_argon2id(name, password_hash)
    except (KeyError, TypeError, ValueError, AttributeError, GrantError, UserNameError) as error:
        raise UsersFileError(f"the entry of user {name[:100]!r} is wrong: {error}") from error
    return User(name, password_hash, grants)


def _require_argon2id(name: str, password_hash: str) -> None:
    try:
        extract_parameters(password_hash)
        known = password_hash.startswith("$argon2id$")
    except InvalidHashError:
        known = False
    if not known:
        raise UsersFileError(f"user {name!r}: the password is not an argon2id hash")


def _user_to_json(user: User) -> dict[str, Any]:
    entry: dict[str, Any] = {} if user.password_hash is None else {"password": user.password_hash}
    entry["grants"] = [
        {"prefix": grant.prefix, "actions": [action.value for action in Action if action in grant.actions]}
        for grant in user.grants
    ]
    return entry
