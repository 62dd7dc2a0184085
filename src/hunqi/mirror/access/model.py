"""The values of access: actions, grants, users, callers and decisions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import ClassVar, Final

from hunqi.errors import UserError

ANONYMOUS: Final = "anonymous"
"""The name whose grants hold for everybody; it has no password and never logs in."""

VOUCHED_PREFIX: Final = "hunqi:"
"""Begins the names of callers that a trusted key vouches for; no user's name can have it."""

EVERYTHING: Final = "*"
"""The prefix that matches every repository; it names no namespace, so it makes none local."""

_PREFIX = re.compile(r"[a-z0-9]+(?:[._:-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")


class GrantError(UserError):
    """A grant that means nothing, or gives what cannot be given."""

    code: ClassVar[str] = "access.grant"


class Action(Enum):
    """What a grant or a token allows on a repository."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


class Decision(Enum):
    """What the gate says to one request."""

    ALLOW = "allow"
    UNAUTHENTICATED = "unauthenticated"
    """Other credentials, or a token with a wider scope, could be allowed (401 with a challenge)."""
    DENIED = "denied"
    """No credentials that this caller could show would change it (403)."""


@dataclass(frozen=True, slots=True)
class Grant:
    """``actions`` on the repositories whose key is ``prefix`` or lies below it.

    ``team`` matches ``team`` and ``team/app``, never ``teamx``. A mirrored repository is granted by its key:
    ``docker.io/acme``. Actions do not imply each other; every client that pushes needs ``pull`` too.
    """

    prefix: str
    actions: frozenset[Action]

    @classmethod
    def of(cls, prefix: str, actions: Iterable[Action]) -> Grant:
        """Return the grant, ``team/`` and ``team/*`` read as ``team``; raise :class:`GrantError`."""
        cleaned = clean_prefix(prefix)
        given = frozenset(actions)
        if cleaned != EVERYTHING and not _PREFIX.fullmatch(cleaned):
            raise GrantError(f"{prefix[:200]!r} is not a repository prefix: write 'team', 'docker.io/acme' or '*'")
        if not given:
            raise GrantError(f"the grant on {cleaned!r} gives nothing: name at least one of pull, push, delete")
        return cls(cleaned, given)

    @classmethod
    def parse(cls, text: str) -> Grant:
        """Parse ``PREFIX:ACTION[,ACTION…]`` (``localhost:5001/acme:pull``); raise :class:`GrantError`."""
        prefix, colon, listed = text.rpartition(":")
        if not colon:
            raise GrantError(f"{text[:200]!r} is not a grant: write PREFIX:ACTIONS, such as 'team:pull,push'")
        try:
            actions = [Action(word.strip()) for word in listed.split(",")]
        except ValueError as error:
            raise GrantError(f"{text[:200]!r} is not a grant: the actions are pull, push and delete") from error
        return cls.of(prefix, actions)

    def covers(self, key: str) -> bool:
        """Whether the repository ``key`` is ``prefix`` or lies below it."""
        prefix = self.prefix
        return prefix == EVERYTHING or key == prefix or key.startswith(prefix + "/")

    def __str__(self) -> str:
        return f"{self.prefix}:{','.join(action.value for action in Action if action in self.actions)}"


@dataclass(frozen=True, slots=True)
class User:
    """One entry of the users file; ``password_hash`` is argon2id in PHC form, ``None`` for :data:`ANONYMOUS`."""

    name: str
    password_hash: str | None = field(repr=False)
    grants: tuple[Grant, ...] = ()

    def may(self, action: Action, key: str) -> bool:
        """Whether a grant of this user gives ``action`` on the repository ``key``."""
        return any(action in grant.actions and grant.covers(key) for grant in self.grants)


class Users:
    """All users at one moment, immutable; ``exist`` is about those who can log in."""

    __slots__ = ("_namespaces", "_reserved", "anonymous", "by_name", "exist")

    def __init__(self, users: Iterable[User] = ()) -> None:
        entries = {user.name: user for user in users}
        self.anonymous = entries.pop(ANONYMOUS, None)
        self.by_name: Mapping[str, User] = MappingProxyType(entries)
        self.exist = bool(entries)
        everyone = (*entries.values(), *((self.anonymous,) if self.anonymous else ()))
        self._namespaces = frozenset(
            grant.prefix for user in everyone for grant in user.grants if grant.prefix != EVERYTHING
        )
        self._reserved = frozenset(
            grant.prefix
            for user in entries.values()
            for grant in user.grants
            if grant.prefix != EVERYTHING and Action.PUSH in grant.actions
        )

    def names(self, repository: str) -> bool:
        """Whether a grant, other than on ``*``, names ``repository`` or a prefix of it."""
        return under(self._namespaces, repository)

    def reserves(self, repository: str) -> bool:
        """Whether some user was given the pushes to ``repository``, so that nobody else pushes there."""
        return under(self._reserved, repository)


def clean_prefix(text: str) -> str:
    """Return ``team`` for ``team/`` and ``team/*``, anything else as it is."""
    return text.removesuffix("/*").removesuffix("/")


def under(prefixes: frozenset[str], repository: str) -> bool:
    """Whether ``repository`` or one of its parents is among ``prefixes``."""
    if not prefixes:
        return False
    name = repository
    while name not in prefixes:
        name = name.rpartition("/")[0]
        if not name:
            return False
    return True


class ScopeKind(Enum):
    """What a token's scope is about."""

    REPOSITORY = "repository"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions on one thing: as a client asks for them (by its own name), or as a token carries them (by key)."""

    kind: ScopeKind
    name: str
    actions: frozenset[Action]
    """Of the catalogue (``registry:catalog:*``) all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, as far as the request shows it; it holds no secret."""

    name: str | None = None
    """A user, or ``None`` for anybody."""
    scopes: frozenset[Scope] | None = None
    """All that a bearer token carries; ``None`` without one."""
    grants: tuple[Grant, ...] | None = None
    """What a trusted key vouches for; ``None`` for everybody else, and for who came with a token made of it."""
    foreign: bool = False
    """Credentials came that are not ours, such as Docker's password of Docker Hub."""

    @property
    def vouched(self) -> bool:
        """Whether a trusted key says who this is, now or when the caller's token was made."""
        return self.name is not None and self.name.startswith(VOUCHED_PREFIX)

    def carries(self, action: Action, key: str) -> bool:
        """Whether the bearer token, if that is how the caller came, is good for ``action`` on ``key``."""
        if self.scopes is None:
            return True
        return any(
            scope.name == key and action in scope.actions and scope.kind is ScopeKind.REPOSITORY
            for scope in self.scopes
        )


NOBODY: Final = Caller()
"""The caller that shows nothing."""
FOREIGN: Final = Caller(foreign=True)
"""The caller that shows credentials which are not ours."""
