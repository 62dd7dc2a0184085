"""What apps need of others, each port as small as its use.

Engine: two halves of the Engine API's client, and the observer that keeps a snapshot. Images: the accelerator of this
node, and the accelerators of all nodes. Seal: the cluster's key for what must not lie in the clear.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hunqi.apps.model import Compiled
from hunqi.apps.operations import Submission
from hunqi.engine.model import JSON, Snapshot


class Compiler(Protocol):
    """The Compose compiler."""

    def __call__(self, app: str, submission: Submission, variables: Mapping[str, str]) -> Compiled:
        """Compile; ``variables`` are the app's kept ones, below the submission's. Raises its ``UserError`` s."""
        ...


class Services(Protocol):
    """Services of the engine."""

    async def create_service(self, spec: JSON, *, registry_auth: str | None = None) -> str:
        """Create one and return its id. Raises ``ConflictError`` if the name is taken."""
        ...

    async def update_service(self, id: str, version: int, spec: JSON, *, registry_auth: str | None = None) -> None:
        """Replace its spec. Raises ``ConflictError`` if it changed since ``version``, ``NotFoundError``."""
        ...

    async def remove_service(self, id: str) -> None:
        """Remove one. Raises ``NotFoundError``."""
        ...


class Objects(Protocol):
    """What services stand on."""

    async def create_network(self, spec: JSON) -> str:
        """Create one (the body of ``/networks/create``) and return its id. Raises ``ConflictError``."""
        ...

    async def remove_network(self, id: str) -> None:
        """Remove one. Raises ``EngineRefusedError`` while it is in use."""
        ...

    async def create_payload(self, kind: str, spec: JSON) -> str:
        """Create a secret or config (``kind``) and return its id. Raises ``ConflictError``."""
        ...

    async def remove_payload(self, kind: str, id: str) -> None:
        """Remove one. Raises ``EngineRefusedError`` while a service uses it."""
        ...


class Observer(Protocol):
    """A snapshot of our part of the Swarm, kept fresh by events."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The last one; None before the first."""
        ...

    async def refresh(self) -> Snapshot:
        """Observe now and return what is there: a snapshot begun after this call."""
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

    def registry_auth(self) -> str:
        """Return the value of X-Registry-Auth with which services pull from the loopback accelerator."""
        ...


class Seal(Protocol):
    """Encryption with the cluster's key."""

    def seal(self, plain: bytes) -> bytes:
        """Encrypt and authenticate."""
        ...

    def open(self, sealed: bytes) -> bytes:
        """The reverse. Raises ``InvariantError`` for what was not sealed with this key."""
        ...
