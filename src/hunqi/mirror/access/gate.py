"""The gate: the one place where a request's credentials become a caller and a caller's wish becomes a decision.

Credentials that are not ours are nobody's business: they become ``foreign=True`` at once and are neither logged, kept
nor passed on. Who calls :meth:`Gate.authenticate` from an event loop asks :meth:`Gate.recall` first and uses a thread
only when that says nothing, because a password costs tens of milliseconds once in five minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from hunqi.errors import UserError
from hunqi.mirror.access.credentials import BadCredentials, Basic, Bearer, parse_authorization
from hunqi.mirror.access.model import FOREIGN, NOBODY, Action, Caller, Decision, Scope, ScopeKind, clean_prefix, under
from hunqi.mirror.access.passwords import Passwords
from hunqi.mirror.access.rules import Rules
from hunqi.mirror.access.scopes import CATALOG, scope_text
from hunqi.mirror.access.tokens import SERVICE, TokenExpired, TokenInvalid, TokenIssuer
from hunqi.mirror.access.users import UsersFile
from hunqi.mirror.access.vouched import Vouchers
from hunqi.mirror.names import Target
from hunqi.mirror.settings import AccessSettings

_PULL_ONLY = frozenset({Action.PULL})


class LoginRefused(UserError):
    """The token endpoint was asked for more than an unknown caller can be given (401)."""

    code: ClassVar[str] = "access.login_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """What the token endpoint answers."""

    token: str = field(repr=False)
    expires_in_s: int
    issued_at: datetime
    """With its time zone, UTC."""


class Gate:
    """Authenticates, decides, challenges and issues tokens; safe to use from several threads.

    ``was_pushed`` tells whether a namespace (a name's first component) holds pushed repositories. It is asked whatever
    the settings are now, so that what was pushed under ``--allow-anonymous-push`` stays local when that is turned off.
    """

    def __init__(
        self,
        settings: AccessSettings,
        users: UsersFile,
        tokens: TokenIssuer,
        *,
        passwords: Passwords,
        was_pushed: Callable[[str], bool],
        vouchers: Vouchers | None = None,
    ) -> None:
        self._users = users
        self._tokens = tokens
        self._passwords = passwords
        self._was_pushed = was_pushed
        self._vouchers = vouchers or Vouchers(None)
        self._allow_anonymous_push = settings.allow_anonymous_push
        self._local = frozenset(clean_prefix(prefix) for prefix in settings.local)
        self._current = Rules(users.load(), self._allow_anonymous_push, self._vouchers.exist)

    @classmethod
    def open(cls, settings: AccessSettings, data_dir: Path, *, was_pushed: Callable[[str], bool]) -> Gate:
        """Return the gate over the files of ``data_dir``; blocks for the time of a password hash.

        Raises :class:`~hunqi.mirror.access.users_json.UsersFileError`,
        :class:`~hunqi.mirror.access.tokens.TokenKeyError` or :class:`~hunqi.mirror.access.vouched.TrustedKeyError`.
        """
        return cls(
            settings,
            UsersFile(settings.users_file or data_dir / "users.json"),
            TokenIssuer(data_dir / "token.key", ttl_s=settings.token_ttl_s),
            passwords=Passwords(),
            was_pushed=was_pushed,
            vouchers=Vouchers.open(settings.trusted_key),
        )

    def recall(self, authorization_header: str | None) -> Caller | None:
        """Return the caller if that takes no password check, else ``None``; never blocks.

        Raises as :meth:`authenticate` does.
        """
        if authorization_header is None:
            return NOBODY
        match parse_authorization(authorization_header):
            case Bearer(token):
                claims = self._tokens.verify(token)
                return Caller(name=claims.subject, scopes=claims.scopes)
            case Basic(name, password):
                if vouched := self._vouchers.verify(password):
                    return vouched
                user = self._users.load().by_name.get(name)
                return Caller(name=name) if self._passwords.recall(user, password) else None

    def authenticate(self, authorization_header: str | None) -> Caller:
        """Return who asks; unknown names and wrong passwords alike are a foreign caller. Blocks for a password check.

        Raises :class:`BadCredentials` (malformed), :class:`TokenInvalid`, :class:`TokenExpired` (401 all three) or
        :class:`~hunqi.mirror.access.passwords.PasswordCheckError`.
        """
        if authorization_header is None:
            return NOBODY
        match parse_authorization(authorization_header):
            case Bearer(token):
                claims = self._tokens.verify(token)
                return Caller(name=claims.subject, scopes=claims.scopes)
            case Basic(name, password):
                return self.login(name, password)

    def login(self, name: str, password: str) -> Caller:
        """Return the user, or a foreign caller. Blocks; raises ``PasswordCheckError``."""
        if vouched := self._vouchers.verify(password):
            return vouched
        user = self._users.load().by_name.get(name)
        return Caller(name=name) if self._passwords.verify(user, password) else FOREIGN

    def check(self, caller: Caller, action: Action, target: Target, *, public: bool | None) -> Decision:
        """Return whether ``caller`` may do ``action`` on ``target``.

        ``public`` is the visibility of the upstream's repository, ``None`` for a local one. A mount is two checks:
        ``PUSH`` on the target and ``PULL`` on the source.
        """
        if public and action is Action.PULL and target.upstream is not None:
            return Decision.ALLOW
        return self._rules().decide(caller, action, target, public=public)

    def check_ping(self, caller: Caller) -> Decision:
        """Return what ``/v2/`` itself answers: allowed for all without users, else for users and bearers of a token."""
        if not self.login_required() or caller.name is not None or caller.scopes is not None:
            return Decision.ALLOW
        return Decision.UNAUTHENTICATED

    def check_catalogue(self, caller: Caller) -> Decision:
        """Return whether ``caller`` may list repositories (``/v2/_catalog``): those that it :meth:`may_see`."""
        return self._rules().decide_catalogue(caller)

    def may_see(self, caller: Caller, target: Target, *, public: bool | None) -> bool:
        """Return whether a list may show ``target`` to ``caller``."""
        return self._rules().may_see(caller, target, public=public)

    def explain(self, caller: Caller, action: Action, target: Target) -> str:
        """Return in a sentence why ``action`` was refused and what would change it."""
        return self._rules().explain(caller, action, target)

    def challenge(
        self, target: Target | None, actions: Iterable[Action], base_url: str, *, written: str | None = None
    ) -> str:
        """Return the value of ``WWW-Authenticate`` for ``target``, or for ``/v2/`` itself when that is ``None``.

        ``base_url`` is as the client reached the mirror (``http://host:port``). ``written`` is the repository as in the
        client's path; leave it out for a request with ``?ns=``, whose path alone would mean another repository.
        """
        fields = [f'realm="{_quotable(base_url.rstrip("/"))}/token"', f'service="{SERVICE}"']
        if target is not None:
            fields.append(f'scope="{_quotable(scope_text(written or target.key, actions))}"')
        return "Bearer " + ",".join(fields)

    def token(
        self,
        caller: Caller,
        scopes: Iterable[Scope],
        *,
        resolve: Callable[[str], Target],
        public: Callable[[Target], bool],
    ) -> TokenAnswer:
        """Return a token with what of ``scopes`` the rules give to ``caller``.

        ``resolve`` reads a name as in a pull and may raise any :class:`UserError` (the scope is then left out);
        ``public`` is asked only where the answer depends on it. Raises :class:`LoginRefused`.
        """
        asked = tuple(scopes)
        self._refuse_foreign(caller, asked)
        granted = [scope for wish in asked for scope in self._grantable(caller, wish, resolve=resolve, public=public)]
        issued = self._tokens.issue(caller.name, granted)
        return TokenAnswer(
            token=issued.token,
            expires_in_s=issued.expires_in_s,
            issued_at=datetime.fromtimestamp(issued.issued_at, UTC),
        )

    def login_required(self) -> bool:
        """Whether anybody can log in, so that ``/v2/`` must answer 401."""
        return self._rules().closed

    def is_local_namespace(self, repository: str) -> bool:
        """Whether a grant, ``--local`` or an earlier push made ``repository`` local (if no upstream could own it)."""
        if under(self._local, repository) or self._rules().users.names(repository):
            return True
        return self._was_pushed(repository.partition("/")[0])

    def _rules(self) -> Rules:
        users = self._users.load()
        rules = self._current
        if rules.users is not users:
            rules = self._current = Rules(users, self._allow_anonymous_push, self._vouchers.exist)
        return rules

    def _refuse_foreign(self, caller: Caller, scopes: tuple[Scope, ...]) -> None:
        """Docker sends its Docker Hub password here with a scope of a pull; anything else is a login that failed."""
        if not caller.foreign:
            return
        if not scopes:
            raise LoginRefused("unknown name or wrong password")
        only_pulls = all(scope.kind is ScopeKind.REPOSITORY and scope.actions == _PULL_ONLY for scope in scopes)
        if not only_pulls and self.login_required():
            raise LoginRefused("unknown name or wrong password: a push needs a user of this mirror")

    def _grantable(
        self, caller: Caller, wish: Scope, *, resolve: Callable[[str], Target], public: Callable[[Target], bool]
    ) -> list[Scope]:
        if wish.kind is ScopeKind.REGISTRY:
            allowed = wish.name == CATALOG and self.check_catalogue(caller) is Decision.ALLOW
            return [wish] if allowed else []
        try:
            target = resolve(wish.name)
        except UserError:
            return []
        if target.upstream is None:
            return self._allowed(caller, wish, target)
        if Action.PUSH in wish.actions and not wish.name.startswith(f"{target.upstream}/"):
            # The name reads as an upstream's until the first push makes it local. One token lasts for the whole push,
            # so it carries what the caller may do from then on.
            granted = self._allowed(caller, wish, Target(None, wish.name))
            if any(Action.PUSH in scope.actions for scope in granted):
                return granted
        return self._of_upstream(caller, wish, target, public=public)

    def _of_upstream(
        self, caller: Caller, wish: Scope, target: Target, *, public: Callable[[Target], bool]
    ) -> list[Scope]:
        if Action.PULL not in wish.actions:
            return []
        if self.check(caller, Action.PULL, target, public=None) is Decision.ALLOW or public(target):
            return [Scope(ScopeKind.REPOSITORY, target.key, _PULL_ONLY)]
        return []

    def _allowed(self, caller: Caller, wish: Scope, target: Target) -> list[Scope]:
        actions = frozenset(
            action for action in wish.actions if self.check(caller, action, target, public=None) is Decision.ALLOW
        )
        return [Scope(ScopeKind.REPOSITORY, target.key, actions)] if actions else []


def _quotable(text: str) -> str:
    """Return ``text`` for a header's quoted string, without what could end that (RFC 9110, section 5.6.4)."""
    return "".join(character for character in text if " " <= character <= "~" and character not in '"\\')


__all__ = ["BadCredentials", "Gate", "LoginRefused", "TokenAnswer", "TokenExpired", "TokenInvalid"]
