"""A cluster's own certificate authority and the certificates of its nodes, for mutual TLS between peers.

The authority lives ten years, a node's certificate two, since nobody but its owner renews it. Keys are files that only
their owner reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final

from hunqi.errors import UserError
from hunqi.kit import x509
from hunqi.kit.files import write_atomic

NODE_LIFE: Final = timedelta(days=730)


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
    made = x509.Authority.make(name, now=now)
    _write(files, made.cert_pem, made.key_pem)
    return files


def issue_certificate(directory: Path, *, node: str, hosts: tuple[str, ...], out: Path, now: datetime) -> CertFiles:
    """Write ``NODE.pem`` and ``NODE.key`` into ``out``, good for ``hosts`` as server and as client.

    Raises :class:`AuthorityError`.
    """
    authority = _load(directory)
    files = CertFiles(cert=out / f"{node}.pem", key=out / f"{node}.key")
    _refuse_existing(files)
    key = x509.make_key()
    try:
        signed = authority.sign(key.public_key(), x509.Leaf(name=node, hosts=hosts), now=now, life=NODE_LIFE)
    except x509.X509Error as error:
        raise AuthorityError(str(error)) from error
    _write(files, signed, x509.key_to_pem(key))
    return files


def _load(directory: Path) -> x509.Authority:
    try:
        return x509.Authority((directory / "ca.pem").read_text("ascii"), (directory / "ca.key").read_text("ascii"))
    except OSError as error:
        raise AuthorityError(
            f"{directory} holds no authority ({error.strerror}): make one: hunqi mirror certs init --dir {directory}"
        ) from error
    except (x509.X509Error, UnicodeError) as error:
        raise AuthorityError(f"the authority in {directory} cannot be read: {error}") from error


def _refuse_existing(files: CertFiles) -> None:
    for path in (files.cert, files.key):
        if path.exists():
            raise AuthorityError(f"{path} exists: move it away first, it is not overwritten")


def _write(files: CertFiles, cert_pem: str, key_pem: str) -> None:
    files.cert.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The key first: a certificate without its key would look finished.
    write_atomic(files.key, key_pem.encode(), mode=0o600)
    write_atomic(files.cert, cert_pem.encode(), mode=0o600)
