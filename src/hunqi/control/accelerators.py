"""Images for the apps' room: resolved at this node's accelerator, pinned and spread over all nodes' by their agents."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hunqi.apps.images import Accelerator
from hunqi.apps.ports import Pinned
from hunqi.engine.model import RegistryAuth
from hunqi.nodes.spread import NodeImages


class Accelerators:
    """The accelerators of the cluster."""

    def __init__(self, here: Accelerator, everywhere: NodeImages, *, login: RegistryAuth | None = None) -> None:
        self._here = here
        self._everywhere = everywhere
        self._login = login

    async def resolve(self, image: str, *, platforms: Collection[str]) -> Pinned:
        """Resolve a reference at this node. Raises ``ImageError``, ``AcceleratorError``."""
        return await self._here.resolve(image, platforms=platforms)

    async def pin(self, pins: Mapping[str, Collection[str]]) -> None:
        """Have every node keep what retained revisions use."""
        await self._everywhere.pin(pins)

    async def spread(self, references: Collection[str], *, copies: int) -> Sequence[str]:
        """Have nodes hold the images; return a sentence per image that is not there yet."""
        return await self._everywhere.spread(references, copies=copies)

    def registry_auth(self) -> RegistryAuth | None:
        """Return the login with which services pull."""
        return self._login
