"""Who asks, as values: roles, actors, and what a token leaves of its maker's rights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from hunqi.identity.errors import InvalidNameError, ScopeError

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_RESERVED: Final = frozenset({"anonymous", "system", "machine", "hunqi", "me"})
_APP: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")


class Role(StrEnum):
    """What somebody is to an app, by their team or by a grant; each holds the one before it."""

    VIEWER = "viewer"
    DEVELOPER = "developer"
    OWNER = "owner"

    @property
    def rank(self) -> int:
        """Greater for who may do more."""
        return list(Role).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRef:
    """An app and the team that owns it."""

    name: str
    team: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamRef:
    """A team, by its id."""

    id: str


class ActorKind(StrEnum):
    """How somebody came."""

    ANONYMOUS = "anonymous"
    USER = "user"
    MACHINE = "machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a token may at most: ``role`` on ``apps`` and ``teams`` (None: on all that its maker has)."""

    role: Role = Role.OWNER
    admin: bool = False
    apps: frozenset[str] | None = None
    teams: frozenset[str] | None = None

    @classmethod
    def parse(cls, words: Iterable[str]) -> Scope:
        """Read ``viewer``, ``developer``, ``owner`` or ``admin``, and any of ``app:NAME`` and ``team:ID``.

        No words mean all that the maker has, short of administration. Raises ``ScopeError``.
        """
        role, admin, apps, teams = None, False, set[str](), set[str]()
        for word in words:
            kind, colon, name = word.partition(":")
            if not colon and word in set(Role) and role is None:
                role = Role(word)
            elif word == "admin":
                admin = True
            elif kind == "app" and _APP.fullmatch(name):
                apps.add(name)
            elif kind == "team" and _NAME.fullmatch(name):
                teams.add(name)
            else:
                raise ScopeError(
                    f"{word[:80]!r} is no scope: write viewer, developer, owner or admin, and app:NAME or team:ID"
                )
        if admin and (apps or teams or role):
            raise ScopeError("a token that administers the cluster cannot be limited to apps, teams or a role")
        limited = bool(apps or teams)
        return cls(
            role=role or Role.OWNER,
            admin=admin,
            apps=frozenset(apps) if limited else None,
            teams=frozenset(teams) if limited else None,
        )

    def words(self) -> tuple[str, ...]:
        """Return the words that :meth:`parse` reads as this."""
        if self.admin:
            return ("admin",)
        apps = tuple(f"app:{name}" for name in sorted(self.apps or ()))
        return (self.role.value, *apps, *(f"team:{name}" for name in sorted(self.teams or ())))

    def covers(self, target: AppRef | TeamRef) -> bool:
        """Whether the token reaches ``target`` at all."""
        if self.apps is None and self.teams is None:
            return True
        if isinstance(target, TeamRef):
            return target.id in (self.teams or ())
        return target.name in (self.apps or ()) or target.team in (self.teams or ())


FULL: Final = Scope(admin=True)
"""Of who came with a password: nothing is taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asks. ``name`` is a user's or a machine token's; it holds no secret."""

    kind: ActorKind
    id: str = ""
    name: str = ""
    is_admin: bool = False
    teams: Mapping[str, Role] = field(default_factory=dict[str, Role])
    """Team's id → role."""
    grants: Mapping[str, Role] = field(default_factory=dict[str, Role])
    """App → role."""
    scope: Scope = FULL
    token: str | None = None
    """The id of the token that it came with."""

    @property
    def label(self) -> str:
        """How events name it."""
        return f"machine:{self.name}" if self.kind is ActorKind.MACHINE else self.name or self.kind.value

    @property
    def administers(self) -> bool:
        """Whether it may do everything."""
        return self.is_admin and self.scope.admin

    def role_on(self, target: AppRef | TeamRef) -> Role | None:
        """Return what it is to ``target``; None for a stranger."""
        if self.administers:
            return Role.OWNER
        if not self.scope.covers(target):
            return None
        held = Role.OWNER if self.is_admin else self._held(target)
        return None if held is None else min(held, self.scope.role, key=lambda role: role.rank)

    def _held(self, target: AppRef | TeamRef) -> Role | None:
        if isinstance(target, TeamRef):
            return self.teams.get(target.id)
        roles = [role for role in (self.teams.get(target.team), self.grants.get(target.name)) if role is not None]
        return max(roles, key=lambda role: role.rank, default=None)


ANONYMOUS: Final = Actor(kind=ActorKind.ANONYMOUS)


def check_name(text: str, *, what: str) -> str:
    """Return ``text`` if it can name a user, a team or a token. Raises ``InvalidNameError``."""
    if not _NAME.fullmatch(text) or text in _RESERVED:
        raise InvalidNameError(
            f"{text[:80]!r} is no name for a {what}: use up to 63 of a-z, 0-9, '.', '_' and '-', beginning and ending "
            f"with a letter or digit, and none of {', '.join(sorted(_RESERVED))}"
        )
    return text
