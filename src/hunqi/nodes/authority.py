"""The cluster's own certificate authority: it signs for agents, control and mirrors, and nobody else believes it.

The authority lives ten years, what it signs ninety days and is renewed before the last third (``nodes.renewal``). Its
key stays in control's state, sealed; the keys of nodes never leave them: what is signed is a request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Final

from hunqi.errors import UserError
from hunqi.kit import x509
from hunqi.nodes.identity import Credential, Identity, Role, fingerprint

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

HOLDER_LIFE: Final = timedelta(days=90)
KEY_NAME_DIGITS: Final = 32
"""Of the fingerprint of an agent's first key, that many hex digits are its name."""
_REQUEST: Final = "hunqi"
_REMEDY: Final = "make it with `hunqi join`"


class AuthorityError(UserError):
    """The authority cannot be read, or what it is to sign is no request."""

    code: ClassVar[str] = "nodes.authority"


class ClusterAuthority:
    """Signs certificates of one cluster."""

    def __init__(self, cluster: str, credential: Credential, *, life: timedelta = HOLDER_LIFE) -> None:
        """Take up the authority of ``cluster``; ``life`` is that of what it signs. Raises :class:`AuthorityError`."""
        self.cluster = cluster
        self._life = life
        try:
            self._authority = x509.Authority(credential.cert_pem, credential.key_pem)
        except x509.X509Error as error:
            raise AuthorityError(
                f"the cluster's authority cannot be read ({error}): restore it from a backup"
            ) from error

    @classmethod
    def make(cls, cluster: str, *, now: datetime, life: timedelta = HOLDER_LIFE) -> ClusterAuthority:
        """Make a new authority; keep its :attr:`credential` sealed."""
        made = x509.Authority.make(f"Hunqi cluster {cluster}", now=now)
        return cls(cluster, Credential(cert_pem=made.cert_pem, key_pem=made.key_pem), life=life)

    @property
    def credential(self) -> Credential:
        """The authority's own certificate and key."""
        return Credential(cert_pem=self._authority.cert_pem, key_pem=self._authority.key_pem)

    @property
    def ca_pem(self) -> str:
        """The authority's certificate: what every node trusts."""
        return self._authority.cert_pem

    @property
    def not_after(self) -> datetime:
        """The end of the authority's own life."""
        return self._authority.not_after

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority's certificate, 64 hex digits: what a join token pins."""
        return fingerprint(self.ca_pem)

    def issue(self, role: Role, name: str, *, hosts: Iterable[str] = (), now: datetime) -> Credential:
        """Make a key and its certificate, for a holder on this machine. Raises ``IdentityError``."""
        key = x509.make_key()
        identity = Identity(cluster=self.cluster, role=role, name=name)
        certificate = self._sign(key.public_key(), identity, hosts=hosts, now=now)
        return Credential(cert_pem=certificate, key_pem=x509.key_to_pem(key))

    def sign(self, request_pem: str, role: Role, *, name: str = "", hosts: Iterable[str] = (), now: datetime) -> str:
        """Return a certificate for the key of the request; nothing else of the request is believed.

        Without ``name`` the holder is a new one, named by the beginning of its key's fingerprint (:func:`key_name`);
        with it a holder that is known gets a certificate for a new key. Raises :class:`AuthorityError`, and
        ``IdentityError`` for a name that is none.
        """
        key = _requested_key(request_pem)
        identity = Identity(cluster=self.cluster, role=role, name=name or _name_of(key))
        return self._sign(key, identity, hosts=hosts, now=now)

    def _sign(self, key: ec.EllipticCurvePublicKey, identity: Identity, *, hosts: Iterable[str], now: datetime) -> str:
        leaf = x509.Leaf(
            name=identity.name, unit=identity.role, hosts=(identity.server_name, *hosts), uris=(identity.uri,)
        )
        try:
            return self._authority.sign(key, leaf, now=now, life=self._life)
        except x509.X509Error as error:
            raise AuthorityError(str(error)) from error


def make_request() -> tuple[str, str]:
    """Return a new key and a request for its certificate, both PEM. The key is secret."""
    key = x509.make_key()
    return x509.key_to_pem(key), x509.make_request(key, name=_REQUEST)


def request_for(key_pem: str) -> str:
    """Return a request, PEM, for the certificate of a key that is there. Raises :class:`AuthorityError`."""
    try:
        return x509.make_request(x509.load_key(key_pem), name=_REQUEST)
    except x509.X509Error as error:
        raise AuthorityError(f"{error}: restore it from a backup") from error


def key_name(request_pem: str) -> str:
    """Return the name that a new holder of the request's key gets. Raises :class:`AuthorityError`."""
    return _name_of(_requested_key(request_pem))


def _name_of(key: ec.EllipticCurvePublicKey) -> str:
    return hashlib.sha256(x509.spki(key)).hexdigest()[:KEY_NAME_DIGITS]


def _requested_key(request_pem: str) -> ec.EllipticCurvePublicKey:
    try:
        return x509.requested_key(request_pem)
    except x509.X509Error as error:
        raise AuthorityError(f"{error}: {_REMEDY}") from error
