"""Certificates of the gateways: kept sealed, given to the publisher."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import ClassVar, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from sqlalchemy import delete, insert, select

from hunqi.api.ports import CertificateView
from hunqi.apps.operations import Change
from hunqi.errors import UserError
from hunqi.gateway.model import Certificate
from hunqi.gateway.publisher import Publisher
from hunqi.state.database import Database
from hunqi.state.events import append
from hunqi.state.sealing import Sealer
from hunqi.state.tables import CERTIFICATES

ROUND_S: Final = 60.0
_GIVEN: Final = "given"


class CertificateError(UserError):
    """A chain and a key that cannot be used together."""

    code: ClassVar[str] = "control.certificate"


class CertificateNotFoundError(UserError):
    """There is no such certificate."""

    code: ClassVar[str] = "control.certificate-not-found"


class Certificates:
    """The certificates of the cluster's gateways."""

    def __init__(
        self, database: Database, sealer: Sealer, publisher: Publisher, *, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._publisher = publisher
        self._now = now
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Give the publisher what there is, whenever it changes, until cancelled."""
        while True:
            self._wake.clear()
            await self.give()
            try:
                async with asyncio.timeout(ROUND_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def give(self) -> None:
        """Give the publisher what there is now."""
        self._publisher.configure(certificates=await self._load())

    async def certificates(self) -> Sequence[CertificateView]:
        """Return all, without keys."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(CERTIFICATES).order_by(CERTIFICATES.c.id))).mappings().all()
        return [
            CertificateView(
                id=row["id"],
                hosts=tuple(json.loads(row["hosts"])),
                source=row["source"],
                expires_at=datetime.fromisoformat(row["expires_at"]),
                problem=row["problem"],
            )
            for row in rows
        ]

    async def add(self, chain_pem: str, key_pem: str, change: Change) -> CertificateView:
        """Take a chain and its key. Raises :class:`CertificateError` for what does not fit together."""
        hosts, expires_at = read_pair(chain_pem, key_pem, now=self._now())
        made = secrets.token_hex(8)
        async with self._database.begin() as connection:
            await connection.execute(
                insert(CERTIFICATES).values(
                    id=made,
                    hosts=json.dumps(hosts),
                    source=_GIVEN,
                    chain_pem=chain_pem,
                    sealed_key=self._sealer.seal(key_pem.encode(), context=f"certificate/{made}"),
                    expires_at=expires_at.isoformat(),
                )
            )
            await append(
                connection, "certificate.added", actor=change.actor, reason=change.reason, subject=", ".join(hosts)
            )
        self._wake.set()
        return CertificateView(id=made, hosts=tuple(hosts), source=_GIVEN, expires_at=expires_at)

    async def remove(self, certificate: str, change: Change) -> None:
        """Forget one. Raises :class:`CertificateNotFoundError`."""
        async with self._database.begin() as connection:
            gone = await connection.execute(delete(CERTIFICATES).where(CERTIFICATES.c.id == certificate))
            if not gone.rowcount:
                raise CertificateNotFoundError(f"there is no certificate {certificate[:40]!r}: hunqi cert ls")
            await append(
                connection, "certificate.removed", actor=change.actor, reason=change.reason, subject=certificate
            )
        self._wake.set()

    async def authority(self) -> str:
        """Return the certificate of the local authority. Raises :class:`CertificateNotFoundError`."""
        raise CertificateNotFoundError("there is no local authority yet")

    async def _load(self) -> list[Certificate]:
        async with self._database.read() as connection:
            rows = (await connection.execute(select(CERTIFICATES).order_by(CERTIFICATES.c.id))).mappings().all()
        return [
            Certificate(
                hosts=tuple(json.loads(row["hosts"])),
                chain_pem=row["chain_pem"],
                key_pem=self._sealer.open(row["sealed_key"], context=f"certificate/{row['id']}").decode(),
            )
            for row in rows
        ]


def read_pair(chain_pem: str, key_pem: str, *, now: datetime) -> tuple[list[str], datetime]:
    """Return the hosts of a chain and when it ends. Raises :class:`CertificateError` unless ``key_pem`` is its key."""
    try:
        chain = x509.load_pem_x509_certificates(chain_pem.encode())
        key = load_pem_private_key(key_pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"this is no chain and key in PEM, or the key has a password: {error}") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if chain[0].public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise CertificateError("the key is not that of the first certificate of the chain")
    expires_at = chain[0].not_valid_after_utc
    if expires_at <= now:
        raise CertificateError(f"the certificate has expired on {expires_at:%Y-%m-%d}")
    try:
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise CertificateError("the certificate names no hosts (subject alternative names)") from error
    return names.get_values_for_type(x509.DNSName), expires_at
