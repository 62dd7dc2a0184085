"""Swarm secrets and configs: the same but for one thing, that a secret cannot be read back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from hunqi.engine import parse
from hunqi.engine.model import JSON, Payload
from hunqi.engine.transport import Transport, filters, labelled, quoted


class Payloads:
    """Either all secrets or all configs (``path``), through a manager."""

    def __init__(self, transport: Transport, path: str) -> None:
        self._transport = transport
        self._path = path

    async def list(self, labels: Mapping[str, str] | None = None) -> list[Payload]:
        """Return those with all of these labels; configs with their data."""
        params = {"filters": filters(label=labelled(labels))}
        answer = await self._transport.call("GET", self._path, params=params)
        return [_payload(item) for item in parse.items(answer, self._path)]

    async def inspect(self, payload: str) -> Payload:
        """Return one by id or name; a config with its data. Raises ``NotFoundError``."""
        answer = await self._transport.call("GET", f"{self._path}/{quoted(payload)}")
        return _payload(parse.fields(answer, self._path))

    async def create(
        self, name: str, data: bytes, *, labels: Mapping[str, str] | None = None, template: str = ""
    ) -> str:
        """Create one and return its id; at most 500 KiB (configs 1000).

        ``template`` names the driver that expands it for each task: ``golang``, or none.

        Raises ``ConflictError`` where the name is taken, ``EngineRefusedError`` for what is too large.
        """
        body: dict[str, Any] = {
            "Name": name,
            "Labels": dict(labels or {}),
            "Data": base64.b64encode(data).decode(),
        }
        if template:
            body["Templating"] = {"Name": template}
        answer = await self._transport.call("POST", f"{self._path}/create", body=body)
        return parse.fields(answer, self._path)["ID"]

    async def remove(self, payload: str) -> None:
        """Remove one by id or name. Raises ``NotFoundError``; ``InUseError`` while a service refers to it."""
        await self._transport.call("DELETE", f"{self._path}/{quoted(payload)}")


def _payload(data: JSON) -> Payload:
    text = data["Spec"].get("Data")
    return parse.payload(data, content=None if text is None else base64.b64decode(text))
