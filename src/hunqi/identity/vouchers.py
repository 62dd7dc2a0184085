"""Vouchers for the accelerator: what somebody may do with images, signed, to be used as a registry's password.

Rights are given once, here; the accelerators of all nodes believe the signature and ask nobody. So a voucher cannot be
taken back before it ends, except with the key: they are made short. The images of an app lie below its name.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert, select

from hunqi.identity.model import Actor, AppRef, Role
from hunqi.identity.policy import Action, Decision, decide
from hunqi.state.database import Database
from hunqi.state.errors import StateConflictError
from hunqi.state.events import now
from hunqi.state.sealing import Sealer
from hunqi.state.tables import APPS, KEYS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ISSUER: Final = "hunqi-control"
AUDIENCE: Final = "hunqi-registry"
MOST_HOURS: Final = 24 * 30
_KEY: Final = "registry.vouchers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """For ``docker login``: a name and a password, and until when they are good."""

    username: str
    password: str = field(repr=False)
    expires_at: datetime
    grants: tuple[str, ...]


class VoucherSigner:
    """Signs with the cluster's key; the accelerators are given :attr:`public_pem`."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "VoucherSigner(…)"

    @classmethod
    def new(cls) -> VoucherSigner:
        """Return one with a new key."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    @property
    def public_pem(self) -> str:
        """The public key, PEM: what goes into the accelerators' file of trusted keys."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, name: str, grants: Iterable[str], *, ttl_s: float) -> str:
        """Return a voucher of ``name`` for ``grants``, such as ``shop:pull,push``."""
        import jwt

        at = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": name,
            "iat": at,
            "exp": at + int(ttl_s),
            "grants": list(grants),
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA")


async def open_signer(database: Database, sealer: Sealer) -> VoucherSigner:
    """Return the cluster's signer; its key is made once and lies sealed in the database. Raises ``SealBrokenError``."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    row = await _read(database)
    if row is None:
        key = Ed25519PrivateKey.generate()
        made, sealed = VoucherSigner(key), sealer.seal(key.private_bytes_raw(), context=_KEY)
        try:
            async with database.begin() as connection:
                values = {"name": _KEY, "sealed": sealed, "public": made.public_pem, "updated_at": now()}
                await connection.execute(insert(KEYS).values(**values))
            return made
        except StateConflictError:
            row = await _read(database)  # another process was first
    return VoucherSigner(Ed25519PrivateKey.from_private_bytes(sealer.open(row or b"", context=_KEY)))


async def make_voucher(database: Database, signer: VoucherSigner, actor: Actor, *, hours: int) -> Voucher:
    """Return a voucher for all images that ``actor`` may pull or push."""
    async with database.read() as connection:
        rows = (await connection.execute(select(APPS.c.name, APPS.c.team_id).order_by(APPS.c.name))).all()
    if actor.administers:
        grants: tuple[str, ...] = ("*:pull,push,delete",)
    else:
        grants = tuple(grant for row in rows if (grant := _grant(actor, AppRef(name=row.name, team=row.team_id))))
    ttl_s = min(hours, MOST_HOURS) * 3600
    name = actor.name
    expires_at = datetime.fromtimestamp(int(time.time()) + ttl_s, UTC)
    password = signer.sign(name, grants, ttl_s=ttl_s)
    return Voucher(username=name, password=password, expires_at=expires_at, grants=grants)


def _grant(actor: Actor, app: AppRef) -> str | None:
    """Return what the actor may do with the images of an app: who sees it pulls, who deploys pushes, owners delete."""
    if decide(actor, Action.APP_SEE, app) is not Decision.ALLOW:
        return None
    actions = ["pull"]
    if decide(actor, Action.APP_DEPLOY, app) is Decision.ALLOW:
        actions.append("push")
    if actor.role_on(app) is Role.OWNER:
        actions.append("delete")
    return f"{app.name}:{','.join(actions)}"


async def _read(database: Database) -> bytes | None:
    async with database.read() as connection:
        return await connection.scalar(select(KEYS.c.sealed).where(KEYS.c.name == _KEY))
