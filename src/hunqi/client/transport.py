"""Requests to the interface: over the addresses that it has, with problems as errors, streams that are pulled.

Changes by POST carry an Idempotency-Key of their own, so that they may be sent again when the connection broke. An
address that does not answer, or that says it does not lead, is followed by the next.
"""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import quote

import aiohttp

from hunqi.client.errors import RefusedError, UnavailableError, UnreachableError

Query = Mapping[str, str | int | bool | Sequence[str] | None]
CONNECT_S: Final = 5.0
ANSWER_S: Final = 60.0
SILENCE_S: Final = 60.0
"""Longest silence of a stream that has heartbeats."""
_ROUNDS: Final = 3
_PAUSE_S: Final = 0.5
_JSON: Final = {"Content-Type": "application/json"}
_MAX_LINE: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEvent:
    """A server-sent event; ``data`` is its JSON."""

    kind: str
    data: Any
    id: str = ""


class Transport:
    """The connections of one client; made by ``HunqiClient``."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], headers: Mapping[str, str]) -> None:
        self._session = session
        self._urls = [url.rstrip("/") for url in urls]
        self._headers = dict(headers)

    async def ask(self, method: str, path: str, *, query: Query | None = None, body: Any = None) -> Any:
        """Return the answer's JSON, None for an empty one.

        Raises ``RefusedError`` (4xx), ``UnavailableError`` (5xx) and ``UnreachableError``.
        """
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
        error: UnreachableError | UnavailableError = UnreachableError("there is no address to ask")
        for round_ in range(_ROUNDS):
            if round_:
                await asyncio.sleep(_PAUSE_S * 2**round_)
            for _ in range(len(self._urls)):
                try:
                    async with self.open(method, path, query=query, body=body, headers=headers) as response:
                        return await _json(response)
                except UnreachableError as found:
                    error = found
                except UnavailableError as found:
                    if found.problem_code != "api.not-leader":
                        raise
                    error = found
                    if self._prefer(found.problem.get("leader")):
                        continue
                self._urls.append(self._urls.pop(0))
        raise error

    def _prefer(self, leader: object) -> bool:
        """Have the leader that an answer names asked next, if it may see the token: whether it may.

        It may if it is one of our own addresses, or if TLS vouches for both it and the one that named it.
        """
        if not isinstance(leader, str) or leader.rstrip("/") == self._urls[0]:
            return False
        url = leader.rstrip("/")
        if url in self._urls:
            self._urls.remove(url)
        elif not (url.startswith("https://") and self._urls[0].startswith("https://")):
            return False
        self._urls.insert(0, url)
        return True

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        data: AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        silence_s: float | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Give an answer whose body is still to be read; ``silence_s`` allows a stream (None: 60 s in all).

        Raises what :meth:`ask` raises, also while the block reads.
        """
        timeout = (
            aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
            if silence_s is None
            else aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=silence_s or None)
        )
        try:
            async with self._session.request(
                method,
                self._urls[0] + path,
                params=_params(query),
                data=data if body is None else io.BytesIO(json.dumps(body).encode()),
                headers={**self._headers, **({} if body is None else _JSON), **(headers or {})},
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                if response.status >= 400:
                    raise _error(response.status, await _problem(response))
                yield response
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            if type(error) is BrokenPipeError:  # of what the block writes to: aiohttp's own is one of its errors
                raise
            raise UnreachableError(f"{self._urls[0]} does not answer ({_reason(error)})") from error

    @asynccontextmanager
    async def lines(self, path: str, *, query: Query | None = None) -> AsyncGenerator[AsyncIterator[Any]]:
        """Open a stream of JSON lines; it may be silent for ever."""
        async with self.open("GET", path, query=query, silence_s=0) as response:
            yield _lines(response.content)

    @asynccontextmanager
    async def events(
        self, path: str, *, query: Query | None = None, last_id: str = ""
    ) -> AsyncGenerator[AsyncIterator[ServerEvent]]:
        """Open a stream of server-sent events, to go on after the one with ``last_id``."""
        headers = {"Last-Event-ID": last_id} if last_id else {}
        async with self.open("GET", path, query=query, headers=headers, silence_s=SILENCE_S) as response:
            yield _events(response.content)

    @asynccontextmanager
    async def socket(self, path: str, *, query: Query | None = None) -> AsyncGenerator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket. Raises what :meth:`ask` raises."""
        try:
            async with self._session.ws_connect(
                self._urls[0] + path, params=_params(query), headers=self._headers, max_msg_size=_MAX_LINE
            ) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            # aiohttp drops the body of the refusal: ask for it the plain way.
            raise await self._refusal(path, query, error.status) from error
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            if type(error) is BrokenPipeError:  # of what the block writes to: aiohttp's own is one of its errors
                raise
            raise UnreachableError(f"{self._urls[0]} does not answer ({_reason(error)})") from error

    async def _refusal(self, path: str, query: Query | None, status: int) -> RefusedError | UnavailableError:
        app = path.removeprefix("/v1/apps/").partition("/")[0]
        try:
            await self.ask("GET", f"/v1/apps/{app}")
        except (RefusedError, UnavailableError) as error:
            return error
        except UnreachableError:
            pass
        return _error(
            status, {"detail": f"the interface refused the connection ({status})", "query": dict(query or {})}
        )


def path_of(*parts: str | int) -> str:
    """Return ``/v1/…`` with each part quoted, so that none can leave its place."""
    quoted = [quote(str(part), safe="") for part in parts]
    if any(part in {"", ".", ".."} for part in quoted):
        raise RefusedError(404, {"code": "api.no-such-path", "detail": "a name is empty, or one of . and .."})
    return "/v1/" + "/".join(quoted)


def _reason(error: BaseException) -> str:
    """Return why nothing answered, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        return (error.os_error.strerror or str(error.os_error)).lower()
    return str(error) or type(error).__name__


def _error(status: int, problem: Mapping[str, Any]) -> RefusedError | UnavailableError:
    return RefusedError(status, problem) if status < 500 else UnavailableError(status, problem)


async def _json(response: aiohttp.ClientResponse) -> Any:
    text = await response.read()
    try:
        return json.loads(text) if text else None
    except ValueError as error:
        raise UnreachableError("the answer is no JSON: is this address Hunqi's?") from error


async def _problem(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    try:
        data: Any = json.loads(await response.content.read(_MAX_LINE))
    except ValueError:
        data = None
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {"detail": f"the answer was {response.status}"}


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[Any]:
    pending = bytearray()
    async for chunk in content.iter_any():
        pending += chunk
        *whole, rest = pending.split(b"\n")
        pending = bytearray(rest)
        if len(pending) > _MAX_LINE:
            raise UnreachableError("the stream has a line that is too long")
        for each in whole:
            if each:
                yield json.loads(each)


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[ServerEvent]:
    """Read the stream as the HTML standard says (section 9.2.6), as far as ours has it."""
    fields = dict[str, str]()
    async for line in content:
        text = line.decode(errors="replace").rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            data = json.loads(fields["data"])
            yield ServerEvent(kind=fields.get("event", "message"), data=data, id=fields.get("id", ""))
            fields = {}


def _params(query: Query | None) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in (query or {}).items():
        if value is None:
            continue
        if isinstance(value, (str, int)):
            found.append((key, str(value).lower() if isinstance(value, bool) else str(value)))
        else:
            found += [(key, each) for each in value]
    return found
