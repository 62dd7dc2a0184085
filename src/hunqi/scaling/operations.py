"""What can be asked of elastic scaling, as a port for the interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hunqi.apps.operations import Change
from hunqi.scaling.model import Decision, Scaled


class Autoscaling(Protocol):
    """Services that load moves. All raise ``AppNotFoundError``, ``ServiceNotFoundError``."""

    async def scaled(self, app: str) -> Sequence[Scaled]:
        """Return the services of the app that load moves."""
        ...

    async def find(self, app: str, service: str) -> Scaled:
        """Return one. Raises ``NotScaledError``."""
        ...

    async def set(self, app: str, service: str, given: Mapping[str, Any], change: Change) -> Scaled:
        """Have load move it so, in place of what the file says; ``given`` has the fields of ``x-hunqi.scale``.

        Raises ``AutoscaleError``.
        """
        ...

    async def off(self, app: str, service: str, change: Change) -> None:
        """Have load not move it, whatever the file says."""
        ...

    async def forget(self, app: str, service: str, change: Change) -> None:
        """Have the file say again whether and how load moves it."""
        ...

    async def decisions(self, app: str, *, service: str | None, limit: int) -> Sequence[Decision]:
        """Return the last decisions that are kept, newest first."""
        ...
