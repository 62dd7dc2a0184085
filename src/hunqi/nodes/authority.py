"""The cluster's own certificate authority: it signs for agents, control and mirrors, and nobody else believes it.

EC P-256 keys; the authority lives ten years, what it signs two. Its key stays in control's state, sealed; the keys of
nodes never leave them: what is signed is a request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import ClassVar, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hunqi.errors import UserError
from hunqi.nodes.identity import Credential, Identity, Role, fingerprint

AUTHORITY_DAYS: Final = 3650
HOLDER_DAYS: Final = 730
KEY_NAME_DIGITS: Final = 32
"""Of the fingerprint of an agent's key, that many hex digits are its name."""
_BACKDATE: Final = timedelta(hours=1)
"""Nodes' clocks differ; a certificate is good for those that are a little behind."""


class AuthorityError(UserError):
    """The authority cannot be read, or what it is to sign is no request."""

    code: ClassVar[str] = "nodes.authority"


class ClusterAuthority:
    """Signs certificates of one cluster."""

    def __init__(self, cluster: str, credential: Credential) -> None:
        """Take up the authority of ``cluster``. Raises :class:`AuthorityError`."""
        self.cluster = cluster
        self._credential = credential
        self._cert, self._key = _load(credential)

    @classmethod
    def make(cls, cluster: str, *, now: datetime) -> ClusterAuthority:
        """Make a new authority; keep its :attr:`credential` sealed."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Hunqi cluster {cluster}")])
        certificate = (
            _builder(subject, subject, key.public_key(), now=now, days=AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(cluster, Credential(cert_pem=_pem(certificate), key_pem=_key_pem(key)))

    @property
    def credential(self) -> Credential:
        """The authority's own certificate and key."""
        return self._credential

    @property
    def ca_pem(self) -> str:
        """The authority's certificate: what every node trusts."""
        return self._credential.cert_pem

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority's certificate, 64 hex digits: what a join token pins."""
        return fingerprint(self._credential.cert_pem)

    def issue(self, role: Role, name: str, *, hosts: Iterable[str] = (), now: datetime) -> Credential:
        """Make a key and its certificate, for a holder on this machine. Raises ``IdentityError``."""
        key = ec.generate_private_key(ec.SECP256R1())
        identity = Identity(cluster=self.cluster, role=role, name=name)
        certificate = self._sign(key.public_key(), identity, hosts=hosts, now=now)
        return Credential(cert_pem=certificate, key_pem=_key_pem(key))

    def sign(self, request_pem: str, role: Role, *, hosts: Iterable[str] = (), now: datetime) -> str:
        """Return a certificate for the key of the request; nothing else of the request is believed.

        The holder's name is the beginning of its key's fingerprint (:func:`key_name`). Raises :class:`AuthorityError`.
        """
        key = _requested_key(request_pem)
        identity = Identity(cluster=self.cluster, role=role, name=_name_of(key))
        return self._sign(key, identity, hosts=hosts, now=now)

    def _sign(self, key: ec.EllipticCurvePublicKey, identity: Identity, *, hosts: Iterable[str], now: datetime) -> str:
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, identity.role),
                x509.NameAttribute(NameOID.COMMON_NAME, identity.name),
            ]
        )
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(identity.uri),
            x509.DNSName(identity.server_name),
            *(_general_name(host) for host in hosts),
        ]
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(subject, self._cert.subject, key, now=now, days=HOLDER_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _pem(certificate)


def make_request() -> tuple[str, str]:
    """Return a new key and a request for its certificate, both PEM. The key is secret."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hunqi")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return _key_pem(key), request.public_bytes(serialization.Encoding.PEM).decode()


def request_for(key_pem: str) -> str:
    """Return a request, PEM, for the certificate of a key that is there. Raises :class:`AuthorityError`."""
    key = _load_key(key_pem)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hunqi")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def key_name(request_pem: str) -> str:
    """Return the name that the holder of the request's key gets. Raises :class:`AuthorityError`."""
    return _name_of(_requested_key(request_pem))


def _name_of(key: ec.EllipticCurvePublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:KEY_NAME_DIGITS]


def _requested_key(request_pem: str) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_pem_x509_csr(request_pem.encode())
        key = request.public_key()
        is_signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise AuthorityError("this is no request for a certificate: make it with `hunqi join`") from error
    if not is_signed or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise AuthorityError("the request is not signed by an EC P-256 key: make it with `hunqi join`")
    return key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - _BACKDATE)
        .not_valid_after(now.astimezone(UTC) + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise AuthorityError(f"{host[:100]!r} is neither an address nor a host name") from error


def _load(credential: Credential) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(credential.cert_pem.encode())
    except ValueError as error:
        raise AuthorityError("the cluster's authority cannot be read: restore it from a backup") from error
    return certificate, _load_key(credential.key_pem)


def _load_key(key_pem: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AuthorityError("the key cannot be read: restore it from a backup") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError("the key is not of the kind that Hunqi makes")
    return key


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
