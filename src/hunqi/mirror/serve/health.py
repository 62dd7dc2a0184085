"""``/healthz`` (this process answers), ``/readyz`` (the fetcher does too), ``/metrics`` (all workers together)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from hunqi.kit.rpc import RpcError, RpcUnavailableError
from hunqi.mirror.serve.accounts import Counters
from hunqi.mirror.serve.fetcher import FetcherClient

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthEndpoints:
    """What operators and their tools ask."""

    fetcher: FetcherClient
    counters: Counters
    worker: int

    async def answer(self, name: str) -> web.Response:
        """Answer one of the three."""
        try:
            match name:
                case "healthz":
                    return web.Response(text="ok\n")
                case "readyz":
                    await self.fetcher.ping()
                    return web.Response(text="ready\n")
                case _:
                    report = {"worker": self.worker, "report": self.counters.report()}
                    text = await self.fetcher.scrape(report)
                    return web.Response(body=text.encode(), headers={"Content-Type": OPENMETRICS})
        except (RpcError, RpcUnavailableError) as error:
            return web.Response(status=503, text=f"the fetcher process does not answer: {error}\n")
