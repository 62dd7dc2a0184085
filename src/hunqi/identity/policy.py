"""The one decision who may do what: a total table of actions, and a pure function over it.

Nobody else compares roles. What somebody may not even see is HIDDEN, and answered as if it were not there, so that no
team learns of another's apps.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from hunqi.identity.model import Actor, ActorKind, AppRef, Role, TeamRef


class Action(StrEnum):
    """Everything that can be asked of the platform."""

    # without credentials
    HEALTH = "health"
    SETUP = "setup"
    LOG_IN = "log-in"
    JOIN = "join"
    """Guarded by a join token of its own."""
    SCHEMA = "schema"
    AUTHORITY = "authority"
    """The certificate of the local authority, which is no secret."""
    # of anybody with credentials, about themselves or filtered to what is theirs
    SELF = "self"
    LIST = "list"
    # on an app
    APP_SEE = "app.see"
    APP_LOGS = "app.logs"
    APP_SPEC = "app.spec"
    """Revisions whole, which hold the environment's values."""
    APP_CHECK = "app.check"
    APP_DEPLOY = "app.deploy"
    APP_OPERATE = "app.operate"
    APP_ENTER = "app.enter"
    """Commands in tasks, files of tasks, forwarded ports, one-off runs."""
    APP_VARIABLES = "app.variables"
    """Read and write the environment and the secrets (whose values nobody reads)."""
    APP_ROUTES = "app.routes"
    APP_REMOVE = "app.remove"
    APP_GRANT = "app.grant"
    # on a team
    TEAM_SEE = "team.see"
    APP_CREATE = "app.create"
    TEAM_MEMBERS = "team.members"
    # on the cluster
    CLUSTER_SEE = "cluster.see"
    """Status, nodes and certificates, without what is an app's."""
    CLUSTER_CHANGE = "cluster.change"
    """Nodes, join tokens, certificates, backups."""
    USERS = "users"
    TEAMS = "teams"


class Least(StrEnum):
    """Who may, apart from roles."""

    ANYBODY = "anybody"
    KNOWN = "known"
    ADMIN = "admin"


class Decision(StrEnum):
    """What is said to one wish."""

    ALLOW = "allow"
    UNAUTHENTICATED = "unauthenticated"
    """Credentials could change it."""
    DENIED = "denied"
    HIDDEN = "hidden"
    """It is to be answered as if what was asked for were not there."""


TABLE: Final[Mapping[Action, Role | Least]] = MappingProxyType(
    {
        Action.HEALTH: Least.ANYBODY,
        Action.SETUP: Least.ANYBODY,
        Action.LOG_IN: Least.ANYBODY,
        Action.JOIN: Least.ANYBODY,
        Action.SCHEMA: Least.ANYBODY,
        Action.AUTHORITY: Least.ANYBODY,
        Action.SELF: Least.KNOWN,
        Action.LIST: Least.KNOWN,
        Action.APP_SEE: Role.VIEWER,
        Action.APP_LOGS: Role.VIEWER,
        Action.APP_SPEC: Role.DEVELOPER,
        Action.APP_CHECK: Role.DEVELOPER,
        Action.APP_DEPLOY: Role.DEVELOPER,
        Action.APP_OPERATE: Role.DEVELOPER,
        Action.APP_ENTER: Role.DEVELOPER,
        Action.APP_VARIABLES: Role.DEVELOPER,
        Action.APP_ROUTES: Role.DEVELOPER,
        Action.APP_REMOVE: Role.OWNER,
        Action.APP_GRANT: Role.OWNER,
        Action.TEAM_SEE: Role.VIEWER,
        Action.APP_CREATE: Role.DEVELOPER,
        Action.TEAM_MEMBERS: Role.OWNER,
        Action.CLUSTER_SEE: Least.KNOWN,
        Action.CLUSTER_CHANGE: Least.ADMIN,
        Action.USERS: Least.ADMIN,
        Action.TEAMS: Least.ADMIN,
    }
)


def decide(actor: Actor, action: Action, target: AppRef | TeamRef | None = None) -> Decision:
    """Return whether ``actor`` may do ``action``, on ``target`` where the table has a role for it.

    A role without a target (an app that is not there) is HIDDEN to all but administrators.
    """
    least = TABLE[action]
    if least is Least.ANYBODY:
        return Decision.ALLOW
    if actor.kind is ActorKind.ANONYMOUS:
        return Decision.UNAUTHENTICATED
    if least is Least.KNOWN or actor.administers:
        return Decision.ALLOW
    if least is Least.ADMIN:
        return Decision.DENIED
    role = actor.role_on(target) if target is not None else None
    if role is None:
        return Decision.HIDDEN
    return Decision.ALLOW if role.rank >= Role(least).rank else Decision.DENIED


def who_may(action: Action) -> str:
    """Return, for a message, who may do it."""
    match TABLE[action]:
        case Role() as role:
            return f"the role {role.value} or higher"
        case Least.ADMIN:
            return "an administrator (and a token with the scope admin)"
        case Least.KNOWN | Least.ANYBODY:
            return "anybody who is logged in"
