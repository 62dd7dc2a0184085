"""Answers to an upstream's challenges: tokens, fetched once and kept until shortly before they end.

A token belongs to (realm, service, scope, identity). Whoever needs one that is being fetched waits for that flight.
The challenge of each scope is remembered, and that of one repository foretells that of the next, so a known registry
costs no 401 first. A rejected token is fetched anew once; a second 401 is the caller's end.

Credentials go to a realm only if :func:`~hunqi.mirror.sources.urls.realm_may_see_credentials`; any other realm is asked
anonymously (lscr.io's is ghcr.io), but never in clear for an https registry. A realm is not followed along a redirect.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Final, cast
from urllib.parse import urlencode

from hunqi.mirror.settings import Deadlines
from hunqi.mirror.sources.challenges import Basic, Bearer, Challenge, parse_challenges
from hunqi.mirror.sources.credentials import Credentials, CredentialStore
from hunqi.mirror.sources.errors import Forbidden, Phase, SourceMisbehaves, SourceTimeout, Unauthorized
from hunqi.mirror.sources.replies import error_for
from hunqi.mirror.sources.transport import Request, Transport
from hunqi.mirror.sources.urls import Url, realm_may_see_credentials

DEFAULT_LIFE_S: Final = 60.0
"""Of a token that does not say (distribution's token specification)."""
MAX_LIFE_S: Final = 86400.0
MARGIN_S: Final = 10.0
MAX_TOKEN_DOCUMENT_BYTES: Final = 256 * 1024
MAX_REMEMBERED: Final = 4096
"""Tokens and challenges kept for one source; the least recently used go first."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Key:
    challenge: Bearer
    identity: str


@dataclass(frozen=True, slots=True)
class _Token:
    header: str = field(repr=False)
    ends_at_s: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request needs access to: ``repository:<name>:pull``; and whether it must be asked as nobody."""

    scope: str
    anonymous: bool = False


class Authorizer:
    """Knows what to send as ``Authorization`` to one source. Thread-safe."""

    def __init__(
        self,
        home: Url,
        transport: Transport,
        *,
        credentials: CredentialStore,
        deadlines: Deadlines,
        clock: Callable[[], float],
    ) -> None:
        self._source = transport.label
        self._home = home
        self._transport = transport
        self._credentials = credentials
        self._deadlines = deadlines
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: OrderedDict[_Key, _Token] = OrderedDict()
        self._flights: dict[_Key, Future[_Token]] = {}
        self._challenges: OrderedDict[Wanted, Challenge] = OrderedDict()
        self._pattern: Challenge | None = None

    def expect(self, wanted: Wanted) -> str | None:
        """Return the header to send unasked, fetching a token if it is known that one is needed.

        Raises any :class:`SourceError` of the token service, but not its refusal: the registry itself may think
        otherwise.
        """
        with self._lock:
            challenge = self._challenges.get(wanted)
            if challenge is None and isinstance(self._pattern, Bearer):
                challenge = replace(self._pattern, scope=wanted.scope)
            elif challenge is None:
                challenge = self._pattern
        if challenge is None:
            return None
        try:
            return self._solve(challenge, wanted, rejected=None)
        except (Unauthorized, Forbidden):
            return None

    def answer(self, headers: Sequence[str], wanted: Wanted, *, rejected: str | None) -> str:
        """Return what answers the challenges of a 401, other than ``rejected``; raises :class:`SourceError`.

        :class:`Unauthorized` if nothing that we have or may send answers any of them.
        """
        for challenge in parse_challenges(headers, self._home):
            header = self._solve(challenge, wanted, rejected=rejected)
            if header is None or header == rejected:
                continue
            self._remember(wanted, challenge)
            return header
        raise Unauthorized(self._source, "asks for credentials that we do not have")

    def _remember(self, wanted: Wanted, challenge: Challenge) -> None:
        with self._lock:
            self._challenges[wanted] = challenge
            self._challenges.move_to_end(wanted)
            if len(self._challenges) > MAX_REMEMBERED:
                self._challenges.popitem(last=False)
            if isinstance(challenge, Basic) or challenge.scope == wanted.scope:
                self._pattern = challenge

    def _solve(self, challenge: Challenge, wanted: Wanted, *, rejected: str | None) -> str | None:
        credentials = None if wanted.anonymous else self._credentials.find()
        if isinstance(challenge, Basic):
            return credentials.basic if credentials else None
        home, realm = self._home.endpoint, challenge.realm.endpoint
        if home.scheme == "https" and realm.scheme != "https":
            return None
        if credentials and not realm_may_see_credentials(home, realm):
            _log.warning(
                "token realm is of another domain: credentials withheld",
                extra={"source": self._source, "realm": str(realm)},
            )
            credentials = None
        return self._token(_Key(challenge, credentials.username if credentials else ""), credentials, rejected).header

    def _token(self, key: _Key, credentials: Credentials | None, rejected: str | None) -> _Token:
        with self._lock:
            known = self._tokens.get(key)
            if known and known.ends_at_s > self._clock() and known.header != rejected:
                self._tokens.move_to_end(key)
                return known
            flight = self._flights.get(key)
            is_mine = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        if is_mine:
            self._fly(flight, key, credentials)
        limit_s = self._deadlines.connect_s + 2 * self._deadlines.first_byte_s
        try:
            return flight.result(timeout=limit_s)
        except TimeoutError as error:
            raise SourceTimeout(self._source, Phase.FIRST_BYTE, limit_s) from error

    def _fly(self, flight: Future[_Token], key: _Key, credentials: Credentials | None) -> None:
        try:
            token = self._fetch(key.challenge, credentials)
        except BaseException as error:
            with self._lock:
                del self._flights[key]
            flight.set_exception(error)
            return
        with self._lock:
            del self._flights[key]
            self._tokens[key] = token
            self._tokens.move_to_end(key)
            if len(self._tokens) > MAX_REMEMBERED:
                self._tokens.popitem(last=False)
        flight.set_result(token)

    def _fetch(self, challenge: Bearer, credentials: Credentials | None) -> _Token:
        asked_at_s = self._clock()
        reply = self._transport.send(_token_request(challenge, credentials))
        try:
            if reply.status != 200:
                raise error_for(self._source, reply)
            reply.expect_within(self._deadlines.first_byte_s)
            header, life_s = _parse_token(self._source, reply.read_all(MAX_TOKEN_DOCUMENT_BYTES))
        finally:
            reply.close()
        return _Token(header, asked_at_s + life_s - min(MARGIN_S, life_s / 5))


def _token_request(challenge: Bearer, credentials: Credentials | None) -> Request:
    query = [("service", challenge.service)] if challenge.service else []
    query += [("scope", scope) for scope in challenge.scope.split()]
    if credentials and credentials.identity_token:
        form = [("grant_type", "refresh_token"), ("client_id", "hunqi-mirror"), ("service", challenge.service)]
        form += [("scope", challenge.scope), ("refresh_token", credentials.identity_token)]
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        return Request(method="POST", url=challenge.realm, headers=headers, body=urlencode(form).encode())
    headers = {"Accept": "application/json"}
    if credentials and credentials.basic:
        query.append(("account", credentials.username))
        headers["Authorization"] = credentials.basic
    target = challenge.realm.target
    if query:
        target += ("&" if "?" in target else "?") + urlencode(query)
    return Request(method="GET", url=Url(challenge.realm.endpoint, target), headers=headers)


def _parse_token(source: str, data: bytes) -> tuple[str, float]:
    """Return the header and its life in seconds."""
    try:
        decoded = json.loads(data)
    except (ValueError, RecursionError):
        raise SourceMisbehaves(source, "its token service does not answer in JSON") from None
    document = cast("dict[str, object]", decoded) if isinstance(decoded, dict) else {}
    token = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
        raise SourceMisbehaves(source, "its token service sent no token")
    life = document.get("expires_in")
    is_number = isinstance(life, int | float) and not isinstance(life, bool) and life > 0
    return f"Bearer {token}", min(float(cast("float", life)), MAX_LIFE_S) if is_number else DEFAULT_LIFE_S
