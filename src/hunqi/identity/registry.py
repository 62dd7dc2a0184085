"""Logins at the cluster's accelerators: passwords signed by control, which every accelerator believes.

``docker login`` takes one like any password; what it gives follows from the roles at the moment when it is made. The
key comes from the cluster's own, so every control of a cluster signs alike; accelerators hold the public half.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hunqi.identity.model import Actor, AppRef, Role
from hunqi.state.sealing import Sealer

PREFIX: Final = "hqr_"
AUDIENCE: Final = "hunqi-mirror"
LASTS: Final = timedelta(hours=12)
SERVICES: Final = "services"
"""The user that tasks pull as."""
DEPLOYS: Final = "deploys"
"""The user that the images of a deploy are looked for as."""
DEPLOY_LASTS: Final = timedelta(minutes=10)
_CONTEXT: Final = "registry/ed25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryLogin:
    """A name and a password for ``docker login``; ``grants`` as the accelerator reads them (``shop:pull,push``)."""

    username: str
    password: str = field(repr=False)
    grants: tuple[str, ...]
    expires_at: datetime | None


class RegistryLogins:
    """Makes logins for the accelerators of one cluster."""

    def __init__(self, sealer: Sealer) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(sealer.derive(_CONTEXT))

    @property
    def public_pem(self) -> str:
        """The key by which accelerators verify passwords, PEM."""
        public = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return public.decode()

    def of_services(self) -> RegistryLogin:
        """Return the login with which tasks pull everything, and nothing else; it does not end."""
        return self._make(SERVICES, ("*:pull",), expires_at=None)

    def of_deploy(self, reads: Iterable[str], *, now: datetime) -> RegistryLogin:
        """Return a login that pulls what a deploy may run, below the prefixes ``reads``, while it is looked at."""
        grants = tuple(f"{prefix}:pull" for prefix in sorted(set(reads)))
        return self._make(DEPLOYS, grants, expires_at=now + DEPLOY_LASTS)

    def of(self, actor: Actor, apps: Iterable[AppRef], *, now: datetime) -> RegistryLogin:
        """Return a login of ``actor``: images below the names of its ``apps``, to push for developers and owners."""
        if actor.administers:
            grants = ["*:pull,push,delete"]
        else:
            grants = [
                f"{app.name}:{'pull' if role is Role.VIEWER else 'pull,push'}"
                for app in apps
                if (role := actor.role_on(app)) is not None
            ]
        return self._make(actor.label, tuple(grants), expires_at=now + LASTS)

    def _make(self, name: str, grants: tuple[str, ...], *, expires_at: datetime | None) -> RegistryLogin:
        claims: dict[str, Any] = {"sub": name, "aud": AUDIENCE, "grants": list(grants)}
        if expires_at is not None:
            claims["exp"] = int(expires_at.astimezone(UTC).timestamp())
        signed = jwt.encode(claims, self._key, algorithm="EdDSA")
        return RegistryLogin(username=name, password=PREFIX + signed, grants=grants, expires_at=expires_at)
