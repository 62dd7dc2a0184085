"""What is measured, and the servers that are asked for more."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hunqi.client.model import MetricAnswer, SourceView, TopRow
from hunqi.client.paging import every
from hunqi.client.transport import Transport, path_of


class Metrics:
    """Measures of apps."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def query(
        self,
        app: str,
        measure: str,
        *,
        service: str | None = None,
        revision: int | None = None,
        since_s: float = 3600,
        step_s: int | None = None,
        by: str | None = None,
    ) -> MetricAnswer:
        """Return values of the last ``since_s`` seconds; ``by`` is service, revision, task or node."""
        query = {"service": service, "revision": revision, "since_s": str(since_s), "step_s": step_s, "by": by}
        return await self._transport.ask("GET", path_of("apps", app, "metrics", measure), query=query)

    async def top(self, *, team: str | None = None) -> list[TopRow]:
        """Return what the services that one may see do now, busiest first."""
        return (await self._transport.ask("GET", "/v1/metrics/top", query={"team": team}))["items"]

    def sources(self) -> AsyncIterator[SourceView]:
        """Yield the servers that answer Prometheus queries."""
        return every(self._transport, "/v1/metric-sources")

    async def set_source(
        self, name: str, url: str, *, token: str | None = None, ca_pem: str | None = None
    ) -> SourceView:
        """Add one, or replace it."""
        body = {"url": url, "token": token, "ca_pem": ca_pem}
        return await self._transport.ask("PUT", path_of("metric-sources", name), body=body)

    async def remove_source(self, name: str) -> None:
        """Forget one."""
        await self._transport.ask("DELETE", path_of("metric-sources", name))
