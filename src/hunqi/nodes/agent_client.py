"""Control's side of the agents, and an agent's side of the other agents: HTTP over mutual TLS.

A node is named by its id in the Swarm; where its agent is stands in the roster. A server is verified by the name in its
certificate, never by its address, so that a node may move. Every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import aiohttp

from hunqi.gateway.model import RouteTable
from hunqi.kit.codec import CodecError, decode, dumps
from hunqi.nodes.errors import AgentFailedError, AgentRefusedError, AgentUnreachableError, NoAgentError
from hunqi.nodes.identity import Role, TlsPaths, reload_context
from hunqi.nodes.model import AgentStatus, Member, Roster
from hunqi.nodes.wire import (
    PROBLEM_HEADER,
    CertificateRequests,
    DrainAnswer,
    DrainOrder,
    ExecRequest,
    GivenCertificates,
    HealthSaid,
    ImageAnswer,
    ImageList,
    PinOrder,
    RemovedVolumes,
    Report,
    RequestLines,
    RequestQuery,
    ScrapeOrder,
    TakenTable,
)
from hunqi.telemetry.wire import NodeSample

T = TypeVar("T")
CONNECT_S: Final = 2.0
ANSWER_S: Final = 15.0
WARM_S: Final = 1800.0
HELD_S: Final = 30.0
"""A deploy asks every node what it holds, so one that is stuck must not take long to be passed by."""
MEASURE_S: Final = 8.0
STALL_S: Final = 120.0
"""Longest silence in a body that streams."""
_SERVER_ERROR: Final = 500
_BAD_CERTIFICATE: Final[Mapping[int, str]] = {
    9: "its certificate is not valid yet: a clock is wrong",
    10: "its certificate has expired, or a clock is wrong: let the machine join again, hunqi node token",
}
"""By OpenSSL's ``X509_V_ERR_…``."""
_MAX_ANSWER: Final = 16 * 1024 * 1024


class Channel:
    """A duplex stream to a task: binary and text frames, both ways (see ``hunqi.nodes.wire``)."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, frame: bytes | str) -> None:
        """Send a frame; waits while the other end is slow. Raises ``ConnectionResetError`` when it is closed."""
        if isinstance(frame, str):
            await self._socket.send_str(frame)
        else:
            await self._socket.send_bytes(frame)

    async def receive(self) -> bytes | str | None:
        """Return the next frame, None once the other end has closed."""
        message = await self._socket.receive()
        if message.type in {aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT}:
            return message.data
        return None

    async def close(self) -> None:
        """Close; the other end sees it."""
        await self._socket.close()


class AgentClient:
    """Speaks to the agents of the roster. Use it inside one event loop; :meth:`close` at the end."""

    def __init__(self, context: ssl.SSLContext, roster: Callable[[], Roster]) -> None:
        """``context`` of :func:`hunqi.nodes.identity.client_context`; ``roster`` is asked at every call."""
        self._context = context
        self._roster = roster
        self._session: aiohttp.ClientSession | None = None
        self._encoded: tuple[RouteTable, bytes] | None = None

    def reload(self, paths: TlsPaths) -> None:
        """Show the certificate that lies in ``paths`` now, at new connections. Raises ``IdentityError``."""
        reload_context(self._context, paths)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Ids of the nodes that have an agent."""
        return tuple(member.node for member in self._roster().members)

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session:
            await session.close()

    async def push_table(self, node: str, table: RouteTable) -> int:
        """Give the agent a table; return the version that it works by now. Raises the errors of :meth:`status`."""
        # Once for all agents: a table of 200 apps takes 40 ms to encode.
        if self._encoded is None or self._encoded[0] is not table:
            self._encoded = table, dumps(table).encode()
        return (await self._ask(node, "PUT", "/v1/gateway/table", TakenTable, data=self._encoded[1])).version

    async def report(self, node: str, *, after: str = "", wait_s: float = 30.0) -> Report:
        """Return what the gateway has as soon as it differs from ``after`` (a ``seq``), or after ``wait_s``."""
        query = {"after": after, "wait_s": f"{wait_s:g}"}
        return await self._ask(node, "GET", "/v1/gateway/report", Report, query=query, timeout_s=wait_s + ANSWER_S)

    async def drain(self, node: str, tasks: Iterable[str], *, timeout_s: float) -> Mapping[str, int]:
        """Take tasks out of the node's gateway; return those that are still busy after ``timeout_s``, none if idle."""
        order = DrainOrder(tasks=tuple(tasks), timeout_s=timeout_s)
        answer = await self._ask(
            node, "POST", "/v1/gateway/drain", DrainAnswer, body=order, timeout_s=timeout_s + ANSWER_S
        )
        return answer.busy

    async def put_roster(self, node: str, roster: Roster) -> None:
        """Tell the agent who the others are."""
        await self._ask(node, "PUT", "/v1/roster", AgentStatus, body=roster)

    async def status(self, node: str) -> AgentStatus:
        """Return what the agent says of itself.

        Raises ``NoAgentError``, ``AgentUnreachableError``, ``AgentRefusedError`` and ``AgentFailedError``.
        """
        return await self._ask(node, "GET", "/v1/status", AgentStatus)

    async def certificate_requests(self, node: str) -> CertificateRequests:
        """Have the agent make new keys and return requests for their certificates. Raises the errors of ``status``."""
        return await self._ask(node, "GET", "/v1/certificates", CertificateRequests)

    async def put_certificates(self, node: str, given: GivenCertificates) -> AgentStatus:
        """Have the agent use new certificates from now on. Raises the errors of ``status``."""
        return await self._ask(node, "PUT", "/v1/certificates", AgentStatus, body=given)

    async def set_pins(self, node: str, pins: Mapping[str, str]) -> ImageAnswer:
        """Have the node's mirror keep these images (reference → why) and none of an earlier order."""
        order = PinOrder(pins=pins)
        return await self._ask(node, "POST", "/v1/images/pins", ImageAnswer, body=order, timeout_s=STALL_S)

    async def warm(self, node: str, images: Iterable[str]) -> ImageAnswer:
        """Have the node's mirror fetch images whole; ``done`` are those that it holds then."""
        order = ImageList(images=tuple(images))
        return await self._ask(node, "POST", "/v1/images/warm", ImageAnswer, body=order, timeout_s=WARM_S)

    async def held(self, node: str, images: Iterable[str]) -> ImageAnswer:
        """Return which of the images the node's mirror holds whole; nothing is fetched."""
        order = ImageList(images=tuple(images))
        return await self._ask(node, "POST", "/v1/images/held", ImageAnswer, body=order, timeout_s=HELD_S)

    async def prune(self, node: str, keep: Iterable[str]) -> ImageAnswer:
        """Remove from the node's engine the platform's images that are neither kept nor used; return the removed."""
        order = ImageList(images=tuple(keep))
        return await self._ask(node, "POST", "/v1/images/prune", ImageAnswer, body=order, timeout_s=STALL_S)

    async def health(self, node: str, container: str) -> str:
        """Return what the container's healthcheck wrote last, empty if it has none."""
        query = {"container": container}
        return (await self._ask(node, "GET", "/v1/health", HealthSaid, query=query)).text

    async def remove_volumes(self, node: str, app: str) -> RemovedVolumes:
        """Remove the app's volumes on the node; those that are in use are waited for, a little."""
        query = {"app": app}
        return await self._ask(node, "DELETE", "/v1/volumes", RemovedVolumes, query=query, timeout_s=STALL_S)

    async def measure(self, node: str, order: ScrapeOrder, *, timeout_s: float = MEASURE_S) -> NodeSample:
        """Return what the node has measured, with what the tasks in ``order`` count. Raises as ``status`` does."""
        return await self._ask(node, "POST", "/v1/metrics", NodeSample, body=order, timeout_s=timeout_s)

    async def requests(self, node: str, query: RequestQuery) -> RequestLines:
        """Return lines of the access log of the node's gateway. Raises as ``status`` does."""
        return await self._ask(node, "POST", "/v1/requests", RequestLines, body=query)

    @contextlib.asynccontextmanager
    async def execute(self, node: str, request: ExecRequest) -> AsyncGenerator[Channel]:
        """Run a command in a container; the channel ends with ``{"exit": code}``."""
        async with self._socket(node, "/v1/exec", {}) as channel:
            await channel.send(dumps(request))
            yield channel

    @contextlib.asynccontextmanager
    async def forward(self, node: str, container: str, port: int) -> AsyncGenerator[Channel]:
        """Connect to a TCP port of a container."""
        async with self._socket(node, "/v1/forward", {"container": container, "port": str(port)}) as channel:
            yield channel

    @contextlib.asynccontextmanager
    async def get_files(self, node: str, container: str, path: str) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Read a path of a container as tar."""
        query = {"container": container, "path": path}
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=STALL_S)
        async with self._request(node, "GET", "/v1/files", query=query, timeout=timeout) as response:
            yield response.content.iter_chunked(256 * 1024)

    async def put_files(self, node: str, container: str, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Unpack a tar stream into a directory of a container."""
        query = {"container": container, "path": path}
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=STALL_S)
        async with self._request(node, "PUT", "/v1/files", query=query, timeout=timeout, data=chunks):
            return

    async def _ask(
        self,
        node: str,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: Any = None,
        data: bytes | None = None,
        query: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> T:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        sent = dumps(body).encode() if body is not None else data
        async with self._request(node, method, path, query=query, timeout=timeout, data=sent) as response:
            try:
                return decode(kind, await response.json())
            except (CodecError, ValueError) as error:
                raise AgentFailedError(node, "agent.answer", f"its answer cannot be read: {error}") from error

    @contextlib.asynccontextmanager
    async def _request(
        self, node: str, method: str, path: str, *, query: Mapping[str, str] | None = None, **options: Any
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        member = self._member(node)
        try:
            async with self._open().request(
                method,
                f"https://{member.address}{path}",
                params=query,
                server_hostname=_server_name(member),
                allow_redirects=False,
                **options,
            ) as response:
                await _check(node, response)
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(node, error) from error

    @contextlib.asynccontextmanager
    async def _socket(self, node: str, path: str, query: Mapping[str, str]) -> AsyncGenerator[Channel]:
        member = self._member(node)
        session = self._open()
        try:
            async with asyncio.timeout(ANSWER_S):
                socket = await session.ws_connect(
                    f"https://{member.address}{path}",
                    params=query,
                    server_hostname=_server_name(member),
                    heartbeat=20.0,
                    max_msg_size=_MAX_ANSWER,
                )
        except aiohttp.WSServerHandshakeError as error:
            told = unquote((error.headers or {}).get(PROBLEM_HEADER, ""))
            code, _, message = told.partition(" ")
            raise AgentRefusedError(
                node, code or "agent.stream", message or f"the stream was refused ({error.status})"
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(node, error) from error
        try:
            yield Channel(socket)
        finally:
            await socket.close()

    def _member(self, node: str) -> Member:
        member = self._roster().of(node)
        if member is None:
            raise NoAgentError(node)
        return member

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._context, limit=0, limit_per_host=64, keepalive_timeout=60.0)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
            )
        return self._session


def _server_name(member: Member) -> str:
    return f"{member.agent}.{Role.AGENT}.hunqi"


def _unreachable(node: str, error: BaseException) -> AgentUnreachableError:
    reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    os_error = error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        if isinstance(cause, ssl.SSLCertVerificationError):
            said = f"its certificate is not taken: {cause.verify_message}"
            reason = _BAD_CERTIFICATE.get(cause.verify_code, said)
    elif isinstance(error, aiohttp.ClientConnectorError):
        os_error = error.os_error
    is_refused = isinstance(os_error, (ConnectionRefusedError, ConnectionResetError, aiohttp.ServerDisconnectedError))
    return AgentUnreachableError(node, reason, is_refused=is_refused)


async def _check(node: str, response: aiohttp.ClientResponse) -> None:
    if response.ok:
        return
    try:
        problem: Any = await response.json()
        code, message = str(problem["code"]), str(problem["message"])
    except (ValueError, KeyError, TypeError, aiohttp.ClientError):
        code, message = "agent.answer", f"answered {response.status}"
    if response.status >= _SERVER_ERROR:
        raise AgentFailedError(node, code, message)
    raise AgentRefusedError(node, code, message)
