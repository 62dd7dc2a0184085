"""X.509 as Hunqi makes it: EC P-256 keys, SHA-256, one authority and what it signs; no chains of authorities.

Serial numbers are 159 random bits (RFC 5280, 4.1.2.2); validity begins an hour ago, since clocks differ, and what is
signed never outlives its authority. An authority may sign certificates and nothing else, and no further authority; a
holder may sign handshakes and nothing else. Names stand in the alternative names, which are what clients compare; the
subject is for people. There are no name constraints: an authority for the edge signs for whatever is routed, one
between machines for whatever addresses they have, and only its own cluster trusts it.

PEM is text here. Keys are secret: they stand in no message and no ``repr``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import ClassVar, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from hunqi.errors import UserError

AUTHORITY_LIFE: Final = timedelta(days=3650)
BACKDATE: Final = timedelta(hours=1)
"""Clocks differ; a certificate is good for those that are a little behind."""
LONGEST_NAME: Final = 64
"""Characters of a common name (RFC 5280, ``ub-common-name``)."""

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class X509Error(UserError):
    """A key, a certificate, a request or a name is none, or not of the kind that is wanted."""

    code: ClassVar[str] = "kit.x509"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What a certificate says of its holder, besides the key."""

    name: str
    """For people: the common name, cut to 64 characters."""
    unit: str = ""
    """For people: the organisational unit."""
    hosts: tuple[str, ...] = ()
    """Host names, wildcards and addresses."""
    uris: tuple[str, ...] = ()
    is_client: bool = True
    """Whether it is for clients too, not for servers alone."""


class Authority:
    """Signs; its key never leaves it but by :attr:`key_pem`."""

    def __init__(self, cert_pem: str, key_pem: str) -> None:
        """Take up an authority. Raises :class:`X509Error` if one is no PEM or the key is not the certificate's."""
        self.cert_pem: Final = cert_pem
        self._certificate: Final = load_certificate(cert_pem)
        self._key: Final = load_key(key_pem)
        if not is_key_of(self._certificate, self._key):
            raise X509Error("the authority's key is not that of its certificate")

    @classmethod
    def make(cls, name: str, *, now: datetime, life: timedelta = AUTHORITY_LIFE) -> Authority:
        """Make a new one that signs itself."""
        key = make_key()
        subject = _subject(Leaf(name=name))
        public = key.public_key()
        builder = (
            _builder(subject, subject, public, not_before=now - BACKDATE, not_after=now + life)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
        )
        return cls(to_pem(builder.sign(key, hashes.SHA256())), key_to_pem(key))

    @property
    def key_pem(self) -> str:
        """The key; it is secret."""
        return key_to_pem(self._key)

    @property
    def not_after(self) -> datetime:
        """The end of its life."""
        return self._certificate.not_valid_after_utc

    def sign(self, key: ec.EllipticCurvePublicKey, leaf: Leaf, *, now: datetime, life: timedelta) -> str:
        """Return a certificate for ``key``, PEM. Raises :class:`X509Error` for a host that is none."""
        names = [
            *(x509.UniformResourceIdentifier(uri) for uri in leaf.uris),
            *(general_name(host) for host in leaf.hosts),
        ]
        if not names:
            raise X509Error("a certificate is for one host at least")
        purposes: list[ObjectIdentifier] = [ExtendedKeyUsageOID.SERVER_AUTH]
        if leaf.is_client:
            purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        not_after = min(now.astimezone(UTC) + life, self.not_after)
        builder = (
            _builder(_subject(leaf), self._certificate.subject, key, not_before=now - BACKDATE, not_after=not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer, critical=False)
        )
        return to_pem(builder.sign(self._key, hashes.SHA256()))


def make_key() -> ec.EllipticCurvePrivateKey:
    """Make a key."""
    return ec.generate_private_key(ec.SECP256R1())


def load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    """Read a key as :func:`key_to_pem` writes it. Raises :class:`X509Error`."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise X509Error("the key is no PEM of a private key without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise X509Error("the key is not of the kind that Hunqi makes")
    return key


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Return the key as PKCS #8 without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def load_certificate(pem: str) -> x509.Certificate:
    """Read the first certificate of ``pem``. Raises :class:`X509Error`."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise X509Error("this is no PEM of a certificate") from error


def names(certificate: x509.Certificate, hosts: Iterable[str]) -> bool:
    """Whether a certificate is good for all of ``hosts``, each named as it is asked for. Raises :class:`X509Error`."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return all(general_name(host) in found for host in hosts)


def to_pem(thing: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """Return a certificate or a request as PEM."""
    return thing.public_bytes(serialization.Encoding.PEM).decode()


def make_request(key: ec.EllipticCurvePrivateKey, *, name: str = "", hosts: Iterable[str] = ()) -> str:
    """Return a request, PEM, for a certificate of ``key``. Raises :class:`X509Error` for a host that is none."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(Leaf(name=name)))
    names = [general_name(host) for host in hosts]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not name)
    return to_pem(builder.sign(key, hashes.SHA256()))


def requested_key(pem: str) -> ec.EllipticCurvePublicKey:
    """Return the key that a request is signed by. Raises :class:`X509Error` unless it is one of P-256."""
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        key = request.public_key()
        is_signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise X509Error("this is no request for a certificate") from error
    if not is_signed or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise X509Error("the request is not signed by an EC P-256 key")
    return key


def is_key_of(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bool:
    """Whether ``key`` is the certificate's."""
    public = certificate.public_key()
    return isinstance(public, PublicKey) and spki(public) == spki(key.public_key())


def is_signed_by(certificate: x509.Certificate, authorities_pem: str) -> bool:
    """Whether one of these authorities has signed it. Raises :class:`X509Error` if they are no PEM."""
    try:
        authorities = x509.load_pem_x509_certificates(authorities_pem.encode())
    except ValueError as error:
        raise X509Error("this is no PEM of certificates") from error
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def spki(key: PublicKey) -> bytes:
    """Return a public key as DER (``SubjectPublicKeyInfo``): what is hashed to name a key."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def general_name(host: str) -> x509.GeneralName:
    """Return an address or a host name as certificates have it. Raises :class:`X509Error`."""
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise X509Error(f"{host[:100]!r} is neither an address nor a host name") from error


def _subject(leaf: Leaf) -> x509.Name:
    said = ((NameOID.ORGANIZATIONAL_UNIT_NAME, leaf.unit), (NameOID.COMMON_NAME, leaf.name[:LONGEST_NAME]))
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in said if text])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before.astimezone(UTC))
        .not_valid_after(not_after.astimezone(UTC))
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
