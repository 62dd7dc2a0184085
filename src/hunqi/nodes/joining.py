"""Joining, on the machine that joins: find the cluster by the token's fingerprint, get certificates, enter the Swarm.

Keys are made here and never leave. Everything is written before the step that needs it, so a joining that was
interrupted is just done again with the same token. A machine that is in another Swarm is never taken out of it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, cast

import aiohttp

from hunqi.engine.errors import EngineUnreachableError
from hunqi.engine.model import EngineInfo
from hunqi.errors import HunqiError
from hunqi.kit.codec import decode, dumps, encode
from hunqi.kit.files import write_atomic
from hunqi.nodes.authority import make_request, request_for
from hunqi.nodes.errors import JoinTokenError, NodeRefusedError
from hunqi.nodes.identity import Role, fingerprint, pinned_context
from hunqi.nodes.join import JoinAnswer, JoinRequest
from hunqi.nodes.tokens import JoinDoor, JoinToken

KNOCK_S: Final = 10.0
ANSWER_S: Final = 45.0
ENTER_S: Final = 90.0
"""Docker gives up joining after 20 s and goes on in the background."""
_STEP_S: Final = 0.5
_MAX_CA: Final = 64 * 1024
_MAX_ANSWER: Final = 8 * 1024 * 1024


class NotJoinedError(NodeRefusedError):
    """The cluster did not let this machine in, or could not be reached; the message says why."""


class System(Protocol):
    """The engine of this machine."""

    async def info(self) -> EngineInfo:
        """Return what it says of itself."""
        ...


class SwarmJoin(Protocol):
    """Its way into a Swarm."""

    async def join(self, *, managers: Sequence[str], token: str, advertise: str) -> None:
        """Join."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Joiner:
    """This machine: its engine, where agent and mirror keep their files, and how others reach it."""

    system: System
    swarm: SwarmJoin
    agent_dir: Path
    mirror_dir: Path
    """Where the mirror's certificate goes (``peer.pem``, ``peer.key``, ``cluster-ca.pem``)."""
    host: str
    agent_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The machine is a member: its id in the Swarm, and what the cluster told it."""

    node: str
    answer: JoinAnswer


async def join_cluster(text: str, joiner: Joiner) -> Joined:
    """Join by the token ``text``.

    Raises ``JoinTokenError``, ``NotJoinedError`` (its message says what to do) and the engine's errors.
    """
    token = JoinToken.parse(text)
    before = await joiner.system.info()
    agent_request = await asyncio.to_thread(_request_of, joiner.agent_dir / "agent.key")
    mirror_request = await asyncio.to_thread(_request_of, joiner.mirror_dir / "peer.key")
    request = JoinRequest(
        secret=token.secret,
        name=before.name,
        host=joiner.host,
        agent_port=joiner.agent_port,
        agent_request=agent_request,
        mirror_request=mirror_request,
    )
    answer = await _ask(token, request)
    await _enter(joiner, answer)
    node = await _node_id(joiner)
    answer = await _ask(token, replace(request, node=node))
    await asyncio.to_thread(_write, joiner, answer)
    return Joined(node=node, answer=answer)


async def fetch_authority(token: JoinToken, door: JoinDoor) -> str:
    """Return the authority's certificate if it is the one that the token names. Raises ``NotJoinedError``."""
    # Whom we speak to is not known yet; what comes back is compared with the token's fingerprint.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    said = await _call("GET", door, "/v1/ca", context, limit=_MAX_CA)
    ca = str(cast("dict[str, Any]", said).get("ca", "")) if isinstance(said, dict) else ""
    if not ca or fingerprint(ca) != token.ca_fingerprint:
        raise NotJoinedError(f"{door.address} is not of the cluster that made the token: make another token there")
    return ca


async def _ask(token: JoinToken, request: JoinRequest) -> JoinAnswer:
    problems: list[str] = []
    for door in token.doors:
        try:
            ca = await fetch_authority(token, door)
            said = await _call("POST", door, "/v1/join", pinned_context(ca), body=encode(request), limit=_MAX_ANSWER)
            answer = decode(JoinAnswer, said)
        except NotJoinedError as error:
            problems.append(f"{door.address}: {error}")
            continue
        if fingerprint(answer.ca) != token.ca_fingerprint:
            raise NotJoinedError(f"{door.address} answered for another cluster")
        return answer
    raise NotJoinedError("; ".join(problems))


async def _call(
    method: str, door: JoinDoor, path: str, context: ssl.SSLContext, *, body: Any = None, limit: int
) -> Any:
    timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=KNOCK_S)
    # The name is checked where the context checks names: only this agent's certificate has it.
    name = f"{door.agent}.{Role.AGENT}.hunqi"
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), timeout=timeout) as session,
            session.request(
                method, f"https://{door.address}{path}", json=body, server_hostname=name, allow_redirects=False
            ) as response,
        ):
            said: Any = json.loads(await _read(response, limit))
            if not response.ok:
                raise _refusal(said, response.status)
            return said
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        raise NotJoinedError(f"cannot be reached ({reason}): is its agent's port open for this machine?") from error


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > limit:
            raise ValueError("its answer is too long")
    return bytes(data)


def _refusal(said: Any, status: int) -> HunqiError:
    problem = cast("dict[str, Any]", said) if isinstance(said, dict) else {}
    text = str(problem.get("detail") or problem.get("message") or problem.get("title") or "")
    code = str(problem.get("code") or "")
    if code == JoinTokenError.code:
        return JoinTokenError(text)
    return NotJoinedError(text or f"answered {status}")


async def _enter(joiner: Joiner, answer: JoinAnswer) -> None:
    state = (await joiner.system.info()).swarm
    if state.active:
        return  # the cluster says at the second call whether it is the right one
    if state.state not in {"inactive", "pending"}:
        raise NotJoinedError(f"this machine's Swarm is {state.state} ({state.error}): see `docker info`")
    if state.state == "inactive":
        try:
            await joiner.swarm.join(managers=answer.managers, token=answer.swarm_token, advertise=joiner.host)
        except EngineUnreachableError:
            return  # it goes on in the background; how that ends is looked at next


async def _node_id(joiner: Joiner) -> str:
    error = ""
    for _ in range(int(ENTER_S / _STEP_S)):
        state = (await joiner.system.info()).swarm
        if state.active and state.node_id:
            return state.node_id
        error = state.error
        await asyncio.sleep(_STEP_S)
    raise NotJoinedError(
        f"this machine did not enter the Swarm ({error or 'no answer'}): open 2377/tcp, 7946/tcp+udp and 4789/udp"
    )


def _request_of(key_file: Path) -> str:
    key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return request_for(key_file.read_text("ascii"))
    except FileNotFoundError:
        key, request = make_request()
        write_atomic(key_file, key.encode(), mode=0o600)
        return request


def _write(joiner: Joiner, answer: JoinAnswer) -> None:
    for path, text in (
        (joiner.agent_dir / "cluster-ca.pem", answer.ca),
        (joiner.agent_dir / "agent.pem", answer.agent_certificate),
        (joiner.mirror_dir / "cluster-ca.pem", answer.ca),
        (joiner.mirror_dir / "peer.pem", answer.mirror_certificate),
        (joiner.agent_dir / "roster.json", dumps(answer.roster)),
    ):
        write_atomic(path, text.encode(), mode=0o600)
