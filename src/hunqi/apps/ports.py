"""What apps need of others, each port as small as its use.

The engine's own ports are in ``engine.ports``; here are the observer that keeps a snapshot, the accelerators, and the
cluster's key for what must not lie in the clear.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hunqi.engine.model import RegistryAuth, Snapshot


class Observer(Protocol):
    """A snapshot of our part of the Swarm, kept fresh by events."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The last one; None before the first."""
        ...

    def follow(self) -> AsyncIterator[Snapshot]:
        """Yield each new snapshot; a slow follower misses those between."""
        ...

    async def refresh(self, *, app: str | None = None) -> Snapshot:
        """Observe now and return a snapshot begun after this call; with ``app`` only what is its is looked at anew."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """An image resolved: ``reference`` is what the engine pulls, ``digest`` what its tag named."""

    reference: str
    digest: str


class Images(Protocol):
    """Images by way of the accelerators."""

    async def resolve(self, image: str, *, platforms: Collection[str]) -> Pinned:
        """Resolve a reference at this node's accelerator. ``platforms`` like ``linux/x86_64``, the nodes' own.

        Raises ``ImageError``, ``AcceleratorError``.
        """
        ...

    async def pin(self, pins: Mapping[str, Collection[str]]) -> None:
        """Tell every accelerator the references that the retained revisions of each app use; replaces the last."""
        ...

    async def spread(self, references: Collection[str], *, copies: int) -> Sequence[str]:
        """Have at least ``copies`` nodes hold the images; return a sentence per image that is not there yet."""
        ...

    def registry_auth(self) -> RegistryAuth | None:
        """Return the read-only login with which services pull from the loopback accelerator."""
        ...


class ImageNodes(Protocol):
    """The accelerators of all nodes: a part of ``Images``."""

    async def pin(self, pins: Mapping[str, Collection[str]]) -> None:
        """See ``Images``."""
        ...

    async def spread(self, references: Collection[str], *, copies: int) -> Sequence[str]:
        """See ``Images``."""
        ...


class Seal(Protocol):
    """Encryption with the cluster's key; ``context`` binds what is sealed to its place."""

    def seal(self, plain: bytes, *, context: str) -> bytes:
        """Encrypt and authenticate."""
        ...

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """The reverse. Raises a ``DependencyError`` or ``UserError`` for what was not sealed so with this key."""
        ...

    def derive(self, context: str) -> bytes:
        """Return 32 bytes that follow from the key and ``context`` and tell nothing of either."""
        ...


class Volumes(Protocol):
    """Volumes of all nodes."""

    async def remove(self, app: str) -> None:
        """Remove the volumes that carry the app's label, on every node that can be reached."""
        ...


class Diagnosis(Protocol):
    """What is known of a container on whichever node it is."""

    async def health(self, node: str, container: str) -> str:
        """Return what the container's healthcheck wrote last, empty if it has none or the node does not answer."""
        ...
