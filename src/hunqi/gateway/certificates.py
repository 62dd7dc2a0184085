"""Certificates of the edge: given ones, those of an ACME authority, and a local authority's where there is neither.

``plan_certificates`` is pure: which certificate answers for which host now, and which are to be made. A wildcard
covers one label. Certificates are renewed when a third of their life is left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import ClassVar, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hunqi.errors import UserError
from hunqi.gateway.model import Certificate
from hunqi.kit import x509 as kit

LEAF_LIFE: Final = timedelta(days=90)
_LARGEST_PEM: Final = 256 * 1024
_SMALLEST_RSA: Final = 2048


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
    if not kit.is_key_of(leaf, key):
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
        try:
            self._authority = kit.Authority(cert_pem, key_pem)
        except kit.X509Error as error:
            raise BadCertificateError(f"the local authority cannot be read: {error}") from error
        self.cert_pem = cert_pem
        self.key_pem = key_pem

    @classmethod
    def make(cls, name: str, *, now: datetime) -> LocalAuthority:
        """Make a new one; keep its key sealed."""
        made = kit.Authority.make(name, now=now)
        return cls(made.cert_pem, made.key_pem)

    def issue(self, host: str, *, now: datetime) -> Held:
        """Sign a new key for ``host`` (a name, a wildcard or an address). Raises ``BadCertificateError``."""
        key = kit.make_key()
        leaf = kit.Leaf(name=host, hosts=(host,), is_client=False)
        try:
            signed = self._authority.sign(key.public_key(), leaf, now=now, life=LEAF_LIFE)
        except kit.X509Error as error:
            raise BadCertificateError(str(error)) from error
        return read_certificate(signed + self.cert_pem, kit.key_to_pem(key), source=Source.LOCAL)


def make_request(hosts: Collection[str]) -> tuple[str, str]:
    """Return a new key and a request for ``hosts``, PEM both. Raises ``BadCertificateError``."""
    key = kit.make_key()
    try:
        return kit.key_to_pem(key), kit.make_request(key, hosts=hosts)
    except kit.X509Error as error:
        raise BadCertificateError(str(error)) from error


def _served(held: Held, names: set[str]) -> Certificate:
    return Certificate(hosts=tuple(sorted(names)), chain_pem=held.chain_pem, key_pem=held.key_pem)


def _is_public(host: str) -> bool:
    """HTTP-01 proves single names only, and no authority signs for names of private networks."""
    labels = host.split(".")
    private = {"localhost", "local", "internal", "test", "example", "invalid", "lan", "home", "arpa"}
    return len(labels) > 1 and "*" not in host and labels[-1] not in private and not labels[-1].isdecimal()


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
