"""The files of one holder: what its certificate says, when it is to be renewed, and how a new pair takes its place.

A new key is written beside the old one (``.new``) before anybody is asked to sign it, and the pair is swapped once both
halves are there: first the new certificate is written beside, which decides, then the key is renamed, then the
certificate. Whoever reads the files at its start calls :func:`settle` first, so that a crash between any two leaves a
pair that fits.

Certificates are read with the standard library, since the agent imports this; what signs is imported when it is needed.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hunqi.kit.files import write_atomic
from hunqi.nodes.identity import Identity, IdentityError, Role, TlsPaths

_URI: Final = re.compile(rb"hunqi://([a-z0-9-]+)/([a-z]+)/([a-z0-9-]+)")
_SEQUENCE: Final = 0x30
_CONTEXT_0: Final = 0xA0
_UTC_TIME: Final = 0x17
_LONG: Final = 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a certificate of ours says."""

    identity: Identity
    not_before: datetime
    not_after: datetime

    def due(self, now: datetime) -> bool:
        """Whether it is to be renewed: a third of its life is left."""
        return now >= self.not_after - (self.not_after - self.not_before) / 3

    def over(self, now: datetime) -> bool:
        """Whether nobody takes it any more."""
        return now >= self.not_after


def read_holding(path: Path) -> Holding:
    """Return what the certificate in ``path`` says. Raises ``IdentityError`` if it is none of ours, or not there."""
    try:
        return parse_holding(path.read_text("ascii"))
    except (OSError, UnicodeError) as error:
        raise IdentityError(f"the certificate in {path} cannot be read: {error}") from error
    except IdentityError as error:
        raise IdentityError(f"{path}: {error}") from error


def parse_holding(cert_pem: str) -> Holding:
    """Return what a certificate says. Raises ``IdentityError`` if it is none of ours."""
    try:
        der = ssl.PEM_cert_to_DER_cert(_first(cert_pem))
        not_before, not_after = validity(der)
    except (ValueError, IndexError) as error:
        raise IdentityError(f"the certificate cannot be read: {error}") from error
    # It names its holder first of all, and what follows begins with a byte that is no letter.
    found = _URI.search(der)
    if found is None or found[2].decode() not in set(Role):
        raise IdentityError("the certificate names nobody of a cluster")
    cluster, role, name = (each.decode() for each in found.groups())
    identity = Identity(cluster=cluster, role=Role(role), name=name)
    return Holding(identity=identity, not_before=not_before, not_after=not_after)


def authority_ends(path: Path) -> datetime:
    """Return when the authority in ``path`` ends. Raises ``IdentityError``."""
    try:
        return validity(ssl.PEM_cert_to_DER_cert(_first(path.read_text("ascii"))))[1]
    except (OSError, ValueError, IndexError) as error:
        raise IdentityError(f"the authority in {path} cannot be read: {error}") from error


def validity(der: bytes) -> tuple[datetime, datetime]:
    """Return the ends of a certificate's life (RFC 5280, 4.1.2.5). Raises ``ValueError``, ``IndexError``."""
    certificate = _contents(der)
    parts = [each for each in _elements(_contents(certificate)) if each[0] != _CONTEXT_0]
    # Serial number, algorithm, issuer, validity.
    (first, start), (last, end) = list(_elements(parts[3][1]))[:2]
    return _moment(first, start), _moment(last, end)


def begin(paths: TlsPaths) -> str:
    """Return a request, PEM, for a new key beside the present one; the same key until :func:`install`.

    Raises ``OSError``, ``AuthorityError``.
    """
    from hunqi.nodes.authority import make_request, request_for

    settle(paths)
    fresh = _fresh(paths.key)
    with contextlib.suppress(FileNotFoundError):
        return request_for(fresh.read_text("ascii"))
    key, request = make_request()
    write_atomic(fresh, key.encode(), mode=0o600)
    return request


def install(paths: TlsPaths, cert_pem: str, *, holder: str) -> None:
    """Put a new certificate and its key (of :func:`begin`) in the place of the present ones.

    Raises ``IdentityError`` for one that is not in the name of ``holder``, of another key or of another authority;
    nothing is changed then. Raises ``OSError``.
    """
    from hunqi.kit import x509

    fresh_key, fresh_cert = _fresh(paths.key), _fresh(paths.cert)
    try:
        certificate = x509.load_certificate(cert_pem)
        fits = x509.is_key_of(certificate, x509.load_key(fresh_key.read_text("ascii")))
        trusted = x509.is_signed_by(certificate, paths.ca.read_text("ascii"))
    except (x509.X509Error, FileNotFoundError) as error:
        raise IdentityError(f"this is no certificate that was asked for: {error}") from error
    if not fits or not trusted:
        raise IdentityError("the certificate is not for the key that asks, or not of this cluster's authority")
    if parse_holding(cert_pem).identity.name != holder:
        raise IdentityError("the certificate is another holder's")
    write_atomic(fresh_cert, cert_pem.encode(), mode=0o600)
    settle(paths)


def settle(paths: TlsPaths) -> None:
    """Finish a swap that was cut short. Raises ``OSError``."""
    fresh_key, fresh_cert = _fresh(paths.key), _fresh(paths.cert)
    if not fresh_cert.exists():
        return
    with contextlib.suppress(FileNotFoundError):
        fresh_key.replace(paths.key)
    fresh_cert.replace(paths.cert)


def _fresh(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _first(text: str) -> str:
    """Return the first certificate of a chain."""
    end = "-----END CERTIFICATE-----"
    head, found, _ = text.partition(end)
    if not found:
        raise ValueError("it is no PEM")
    return head.strip() + "\n" + end + "\n"


def _contents(der: bytes) -> bytes:
    """Return what is in the sequence that ``der`` begins with."""
    tag, body = next(_elements(der), (0, b""))
    if tag != _SEQUENCE:
        raise ValueError("it is no certificate")
    return body


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element (X.690, definite lengths)."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & _LONG:
            count = length & ~_LONG
            length = int.from_bytes(der[at : at + count], "big")
            at += count
        if at + length > len(der):
            raise ValueError("it is cut off")
        yield tag, der[at : at + length]
        at += length


def _moment(tag: int, text: bytes) -> datetime:
    said = text.decode("ascii")
    if tag == _UTC_TIME:  # years 50 to 99 are of the last century
        said = ("19" if said[:2] >= "50" else "20") + said
    return datetime.strptime(said, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
