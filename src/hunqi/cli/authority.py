"""A cluster's own certificate authority and the certificates of its nodes, for mutual TLS between peers.

EC P-256 keys; the authority lives ten years, a node's certificate two. Keys are files that only their owner reads.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hunqi.errors import UserError

AUTHORITY_DAYS: Final = 3650
NODE_DAYS: Final = 730
_BACKDATE: Final = timedelta(hours=1)
"""Nodes' clocks differ; a certificate is good for those that are a little behind."""


class AuthorityError(UserError):
    """The directory holds no usable authority, or holds something that would be overwritten."""

    code: ClassVar[str] = "cli.authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertFiles:
    """Where a certificate and its key were written."""

    cert: Path
    key: Path


def create_authority(directory: Path, *, name: str, now: datetime) -> CertFiles:
    """Write ``ca.pem`` and ``ca.key``; raise :class:`AuthorityError` if one of them stands there already."""
    files = CertFiles(cert=directory / "ca.pem", key=directory / "ca.key")
    _refuse_existing(files)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key.public_key(), now=now, days=AUTHORITY_DAYS)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(files, certificate, key)
    return files


def issue_certificate(directory: Path, *, node: str, hosts: tuple[str, ...], out: Path, now: datetime) -> CertFiles:
    """Write ``NODE.pem`` and ``NODE.key`` into ``out``, good for ``hosts`` as server and as client.

    Raises :class:`AuthorityError`.
    """
    authority, authority_key = _load(directory)
    files = CertFiles(cert=out / f"{node}.pem", key=out / f"{node}.key")
    _refuse_existing(files)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = _builder(subject, authority.subject, key.public_key(), now=now, days=NODE_DAYS)
    certificate = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _write(files, certificate, key)
    return files


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, *, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - _BACKDATE)
        .not_valid_after(now.astimezone(UTC) + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
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


def _load(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
    except OSError as error:
        raise AuthorityError(
            f"{directory} holds no authority ({error.strerror}): make one: hunqi mirror certs init --dir {directory}"
        ) from error
    except (ValueError, TypeError) as error:
        raise AuthorityError(f"the authority in {directory} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError(f"the authority in {directory} was not made by hunqi: its key is of another kind")
    return certificate, key


def _refuse_existing(files: CertFiles) -> None:
    for path in (files.cert, files.key):
        if path.exists():
            raise AuthorityError(f"{path} exists: move it away first, it is not overwritten")


def _write(files: CertFiles, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    files.cert.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    # The key first: a certificate without its key would look finished.
    _write_private(files.key, pem)
    _write_private(files.cert, certificate.public_bytes(serialization.Encoding.PEM))


def _write_private(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600 by itself
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)
    Path(name).replace(path)
