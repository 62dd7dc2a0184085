"""Certificates of the edge: given ones, those of an ACME authority, and a local authority's where there is neither.

``plan_certificates`` is pure: which certificate answers for which host now, and which are to be made. A wildcard
covers one label. Certificates are renewed when a third of their life is left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from ipaddress import ip_address
from typing import ClassVar, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hunqi.errors import UserError
from hunqi.gateway.model import Certificate

AUTHORITY_DAYS: Final = 3650
LEAF_DAYS: Final = 90
_BACKDATE: Final = timedelta(hours=1)
_LARGEST_PEM: Final = 256 * 1024
_SMALLEST_RSA: Final = 2048
_LONGEST_NAME: Final = 64


class BadCertificateError(UserError):
    """A certificate or key cannot be used."""

    code: ClassVar[str] = "gateway.bad-certificate"


class Source(IntEnum):
    """Where a certificate is from; the lower is preferred."""

    GIVEN = 0
    ACME = 1
    LOCAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A certificate that we have."""

    source: Source
    hosts: tuple[str, ...]
    chain_pem: str
    key_pem: str = field(repr=False)
    not_before: datetime
    not_after: datetime

    def covers(self, host: str) -> bool:
        """Whether it is for ``host`` (itself perhaps a wildcard)."""
        parent = host.partition(".")[2]
        return host in self.hosts or (bool(parent) and not host.startswith("*.") and f"*.{parent}" in self.hosts)

    def valid(self, now: datetime) -> bool:
        """Whether clients would take it at ``now``."""
        return self.not_before <= now < self.not_after

    def due(self, now: datetime) -> bool:
        """Whether it is to be renewed: a third of its life is left."""
        return now >= self.not_after - (self.not_after - self.not_before) / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatePlan:
    """What is served now, and what is to be made."""

    serve: tuple[Certificate, ...]
    acme: tuple[str, ...]
    """Hosts to ask the ACME authority for."""
    local: tuple[str, ...]
    """Hosts for which the local authority is to sign."""
    expiring: tuple[Held, ...]
    """Given certificates that nobody but their owner can renew, soon of no use."""


def plan_certificates(hosts: Iterable[str], held: Collection[Held], *, now: datetime, acme: bool) -> CertificatePlan:
    """Return what answers for ``hosts``; with ``acme`` names of the public world are asked for there."""
    serve: dict[int, tuple[Held, set[str]]] = {}
    wanted_acme: list[str] = []
    wanted_local: list[str] = []
    ranked = sorted(held, key=lambda each: (each.source, -each.not_after.timestamp()))
    for host in sorted({each.lower() for each in hosts}):
        found = [each for each in ranked if each.covers(host) and each.valid(now)]
        if found:
            serve.setdefault(id(found[0]), (found[0], set()))[1].add(host)
        fresh = {each.source for each in found if not each.due(now)}
        if Source.GIVEN in {each.source for each in found} or Source.ACME in fresh:
            continue
        if acme and _is_public(host):
            wanted_acme.append(host)
        if not found or (found[0].source is Source.LOCAL and Source.LOCAL not in fresh):
            wanted_local.append(host)
    used = [each for each, _ in serve.values()]
    return CertificatePlan(
        serve=tuple(_served(each, names) for each, names in serve.values()),
        acme=tuple(wanted_acme),
        local=tuple(wanted_local),
        expiring=tuple(each for each in used if each.source is Source.GIVEN and each.due(now)),
    )


def read_certificate(chain_pem: str, key_pem: str, *, source: Source = Source.GIVEN) -> Held:
    """Return the certificate with what is read from it. Raises ``BadCertificateError``: the message says what to do."""
    if len(chain_pem) > _LARGEST_PEM or len(key_pem) > _LARGEST_PEM:
        raise BadCertificateError("the certificate is larger than 256 KiB: give the chain and its key in PEM")
    try:
        chain = x509.load_pem_x509_certificates(chain_pem.encode())
    except ValueError as error:
        raise BadCertificateError("the chain is no PEM of certificates: the server's own comes first") from error
    try:
        key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadCertificateError("the key is no PEM of a private key without a password") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise BadCertificateError("the key is neither RSA nor of an elliptic curve")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _SMALLEST_RSA:
        raise BadCertificateError(f"the key has {key.key_size} bits: at least {_SMALLEST_RSA} are needed")
    if isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1
    ):
        raise BadCertificateError(f"Envoy does not take keys of the curve {key.curve.name}: use P-256")
    leaf = chain[0]
    if _spki(leaf.public_key()) != _spki(key.public_key()):
        raise BadCertificateError("the key is not that of the first certificate of the chain")
    return Held(
        source=source,
        hosts=_hosts(leaf),
        chain_pem=chain_pem,
        key_pem=key_pem,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


class LocalAuthority:
    """Signs for hosts that no one else has signed for; users may install its certificate."""

    def __init__(self, cert_pem: str, key_pem: str) -> None:
        """Take up an authority. Raises ``BadCertificateError``."""
        held = _authority(cert_pem, key_pem)
        self._cert, self._key = held
        self.cert_pem = cert_pem
        self.key_pem = key_pem

    @classmethod
    def make(cls, name: str, *, now: datetime) -> LocalAuthority:
        """Make a new one; keep its key sealed."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_LONGEST_NAME])])
        cert = (
            _builder(subject, subject, key.public_key(), now=now, days=AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(_pem(cert), _key_pem(key))

    def issue(self, host: str, *, now: datetime) -> Held:
        """Sign a new key for ``host`` (a name, a wildcard or an address)."""
        key = ec.generate_private_key(ec.SECP256R1())
        # A subject may have 64 characters; the host stands in the alternative names, which are what counts.
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:_LONGEST_NAME])])
        cert = (
            _builder(subject, self._cert.subject, key.public_key(), now=now, days=LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return read_certificate(_pem(cert) + self.cert_pem, _key_pem(key), source=Source.LOCAL)


def make_request(hosts: Collection[str]) -> tuple[str, str]:
    """Return a new key and a request for ``hosts``, PEM both."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([_general_name(each) for each in hosts])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    return _key_pem(key), pem


def _served(held: Held, names: set[str]) -> Certificate:
    return Certificate(hosts=tuple(sorted(names)), chain_pem=held.chain_pem, key_pem=held.key_pem)


def _is_public(host: str) -> bool:
    """HTTP-01 proves single names only, and no authority signs for names of private networks."""
    labels = host.split(".")
    private = {"localhost", "local", "internal", "test", "example", "invalid", "lan", "home", "arpa"}
    return len(labels) > 1 and "*" not in host and labels[-1] not in private and not labels[-1].isdecimal()


def _authority(cert_pem: str, key_pem: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        cert = x509.load_pem_x509_certificate(cert_pem.encode())
        key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadCertificateError("the local authority cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or _spki(cert.public_key()) != _spki(key.public_key()):
        raise BadCertificateError("the key of the local authority is not that of its certificate")
    return cert, key


def _hosts(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise BadCertificateError(
            "the certificate has no subject alternative names: clients would refuse it"
        ) from error
    found = [each.lower() for each in names.get_values_for_type(x509.DNSName)]
    found += [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    if not found:
        raise BadCertificateError("the certificate is for no host name")
    return tuple(sorted(found))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


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


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _spki(key: object) -> bytes:
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise BadCertificateError("the certificate's key is neither RSA nor of an elliptic curve")
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _pem(cert: x509.Certificate) -> str:
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
