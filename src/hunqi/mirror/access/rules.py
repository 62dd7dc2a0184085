"""The rules of access: a pure decision from the caller, the action, the repository and the users.

Everybody may pull a public repository of an upstream. The rest depends on whether any user exists:

- Without users, local repositories are everybody's to pull; to push to and delete only with ``--allow-anonymous-push``.
- With users, a local repository is for users with a grant on it. Everybody may pull where ``anonymous`` has a grant,
  and, with ``--allow-anonymous-push``, push and pull where no user's grant of pushes reaches (``*`` aside).
- A private repository of an upstream is for users with a grant of pulls on its key, always.
- Nothing of an upstream is pushed to or deleted here.

A bearer token is good for its scopes, as far as its user still has them, and for what is public.
"""

from __future__ import annotations

from dataclasses import dataclass

from hunqi.mirror.access.model import Action, Caller, Decision, Scope, ScopeKind, Users
from hunqi.mirror.names import Target


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules over one state of the users."""

    users: Users
    allow_anonymous_push: bool
    trusting: bool = False
    """Whether callers may come that a trusted key vouches for: then users exist, though none of ours."""

    @property
    def closed(self) -> bool:
        """Whether anybody can log in, so that local repositories are not everybody's."""
        return self.users.exist or self.trusting

    def decide(self, caller: Caller, action: Action, target: Target, *, public: bool | None) -> Decision:
        """Return whether ``caller`` may do ``action`` on ``target``; ``public`` is ``None`` for a local one."""
        if target.upstream is not None:
            if action is not Action.PULL:
                return Decision.DENIED
            if public:
                return Decision.ALLOW
        if not self.may(caller, action, target):
            return self._refusal(caller)
        return Decision.ALLOW if caller.carries(action, target.key) else Decision.UNAUTHENTICATED

    def may(self, caller: Caller, action: Action, target: Target) -> bool:
        """Whether the rules give ``action`` to who the caller is, whatever a token carries; public pulls aside."""
        if caller.vouched and self.trusting:
            return self._is_vouched(caller, action, target.key) or self._open_to_anybody(action, target)
        user = self.users.by_name.get(caller.name) if caller.name is not None else None
        if user is not None and user.may(action, target.key):
            return True
        if caller.foreign and action is not Action.PULL and self.closed:
            return False
        return self._open_to_anybody(action, target)

    def decide_catalogue(self, caller: Caller) -> Decision:
        """Return whether ``caller`` may ask which repositories there are: anybody without users, else users.

        Each is shown those that it :meth:`may_see`.
        """
        if not self.closed:
            return Decision.ALLOW
        if caller.name not in self.users.by_name and not (caller.vouched and self.trusting):
            return Decision.UNAUTHENTICATED
        carried = caller.scopes is None or any(_is_catalogue(scope) for scope in caller.scopes)
        return Decision.ALLOW if carried else Decision.UNAUTHENTICATED

    def may_see(self, caller: Caller, target: Target, *, public: bool | None) -> bool:
        """Whether a list may show ``target``: the caller could pull from it, with another token if need be."""
        return (target.upstream is not None and bool(public)) or self.may(caller, Action.PULL, target)

    def explain(self, caller: Caller, action: Action, target: Target) -> str:
        """Return in a sentence why ``action`` was refused and what would change it."""
        if target.upstream is not None and action is not Action.PULL:
            return f"{target.key} is mirrored: only {target.upstream} itself can be changed there, never this copy"
        if not self.closed:
            grant = f"{target.key}:pull" + ("" if action is Action.PULL else f",{action.value}")
            return f"this needs a user, and there is none: add one with `hunqi mirror user add` and the grant {grant}"
        if caller.name in self.users.by_name:
            return f"{caller.name} has no grant of {action.value} on {target.key}"
        return f"log in as a user with a grant of {action.value} on {target.key}"

    def _is_vouched(self, caller: Caller, action: Action, key: str) -> bool:
        """A token was made of what the key vouched for then, minutes ago at most: it is good for what it carries."""
        if caller.grants is None:
            return caller.scopes is not None and caller.carries(action, key)
        return any(action in grant.actions and grant.covers(key) for grant in caller.grants)

    def _open_to_anybody(self, action: Action, target: Target) -> bool:
        return target.upstream is None and self._anybody_may(action, target.repository)

    def _anybody_may(self, action: Action, repository: str) -> bool:
        open_push = self.allow_anonymous_push and not self.users.reserves(repository)
        match action:
            case Action.PUSH:
                return open_push
            case Action.DELETE:
                return open_push and not self.closed
            case Action.PULL:
                shared = self.users.anonymous
                return open_push or not self.closed or (shared is not None and shared.may(action, repository))

    def _refusal(self, caller: Caller) -> Decision:
        known = caller.name is not None and (caller.name in self.users.by_name or caller.vouched)
        return Decision.UNAUTHENTICATED if self.closed and not known else Decision.DENIED


def _is_catalogue(scope: Scope) -> bool:
    return scope.kind is ScopeKind.REGISTRY
