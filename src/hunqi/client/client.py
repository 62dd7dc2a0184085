"""The client: one object, its methods by subject. What it returns are the interface's JSON objects, typed.

async with open_client(["http://127.0.0.1:7000"], token="hq_…") as hunqi:
    async for app in hunqi.apps.all():
        print(app["name"], app["state"])
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import aiohttp

from hunqi.client.apps import Apps, Deploys, Lifecycle
from hunqi.client.cluster import Cluster
from hunqi.client.hooks import Hooks
from hunqi.client.metrics import Metrics
from hunqi.client.people import People
from hunqi.client.requests import Requests
from hunqi.client.rollouts import Rollouts
from hunqi.client.scaling import Scaling
from hunqi.client.tasks import Tasks
from hunqi.client.transport import CONNECT_S, Transport
from hunqi.client.variables import Variables


class HunqiClient:
    """A client of one Hunqi; made by :func:`open_client`."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        """For what has no method yet."""
        self.apps = Apps(transport)
        self.deploys = Deploys(transport)
        self.lifecycle = Lifecycle(transport)
        self.tasks = Tasks(transport)
        self.scaling = Scaling(transport)
        self.variables = Variables(transport)
        self.people = People(transport)
        self.hooks = Hooks(transport)
        self.rollouts = Rollouts(transport)
        self.requests = Requests(transport)
        self.cluster = Cluster(transport)
        self.metrics = Metrics(transport)


@asynccontextmanager
async def open_client(
    urls: Sequence[str], *, token: str | None = None, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[HunqiClient]:
    """Open a client of the interface at ``urls`` (several managers of one cluster); it connects when it is used.

    Without a token only what is open to all, :meth:`People.set_up` and :meth:`People.log_in` work. The environment's
    proxies are not used.
    """
    headers = {"User-Agent": "hunqi", "Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connector = aiohttp.TCPConnector(ssl=tls) if tls is not None else aiohttp.TCPConnector()
    timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.CookieJar(unsafe=True), read_bufsize=1024 * 1024
    ) as session:
        yield HunqiClient(Transport(session, urls, headers))
