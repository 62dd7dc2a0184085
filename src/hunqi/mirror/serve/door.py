"""The way in: from a request to an :class:`Asking` whose caller may do what it asks; all authorisation passes here.

Whether an upstream's repository is public is remembered in the catalogue and decided by the fetcher. A repository of
which nothing is stored, at an upstream for which there are no credentials, needs no decision: only an anonymous answer
of that upstream can bring anything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from hunqi.errors import UserError
from hunqi.kit.rpc import RpcError, RpcUnavailableError
from hunqi.mirror.access.gate import BadCredentials, Gate, TokenInvalid
from hunqi.mirror.access.model import NOBODY, Action, Caller, Decision
from hunqi.mirror.names import Names, Target, is_mirrored, require_mirrored
from hunqi.mirror.serve.asking import Asking, NotYourBusinessError, Trace, read_hops
from hunqi.mirror.serve.fetcher import FetcherClient, Via
from hunqi.mirror.serve.logins import Logins
from hunqi.mirror.settings import ANY_UPSTREAM, Origin
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.oci.reference import Reference

_REFRESH_SHARE: Final = 0.75
"""From this share of its life on, a remembered visibility is refreshed behind the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Admits requests."""

    gate: Gate
    logins: Logins
    names: Names
    catalogue: Catalogue
    fetcher: FetcherClient
    node_id: str
    visibility_s: float
    origins: Mapping[str, Origin]
    """The upstreams, with the repositories that may be mirrored of each."""
    credentialed: frozenset[str]
    """Upstreams that the fetcher may show credentials to; ``*`` stands for all."""

    async def caller(self, request: web.BaseRequest) -> Caller:
        """Return who asks; a password is checked in another thread. Raises what the gate's ``authenticate`` does."""
        header = request.headers.get("Authorization")
        known = self.gate.recall(header)
        return known if known is not None else await self.logins.authenticate(header, client=request.remote)

    def recall(self, request: web.BaseRequest) -> Caller | None:
        """Return who asks if that takes no password check."""
        return self.gate.recall(request.headers.get("Authorization"))

    def is_still_named(self, name: str | None, target: Target) -> bool:
        """Whether ``name`` still means ``target``: a push or a grant may have made it local since, or ended that."""
        if name is None or not self.names.may_be_local(name):
            return True
        return self.names.is_local_namespace(name) is target.is_local

    async def admit_pull(
        self, request: web.BaseRequest, trace: Trace, *, name: str, reference: Reference | None, from_peer: bool
    ) -> Asking:
        """Return the request for reading ``name``; raise :class:`NotYourBusinessError` or what names raise."""
        ns = request.query.get("ns")
        target = self.names.resolve(name, ns)
        require_mirrored(target, self.origins)
        caller = NOBODY if from_peer else await self._caller_for(request, Action.PULL, target, name)
        asking = Asking(
            request=request,
            trace=trace,
            caller=caller,
            target=target,
            name=name,
            via=Via(hops=read_hops(request, self.node_id), from_peer=from_peer),
            headers=(("OCI-Namespace", ns),) if ns else (),
        )
        _note(trace, asking)
        if not from_peer and not await self.may_pull(caller, target, reference):
            raise self._refusal(request, caller, Action.PULL, target, name)
        return asking

    async def admit_change(
        self, request: web.BaseRequest, trace: Trace, *, name: str, action: Action, from_peer: bool
    ) -> Asking:
        """Return the request for pushing to or deleting from ``name``, which must be local."""
        target = self.names.resolve_push(name, request.query.get("ns"))
        caller = NOBODY if from_peer else await self._caller_for(request, action, target, name)
        asking = Asking(
            request=request,
            trace=trace,
            caller=caller,
            target=target,
            name=name,
            via=Via(hops=read_hops(request, self.node_id), from_peer=from_peer),
        )
        _note(trace, asking)
        if not from_peer and self.gate.check(caller, action, target, public=None) is not Decision.ALLOW:
            raise self._refusal(request, caller, action, target, name)
        return asking

    async def precedes_push(self, request: web.BaseRequest, name: str) -> bool:
        """Whether a HEAD of something in ``name`` may be a look before the first push there.

        So it is for who may push to a name that no upstream can own and that nobody has pushed to. Until then the name
        reads as the default upstream's, and what that says of it must not end the push: clients take a refusal for an
        error, and do not upload a blob that is there.
        """
        if request.query.get("ns") or self.names.is_local_namespace(name):
            return False
        try:
            target = self.names.resolve_push(name)
            caller = await self.caller(request)
        except UserError:
            return False
        return self.gate.check(caller, Action.PUSH, target, public=None) is Decision.ALLOW

    async def _caller_for(self, request: web.BaseRequest, action: Action, target: Target, name: str) -> Caller:
        try:
            return await self.caller(request)
        except (BadCredentials, TokenInvalid) as error:
            written = None if request.query.get("ns") else name
            challenge = self.gate.challenge(target, _needed(action), _base_url(request), written=written)
            raise NotYourBusinessError(str(error), challenge=challenge) from error

    async def may_pull(self, caller: Caller, target: Target, reference: Reference | None) -> bool:
        """Whether ``caller`` may read ``target``, asking for its visibility only where that decides."""
        if self.gate.check(caller, Action.PULL, target, public=None) is Decision.ALLOW:
            return True
        if target.is_local:
            return False
        public = await self.is_public(target, reference)
        return self.gate.check(caller, Action.PULL, target, public=public) is Decision.ALLOW

    def may_pull_now(self, caller: Caller, target: Target) -> bool:
        """As :meth:`may_pull`, by what is remembered and fresh; never asks anybody."""
        public = None if target.is_local else self._remembered(target)
        return self.gate.check(caller, Action.PULL, target, public=public) is Decision.ALLOW

    async def is_public(self, target: Target, reference: Reference | None) -> bool:
        """Return whether anybody may see an upstream's repository."""
        if not is_mirrored(target, self.origins):
            return False
        remembered = self._remembered(target)
        if remembered is not None:
            return remembered
        only_as_stranger = self.credentialed.isdisjoint({target.upstream, ANY_UPSTREAM})
        if only_as_stranger and not self.catalogue.has_repository(target.key):
            return True
        try:
            return await self.fetcher.is_public(target, reference)
        except (RpcError, RpcUnavailableError):
            last = self.catalogue.visibility(target.key)
            return last is not None and last.public

    async def may_read_for_mount(self, request: web.BaseRequest, repo: str) -> bool:
        """Whether the caller of a mount may read its source."""
        target = self.target_of_key(repo)
        return await self.may_pull(await self.caller(request), target, None)

    def may_see(self, caller: Caller, key: str) -> bool:
        """Whether a list may name the repository with this key; by the last decision, which asks nobody."""
        target = self.target_of_key(key)
        last = None if target.is_local else self.catalogue.visibility(key)
        return self.gate.may_see(caller, target, public=last is not None and last.public)

    def target_of_key(self, key: str) -> Target:
        """Return the repository of a store's key."""
        first, slash, rest = key.partition("/")
        return Target(first, rest) if slash and first in self.names.upstreams else Target(None, key)

    async def caller_of_ping(self, request: web.BaseRequest) -> Caller:
        """Return who asks where no repository is named; raise :class:`NotYourBusinessError` on a bad token."""
        try:
            return await self.caller(request)
        except (BadCredentials, TokenInvalid) as error:
            raise self.challenge_for_ping(request) from error

    def challenge_for_ping(self, request: web.BaseRequest) -> NotYourBusinessError:
        """Return the refusal of ``/v2/`` itself."""
        challenge = self.gate.challenge(None, (), _base_url(request))
        return NotYourBusinessError("log in first", challenge=challenge)

    def _remembered(self, target: Target) -> bool | None:
        row = self.catalogue.visibility(target.key)
        if row is None or row.decided_at + self.visibility_s * _REFRESH_SHARE < time.time():
            return None
        return row.public

    def _refusal(
        self, request: web.BaseRequest, caller: Caller, action: Action, target: Target, name: str
    ) -> NotYourBusinessError:
        message = self.gate.explain(caller, action, target)
        if self.gate.check(caller, action, target, public=False) is not Decision.UNAUTHENTICATED:
            return NotYourBusinessError(message, challenge=None)
        written = None if request.query.get("ns") else name
        challenge = self.gate.challenge(target, _needed(action), _base_url(request), written=written)
        return NotYourBusinessError(message, challenge=challenge)


def _needed(action: Action) -> tuple[Action, ...]:
    return (Action.PULL,) if action is Action.PULL else (Action.PULL, action)


def _note(trace: Trace, asking: Asking) -> None:
    trace.user = asking.caller.name or ("peer" if asking.via.from_peer else "-")
    trace.repository = asking.target.key


def _base_url(request: web.BaseRequest) -> str:
    return f"{request.scheme}://{request.host}"
