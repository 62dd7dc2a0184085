"""Volumes of this node."""

from __future__ import annotations

from collections.abc import Mapping

from hunqi.engine import parse
from hunqi.engine.model import Volume
from hunqi.engine.transport import Transport, filters, labelled, quoted


class Volumes:
    """Volumes."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self, labels: Mapping[str, str] | None = None) -> list[Volume]:
        """Return the volumes with all of these labels."""
        params = {"filters": filters(label=labelled(labels))}
        answer = parse.fields(await self._transport.call("GET", "/volumes", params=params), "volumes")
        return [parse.volume(item) for item in parse.items(answer.get("Volumes"), "volumes")]

    async def inspect(self, volume: str) -> Volume:
        """Return a volume by name. Raises ``NotFoundError``."""
        return parse.volume(parse.fields(await self._transport.call("GET", f"/volumes/{quoted(volume)}"), "volume"))

    async def create(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Create a volume; one that exists with the same driver is left as it is."""
        body = {"Name": name, "Driver": driver, "DriverOpts": dict(options or {}), "Labels": dict(labels or {})}
        await self._transport.call("POST", "/volumes/create", body=body)

    async def remove(self, volume: str) -> None:
        """Remove a volume and what is in it. Raises ``NotFoundError``; ``InUseError`` while a container has it."""
        await self._transport.call("DELETE", f"/volumes/{quoted(volume)}")
