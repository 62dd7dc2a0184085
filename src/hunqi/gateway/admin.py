"""Envoy's admin interface over its unix socket: what is in force, what it finds of each endpoint, and drains.

Only cheap questions: versions by a filter on text read-outs, hosts by ``/clusters``; never ``/config_dump``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

import aiohttp

from hunqi.errors import DependencyError
from hunqi.gateway.counting import STATS, Reading, parse_counts
from hunqi.kit.sockets import short_path

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)


class AdminUnreachableError(DependencyError):
    """Envoy's admin socket does not answer: it is starting, or gone."""

    code: ClassVar[str] = "gateway.admin-unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One endpoint as one Envoy has it."""

    cluster: str
    address: str
    port: int
    healthy: bool
    """Whether it passes the checks, whatever control said of it."""
    draining: bool
    active_requests: int
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """The clusters of one Envoy that have been warmed, and their endpoints."""

    names: frozenset[str]
    hosts: tuple[Host, ...]


class Admin:
    """A client of one Envoy's admin interface. Every call raises ``AdminUnreachableError`` when it is not there."""

    def __init__(self, socket: Path, session: aiohttp.ClientSession) -> None:
        """``session`` speaks over ``socket`` (see ``open_admin``)."""
        self._socket = socket
        self._session = session

    async def ready(self) -> bool:
        """Whether Envoy has its first configuration and takes requests."""
        try:
            return (await self._call("GET", "/ready")).strip() == "LIVE"
        except AdminUnreachableError:
            return False

    async def clusters(self) -> Clusters:
        """Return the clusters that are ready for use, and every endpoint of theirs but the hold."""
        return parse_clusters(await self._json("/clusters?format=json"))

    async def stats(self, pattern: str) -> Mapping[str, int | str]:
        """Return counters, gauges and text read-outs (versions are such) that ``pattern`` finds."""
        said = await self._json(f"/stats?format=json&filter={quote(pattern)}")
        return {each["name"]: each["value"] for each in said.get("stats", ()) if "value" in each}

    async def counts(self) -> Reading:
        """Return the requests of all clusters that have had any, since Envoy began. About as cheap as ``versions``."""
        async with self._answer("GET", STATS) as answer:
            try:
                return parse_counts(await answer.read())
            except (KeyError, TypeError, AttributeError) as error:
                raise AdminUnreachableError(f"Envoy's statistics cannot be read: {error!r}") from error

    async def versions(self) -> frozenset[str]:
        """Return the versions of all that is in force. Costs a tenth of ``stats``: it walks the text read-outs only."""
        said = await self._json("/stats?format=json&type=TextReadouts&filter=version_text$")
        return frozenset(str(each["value"]) for each in said.get("stats", ()) if "value" in each)

    async def fail_ready(self) -> None:
        """Answer 503 at ``/ready`` from now on, so that load balancers go elsewhere."""
        await self._call("POST", "/healthcheck/fail")

    async def drain(self) -> None:
        """Take no new connection, and have each connection end after its present request."""
        await self._call("POST", "/drain_listeners?graceful&skip_exit")

    async def stop_listening(self) -> None:
        """Close all listeners at once; connections live on."""
        await self._call("POST", "/drain_listeners")

    async def reopen_logs(self) -> None:
        """Open the log files anew after a rotation."""
        await self._call("POST", "/reopen_logs")

    async def _json(self, path: str) -> Any:
        async with self._answer("GET", path) as answer:
            return await answer.json(content_type=None)

    async def _call(self, method: str, path: str) -> str:
        async with self._answer(method, path) as answer:
            return await answer.text()

    @asynccontextmanager
    async def _answer(self, method: str, path: str) -> AsyncGenerator[aiohttp.ClientResponse]:
        try:
            async with self._session.request(method, f"http://envoy{path}", timeout=_TIMEOUT) as answer:
                yield answer
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise AdminUnreachableError(f"Envoy does not answer at {self._socket}: {error}") from error


@asynccontextmanager
async def open_admin(socket: Path) -> AsyncGenerator[Admin]:
    """Open a client of the admin interface at ``socket``; nothing is sent before the first call."""
    with short_path(socket) as name:
        connector = aiohttp.UnixConnector(path=name, limit=4, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Admin(socket, session)


def parse_clusters(said: Any) -> Clusters:
    """Return what an answer of ``/clusters?format=json`` says. Values that are zero are left out there."""
    names: list[str] = []
    hosts: list[Host] = []
    for cluster in said.get("cluster_statuses", ()):
        names.append(name := str(cluster["name"]))
        hosts += [
            _host(name, where, each)
            for each in cluster.get("host_statuses", ())
            if (where := each.get("address", {}).get("socket_address"))
        ]
    return Clusters(names=frozenset(names), hosts=tuple(hosts))


def _host(cluster: str, where: Any, said: Any) -> Host:
    health = said.get("health_status", {})
    failure = _failure(health)
    active = next((each.get("value", 0) for each in said.get("stats", ()) if each.get("name") == "rq_active"), 0)
    return Host(
        cluster=cluster,
        address=str(where["address"]),
        port=int(where["port_value"]),
        healthy=not failure,
        draining=health.get("eds_health_status") == "DRAINING",
        active_requests=int(active),
        failure=failure,
    )


def _failure(health: Any) -> str:
    if health.get("pending_active_hc"):
        return "its first check has not ended yet"
    if health.get("failed_active_health_check"):
        return "its check failed" + (": no answer in time" if health.get("active_hc_timeout") else "")
    if health.get("failed_outlier_check"):
        return "connections to it failed"
    return ""
