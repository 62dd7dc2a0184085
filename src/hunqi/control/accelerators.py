"""Images for the apps' room: resolved at this node's accelerator, pinned and spread over all nodes' by their agents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from hunqi.apps.images import Accelerator, Login
from hunqi.apps.ports import ImageNodes, Pinned
from hunqi.engine.model import RegistryAuth
from hunqi.identity.registry import RegistryLogins


class Accelerators:
    """The accelerators of the cluster."""

    def __init__(self, here: Accelerator, everywhere: ImageNodes, logins: RegistryLogins) -> None:
        self._here = here
        self._everywhere = everywhere
        self._logins = logins
        self._services = logins.of_services()

    async def resolve(self, image: str, *, platforms: Collection[str], reads: Collection[str]) -> Pinned:
        """Resolve a reference at this node, by a login that reads just this. Raises as ``Accelerator`` does."""
        made = self._logins.of_deploy(reads, now=datetime.now(UTC))
        login = Login(username=made.username, password=made.password)
        return await self._here.resolve(image, platforms=platforms, login=login)

    async def pin(self, pins: Mapping[str, Collection[str]]) -> None:
        """Have every node keep what retained revisions use."""
        await self._everywhere.pin(pins)

    async def spread(self, references: Collection[str], *, copies: int) -> Sequence[str]:
        """Have nodes hold the images; return a sentence per image that is not there yet."""
        return await self._everywhere.spread(references, copies=copies)

    def registry_auth(self) -> RegistryAuth:
        """Return the login with which services pull."""
        services = self._services
        return RegistryAuth(username=services.username, password=services.password, server=self._here.address)
