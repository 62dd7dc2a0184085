"""Lists of the interface, whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from hunqi.client.transport import Query, Transport


async def every(transport: Transport, path: str, query: Query | None = None) -> AsyncIterator[Any]:
    """Yield each item of a list, asking for a page when the one before is used up."""
    cursor: str | None = None
    while True:
        page = await transport.ask("GET", path, query={**(query or {}), "cursor": cursor})
        for item in page["items"]:
            yield item
        cursor = page.get("next")
        if cursor is None:
            return
