"""Certificates from an ACME authority (RFC 8555), proved by HTTP-01 through the gateways.

The answers to challenges travel in the route table, so that whichever gateway the authority asks can give them and
control need not be reachable from there. The library is synchronous: each of its calls runs in a thread, and has the
library's own deadlines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

import requests
from acme import challenges, client, errors, messages
from cryptography.hazmat.primitives import serialization
from josepy import jwa, jwk

from hunqi.errors import DependencyError
from hunqi.gateway.certificates import Held, Source, make_request, read_certificate
from hunqi.kit.x509 import key_to_pem, make_key

LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"
_AGENT: Final = "hunqi"
_CALL_S: Final = 30
_ISSUE_S: Final = 180.0

Publish = Callable[[Mapping[str, str]], Awaitable[None]]
"""Has every gateway give these answers (token → text); none with an empty mapping. Returns when it is so."""


class AcmeFailedError(DependencyError):
    """The authority did not give a certificate; the message is the authority's own where there is one."""

    code: ClassVar[str] = "gateway.acme-failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeAccount:
    """Who we are at the authority; ``key_pem`` is to be kept sealed, for limits count by account."""

    directory: str
    key_pem: str = field(repr=False)
    email: str = ""
    ca_file: str | None = None
    """What to trust instead of the system's authorities (an authority inside the company)."""

    @classmethod
    def make(cls, directory: str = LETS_ENCRYPT, *, email: str = "", ca_file: str | None = None) -> AcmeAccount:
        """Make a new key; the account is made at the authority when it is first used."""
        return cls(directory=directory, key_pem=key_to_pem(make_key()), email=email, ca_file=ca_file)


class AcmeIssuer:
    """Asks one authority for certificates, one at a time."""

    def __init__(self, account: AcmeAccount, publish: Publish, *, now: Callable[[], datetime]) -> None:
        """``now`` without a time zone is what the library's deadlines are counted in: local time."""
        self._account = account
        self._publish = publish
        self._now = now
        self._turn = asyncio.Lock()
        self._client: client.ClientV2 | None = None

    async def issue(self, hosts: Sequence[str]) -> Held:
        """Return a certificate for ``hosts`` (no wildcards). Raises ``AcmeFailedError``.

        Cancelled in the middle, it withdraws its answers; the order is left to expire.
        """
        async with self._turn:
            key_pem, request_pem = make_request(hosts)
            connection = await self._connected()
            order = await _call(connection.new_order, request_pem.encode())
            try:
                asked = _challenges(order)
                answers = [each.response_and_validation(connection.net.key) for each in asked]
                await self._publish(
                    {each.chall.encode("token"): text for each, (_, text) in zip(asked, answers, strict=True)}
                )
                for each, (response, _) in zip(asked, answers, strict=True):
                    await _call(connection.answer_challenge, each, response)
                deadline = self._now() + timedelta(seconds=_ISSUE_S)
                finished = await _call(connection.poll_and_finalize, order, deadline)
            finally:
                await self._publish({})
            return read_certificate(finished.fullchain_pem, key_pem, source=Source.ACME)

    async def _connected(self) -> client.ClientV2:
        connection = self._client or await _call(self._connect)
        self._client = connection
        return connection

    def _connect(self) -> client.ClientV2:
        account = self._account
        key = jwk.JWKEC(key=serialization.load_pem_private_key(account.key_pem.encode(), password=None))
        # `requests`, to which it is handed on, takes a file as well as a truth value.
        verify: Any = account.ca_file or True
        net = client.ClientNetwork(key, alg=jwa.ES256, verify_ssl=verify, user_agent=_AGENT, timeout=_CALL_S)
        connection = client.ClientV2(client.ClientV2.get_directory(account.directory, net), net)
        wanted = messages.NewRegistration.from_data(email=account.email or None, terms_of_service_agreed=True)
        try:
            net.account = connection.new_account(wanted)
        except errors.ConflictError as known:
            known_account = messages.RegistrationResource(uri=known.location, body=messages.Registration())
            net.account = connection.query_registration(known_account)
        return connection


def _challenges(order: Any) -> list[Any]:
    """Return one HTTP-01 challenge for each host that is not proved yet."""
    found: list[Any] = []
    for each in order.authorizations:
        if each.body.status == messages.STATUS_VALID:
            continue
        offered = [one for one in each.body.challenges if isinstance(one.chall, challenges.HTTP01)]
        if not offered:
            raise AcmeFailedError(f"the authority offers no HTTP-01 for {each.body.identifier.value}")
        found.append(offered[0])
    return found


async def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return await asyncio.to_thread(function, *arguments)
    except (errors.Error, messages.Error, requests.RequestException) as error:
        raise AcmeFailedError(f"the ACME authority gave no certificate: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, errors.ValidationError):
        # The library builds these classes by itself, so no checker knows their fields.
        failed: Any = error.failed_authzrs
        said = [
            f"{each.body.identifier.value}: {one.error.detail}"
            for each in failed
            for one in each.body.challenges
            if one.error
        ]
        return "; ".join(said) or "a host could not be proved"
    if isinstance(error, errors.TimeoutError):
        return "it took too long"
    return str(error)[:500]
