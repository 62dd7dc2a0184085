"""Certificates of the gateways: given ones, ACME's and the local authority's, kept sealed and given to the publisher.

What is to be made and renewed is the gateway's room's to say (``gateway.issuing``); here they are kept.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final

from sqlalchemy import delete, insert, select

from hunqi.api.ports import CertificateView
from hunqi.apps.operations import Change
from hunqi.errors import InvariantError, UserError
from hunqi.gateway.certificates import Held, LocalAuthority, Source, plan_certificates, read_certificate
from hunqi.gateway.issuing import Issuing
from hunqi.gateway.publisher import Publisher
from hunqi.state.database import Database
from hunqi.state.events import append
from hunqi.state.sealing import Sealer
from hunqi.state.tables import CERTIFICATES, SETTINGS

if TYPE_CHECKING:
    from hunqi.gateway.acme import AcmeIssuer

_AUTHORITY: Final = "gateway.authority"
_ACCOUNT: Final = "gateway.acme"


class CertificateNotFoundError(UserError):
    """There is no such certificate."""

    code: ClassVar[str] = "control.certificate-not-found"


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeWish:
    """That public hosts get certificates of an ACME authority. ``ca_file`` is for an authority inside the company."""

    directory: str
    email: str = ""
    ca_file: str | None = None


class Certificates:
    """The certificates of the cluster's gateways; :meth:`run` on the leader only."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        publisher: Publisher,
        *,
        cluster: str,
        now: Callable[[], datetime],
        acme: AcmeWish | None = None,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._publisher = publisher
        self._cluster = cluster
        self._now = now
        self._acme = acme
        self._issuing: Issuing | None = None

    async def run(self) -> None:
        """Keep hosts provided, until cancelled."""
        issuer = await self._acme_issuer() if self._acme else None
        self._issuing = Issuing(self, self._publisher, await self._local(), issuer, now=self._now)
        await self._issuing.run()

    async def give(self) -> None:
        """Give the publisher what there is, before it knows of any route."""
        held = await self.load()
        hosts = {host for each in held for host in each.hosts}
        plan = plan_certificates(hosts, held, now=self._now(), acme=False)
        self._publisher.configure(certificates=plan.serve)

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
                problem=self._problem_of(json.loads(row["hosts"])),
            )
            for row in rows
        ]

    async def add(self, chain_pem: str, key_pem: str, change: Change) -> CertificateView:
        """Take a chain and its key. Raises ``BadCertificateError`` for what does not fit together."""
        held = read_certificate(chain_pem, key_pem)
        made = await self._keep(held, change)
        self._woken()
        return CertificateView(id=made, hosts=held.hosts, source=_name(held.source), expires_at=held.not_after)

    async def remove(self, certificate: str, change: Change) -> None:
        """Forget one. Raises :class:`CertificateNotFoundError`."""
        async with self._database.begin() as connection:
            gone = await connection.execute(delete(CERTIFICATES).where(CERTIFICATES.c.id == certificate))
            if not gone.rowcount:
                raise CertificateNotFoundError(
                    f"there is no certificate {certificate[:40]!r}: hunqi cert ls lists those there are"
                )
            await append(
                connection, "certificate.removed", actor=change.actor, reason=change.reason, subject=certificate
            )
        self._woken()

    async def authority(self) -> str:
        """Return the certificate of the local authority, PEM; it is made when it is first asked for."""
        return (await self._local()).cert_pem

    async def load(self) -> Sequence[Held]:
        """Return all, with their keys (a part of the port ``CertificateStore``)."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(CERTIFICATES).order_by(CERTIFICATES.c.id))).mappings().all()
        return [
            read_certificate(
                row["chain_pem"],
                self._sealer.open(row["sealed_key"], context=f"certificate/{row['id']}").decode(),
                source=Source[str(row["source"]).upper()],
            )
            for row in rows
        ]

    async def save(self, held: Held) -> None:
        """Keep one that was made (a part of the port ``CertificateStore``)."""
        await self._keep(held, Change(actor="control", reason="for a route"))

    async def _acme_issuer(self) -> AcmeIssuer:
        wish = self._acme
        if wish is None:
            raise InvariantError("no ACME authority is wanted")
        # Late: with what it stands on it weighs 8 MB, and most clusters ask no authority.
        from hunqi.gateway.acme import AcmeAccount, AcmeIssuer

        made = AcmeAccount.make(wish.directory, email=wish.email, ca_file=wish.ca_file)
        kept = await self._secret(f"{_ACCOUNT}/{wish.directory}", lambda: {"key": made.key_pem})
        account = replace(made, key_pem=kept["key"])
        return AcmeIssuer(account, self._publisher.publish_challenges, now=datetime.now)

    async def _local(self) -> LocalAuthority:
        def make() -> Mapping[str, str]:
            made = LocalAuthority.make(f"Hunqi {self._cluster}", now=self._now())
            return {"cert": made.cert_pem, "key": made.key_pem}

        kept = await self._secret(_AUTHORITY, make)
        return LocalAuthority(kept["cert"], kept["key"])

    async def _secret(self, key: str, make: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
        """Return what is kept sealed under ``key``, made if it is not there."""
        async with self._database.read() as connection:
            sealed = await connection.scalar(select(SETTINGS.c.value).where(SETTINGS.c.key == key))
        if sealed is None:
            made = json.dumps(dict(make()))
            async with self._database.begin() as connection:
                sealed = await connection.scalar(select(SETTINGS.c.value).where(SETTINGS.c.key == key))
                if sealed is None:
                    sealed = self._sealer.seal(made.encode(), context=key).hex()
                    await connection.execute(insert(SETTINGS).values(key=key, value=sealed))
        opened: Mapping[str, str] = json.loads(self._sealer.open(bytes.fromhex(sealed), context=key))
        return opened

    async def _keep(self, held: Held, change: Change) -> str:
        """Keep a certificate; of those that are made anew for the same hosts the newest replaces the others."""
        made, hosts, source = secrets.token_hex(8), json.dumps(held.hosts), _name(held.source)
        async with self._database.begin() as connection:
            if held.source is not Source.GIVEN:
                await connection.execute(
                    delete(CERTIFICATES).where(CERTIFICATES.c.hosts == hosts, CERTIFICATES.c.source == source)
                )
            await connection.execute(
                insert(CERTIFICATES).values(
                    id=made,
                    hosts=hosts,
                    source=source,
                    chain_pem=held.chain_pem,
                    sealed_key=self._sealer.seal(held.key_pem.encode(), context=f"certificate/{made}"),
                    expires_at=held.not_after.isoformat(),
                )
            )
            subject = ", ".join(held.hosts)
            await append(
                connection, "certificate.added", actor=change.actor, reason=change.reason, subject=subject[:128]
            )
        return made

    def _problem_of(self, hosts: Iterable[str]) -> str | None:
        if self._issuing is None:
            return None
        refusals = self._issuing.refusals
        return next((refusals[host].reason for host in hosts if host in refusals), None)

    def _woken(self) -> None:
        if self._issuing:
            self._issuing.wake()


def _name(source: Source) -> str:
    return source.name.lower()
