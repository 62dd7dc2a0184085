"""What can go wrong with people and their rights, by who can do something about it."""

from __future__ import annotations

from typing import ClassVar

from hunqi.errors import DependencyError, UserError


class NotAuthenticatedError(UserError):
    """The request shows no credentials that are good: log in, or send a token that is neither expired nor revoked."""

    code: ClassVar[str] = "auth.required"


class NotAllowedError(UserError):
    """The caller may not do this; the message names the role that may."""

    code: ClassVar[str] = "auth.denied"


class WrongPasswordError(UserError):
    """There is no such user, the password is wrong, or the user is disabled; which of them is not said."""

    code: ClassVar[str] = "auth.login"


class TooManyAttemptsError(UserError):
    """Too many failed logins: wait ``retry_after_s`` seconds."""

    code: ClassVar[str] = "auth.too-many-attempts"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many failed logins: wait {retry_after_s:.0f} s, then try again")
        self.retry_after_s = retry_after_s


class PasswordBusyError(DependencyError):
    """Too many passwords are being checked at once."""

    code: ClassVar[str] = "auth.busy"


class CsrfError(UserError):
    """A change that came with a session's cookie lacks the session's X-CSRF-Token."""

    code: ClassVar[str] = "auth.csrf"


class SetupTokenError(UserError):
    """The setup token is wrong, was replaced, or was used already."""

    code: ClassVar[str] = "auth.setup-token"


class PasswordError(UserError):
    """The password cannot be used: too short or too long."""

    code: ClassVar[str] = "user.password"


class InvalidNameError(UserError):
    """The name is no name for a user, a team or a token."""

    code: ClassVar[str] = "user.name"


class UserExistsError(UserError):
    """There is a user of this name."""

    code: ClassVar[str] = "user.exists"


class UserNotFoundError(UserError):
    """There is no such user."""

    code: ClassVar[str] = "user.not-found"


class LastAdminError(UserError):
    """Without this user nobody could administer the cluster any more."""

    code: ClassVar[str] = "user.last-admin"


class TeamExistsError(UserError):
    """There is a team of this name."""

    code: ClassVar[str] = "team.exists"


class TeamNotFoundError(UserError):
    """There is no such team, or it is not the caller's to see."""

    code: ClassVar[str] = "team.not-found"


class TeamInUseError(UserError):
    """The team has apps: remove them, or give them to another team, first."""

    code: ClassVar[str] = "team.in-use"


class TokenNotFoundError(UserError):
    """There is no such token, or it is another's."""

    code: ClassVar[str] = "token.not-found"


class ScopeError(UserError):
    """A scope that means nothing, or gives more than its maker has."""

    code: ClassVar[str] = "token.scope"


class GrantNotFoundError(UserError):
    """The user has no grant on the app."""

    code: ClassVar[str] = "grant.not-found"
