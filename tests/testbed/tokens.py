"""A small token server (distribution's ``spec/auth/token.md``) that counts and lets anybody pull what is public."""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from testbed.authority import Authority, Credential
from testbed.server import Exchange, Server

ISSUER: Final = "testbed"
SERVICE: Final = "testbed-registry"


@dataclass(slots=True, kw_only=True)
class Access:
    """Who may do what; may be changed while the server runs."""

    users: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    """Name to password; a user may pull and push everything."""
    public: set[str] = field(default_factory=set[str])
    """Repositories that anybody may pull."""


class TokenServer:
    """Issues the tokens that a :class:`~testbed.registry.RealRegistry` with Bearer authentication asks for."""

    def __init__(self, directory: Path, access: Access, *, tls: ssl.SSLContext | None = None) -> None:
        """Make a signing key in ``directory``; the registry trusts :attr:`bundle_file`."""
        authority = Authority(directory, name="testbed tokens")
        self._signer: Credential = authority.issue("token-signer")
        self._chain = [_der_base64(self._signer.cert_file)]
        self.bundle_file = authority.ca_file
        self.access = access
        self.ttl_s = 300
        self.server = Server(self._answer, tls=tls)

    @property
    def realm(self) -> str:
        """The URL to stand in ``WWW-Authenticate``."""
        return f"{self.server.url}/token"

    @property
    def issued(self) -> int:
        """Tokens issued so far."""
        return sum(record.status == 200 for record in self.server.records)

    @property
    def authorized(self) -> int:
        """Requests so far that carried credentials."""
        return sum("authorization" in record.headers for record in self.server.records)

    def _answer(self, exchange: Exchange) -> None:
        user = self._user(exchange.header("authorization"))
        if user is None:
            exchange.reply(401, b'{"details":"incorrect username or password"}')
            return
        query = parse_qs(urlsplit(exchange.record.target).query)
        access = [entry for scope in query.get("scope", []) for entry in self._grants(user, scope.split(" "))]
        token = self._sign(user, access)
        body = json.dumps({"token": token, "access_token": token, "expires_in": self.ttl_s})
        exchange.reply(200, body.encode(), {"Content-Type": "application/json"})

    def _user(self, header: str | None) -> str | None:
        """Return the user's name, empty for an anonymous request, ``None`` for a wrong password."""
        if header is None:
            return ""
        name, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        return name if self.access.users.get(name) == password else None

    def _grants(self, user: str, scopes: Collection[str]) -> list[Mapping[str, object]]:
        granted: list[Mapping[str, object]] = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            wanted = [
                action for action in actions.split(",") if user or (action == "pull" and name in self.access.public)
            ]
            if wanted:
                granted.append({"type": kind, "name": name, "actions": wanted})
        return granted

    def _sign(self, user: str, access: list[Mapping[str, object]]) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": SERVICE,
            "exp": now + self.ttl_s,
            "nbf": now - 10,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": access,
        }
        key = self._signer.key_file.read_bytes()
        return jwt.encode(claims, key, algorithm="ES256", headers={"x5c": self._chain})


def _der_base64(cert_file: Path) -> str:
    certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
    return base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
