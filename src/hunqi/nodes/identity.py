"""Who is at the other end of a connection between nodes: role and name from a certificate, and the TLS contexts.

A certificate of the cluster names its holder twice: the URI ``hunqi://<cluster>/<role>/<name>`` says who it is, the DNS
name ``<name>.<role>.hunqi`` lets a client verify a server whatever its address is today. This module needs nothing but
the standard library, since the agent imports it.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Final

from hunqi.errors import UserError

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_URI: Final = re.compile(r"hunqi://(?P<cluster>[^/]+)/(?P<role>[^/]+)/(?P<name>[^/]+)")


class IdentityError(UserError):
    """A certificate or a name does not say who its holder is."""

    code: ClassVar[str] = "nodes.identity"


class Role(StrEnum):
    """What the holder of a certificate may do."""

    CONTROL = "control"
    """Speaks to every agent, and answers agents that join."""
    AGENT = "agent"
    """Answers control, tells other agents of drains."""
    MIRROR = "mirror"
    """Speaks to the mirrors of other nodes only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The holder of a certificate. ``name`` is a DNS label; an agent's is the first half of its key's fingerprint."""

    cluster: str
    role: Role
    name: str

    def __post_init__(self) -> None:
        """Raise :class:`IdentityError` for what is no DNS label."""
        for text in (self.cluster, self.name):
            if not _NAME.fullmatch(text):
                raise IdentityError(f"{text[:80]!r} is no name: use letters a-z, digits and hyphens, 63 at most")

    @property
    def uri(self) -> str:
        """The URI in the certificate."""
        return f"hunqi://{self.cluster}/{self.role}/{self.name}"

    @property
    def server_name(self) -> str:
        """The DNS name in the certificate, by which clients verify a server."""
        return f"{self.name}.{self.role}.hunqi"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A certificate and its key, PEM."""

    cert_pem: str
    key_pem: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsPaths:
    """Where a process of ours has its certificate, its key and the cluster's authority."""

    cert: Path
    key: Path
    ca: Path


def read_identity(certificate: Mapping[str, Any] | None) -> Identity:
    """Return who ``certificate`` (of ``SSLObject.getpeercert()``) names. Raises :class:`IdentityError`."""
    names: Any = (certificate or {}).get("subjectAltName", ())
    for kind, value in names:
        found = _URI.fullmatch(value) if kind == "URI" else None
        if found and found["role"] in set(Role):
            return Identity(cluster=found["cluster"], role=Role(found["role"]), name=found["name"])
    raise IdentityError("the certificate names nobody of a cluster")


def server_context(paths: TlsPaths, *, anonymous: bool = False) -> ssl.SSLContext:
    """Return a context that serves to holders of the cluster's certificates, TLS 1.3 only.

    With ``anonymous`` clients without any certificate are let in too (what they may do is the server's to decide).
    Raises :class:`IdentityError` if the files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL if anonymous else ssl.CERT_REQUIRED
    return _load(context, paths)


def client_context(paths: TlsPaths) -> ssl.SSLContext:
    """Return a context that trusts the cluster's authority only and shows our certificate, TLS 1.3 only.

    Raises :class:`IdentityError` if the files cannot be used.
    """
    return _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), paths)


def reload_context(context: ssl.SSLContext, paths: TlsPaths) -> None:
    """Have a context use what the files hold now; connections that are there stay as they are.

    Raises :class:`IdentityError` if the files cannot be used.
    """
    _load(context, paths)


def pinned_context(ca_pem: str) -> ssl.SSLContext:
    """Return a context for clients without a certificate that trusts only the authority ``ca_pem``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=ca_pem)
    except ssl.SSLError as error:
        raise IdentityError("this is no certificate of an authority") from error
    return context


def fingerprint(cert_pem: str) -> str:
    """Return the SHA-256 of the certificate, 64 hex digits. Raises :class:`IdentityError`."""
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert_pem.strip() + "\n")).hexdigest()
    except ValueError as error:
        raise IdentityError("this is no certificate") from error


def _load(context: ssl.SSLContext, paths: TlsPaths) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=paths.ca)
        context.load_cert_chain(paths.cert, paths.key)
    except OSError as error:  # SSLError is one
        raise IdentityError(f"the certificate in {paths.cert} cannot be used: {error}") from error
    return context
