"""What control remembers of nodes, in the tables ``nodes`` and ``join_tokens``; secrets of tokens only as hashes."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import RowMapping, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hunqi.kit.codec import dumps, loads
from hunqi.nodes.errors import JoinTokenError, NodeNotFoundError
from hunqi.nodes.model import DrainProgress, Intent, Member, NodeRecord, Roster
from hunqi.state.database import Database
from hunqi.state.tables import JOIN_TOKENS, NODES, SETTINGS

_ROSTER_KEY: Final = "nodes.roster"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A join token without its secret. ``used_by`` is the name of the key that it was used for."""

    id: str
    role: str
    expires_at: str
    used_at: str | None
    used_by: str | None


class NodeStore:
    """The two tables. Every method raises the errors of ``hunqi.state``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def records(self) -> Mapping[str, NodeRecord]:
        """Return all, by the id of the node in the Swarm."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(NODES).order_by(NODES.c.joined_at, NODES.c.id))).mappings()
            return {record.node: record for record in map(_record, rows)}

    async def roster(self) -> Roster:
        """Return the members that have an agent, and the roster's version."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(NODES).order_by(NODES.c.id))).mappings()
            members = tuple(
                Member(node=each.node, name=each.name, address=each.address, agent=each.agent)
                for each in map(_record, rows)
                if each.address
            )
            return Roster(version=await _version(connection), members=members)

    async def put_member(self, member: Member, *, now: datetime) -> None:
        """Have a node in the roster; one that joins anew replaces its former agent."""
        async with self._database.begin() as connection:
            # A machine that left the Swarm and came back has a new id there.
            former = (NODES.c.fingerprint == member.agent) | (NODES.c.agent_address == member.address)
            await connection.execute(delete(NODES).where(NODES.c.id != member.node, former))
            values = {"name": member.name, "agent_address": member.address, "fingerprint": member.agent}
            await _upsert(connection, member.node, values, now=now)
            await _bump(connection)

    async def set_intent(
        self, node: str, name: str, intent: Intent, progress: DrainProgress | None, *, now: datetime
    ) -> None:
        """Remember what a node is meant to be and how far that is; before anything is done."""
        async with self._database.begin() as connection:
            values = {"intent": intent.value, "progress": "{}" if progress is None else dumps(progress)}
            await _upsert(connection, node, values, now=now, name=name)

    async def saw(self, node: str, *, now: datetime) -> None:
        """Remember that the node's agent answered."""
        async with self._database.begin() as connection:
            await connection.execute(update(NODES).where(NODES.c.id == node).values(seen_at=_text(now)))

    async def remove(self, node: str) -> None:
        """Forget a node. Raises ``NodeNotFoundError``."""
        async with self._database.begin() as connection:
            if not (await connection.execute(delete(NODES).where(NODES.c.id == node))).rowcount:
                raise NodeNotFoundError(node)
            await _bump(connection)

    async def add_token(self, secret: str, role: str, *, expires_at: datetime) -> str:
        """Remember a new token and return its id."""
        token = secrets.token_hex(8)
        async with self._database.begin() as connection:
            await connection.execute(
                insert(JOIN_TOKENS).values(id=token, secret_hash=_hash(secret), role=role, expires_at=_text(expires_at))
            )
        return token

    async def use_token(self, secret: str, key: str, *, now: datetime) -> TokenRecord:
        """Use a token for the key named ``key``: once, though that key may come again until the token expires.

        Raises ``JoinTokenError``.
        """
        async with self._database.begin() as connection:
            query = select(JOIN_TOKENS).where(JOIN_TOKENS.c.secret_hash == _hash(secret))
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                raise JoinTokenError("this join token is not known: make another with `hunqi node token`")
            if row["expires_at"] <= _text(now):
                raise JoinTokenError("this join token has expired: make another with `hunqi node token`")
            if row["used_by"] not in {None, key}:
                raise JoinTokenError("this join token was used by another machine: make another per machine")
            if row["used_by"] is None:
                await connection.execute(
                    update(JOIN_TOKENS).where(JOIN_TOKENS.c.id == row["id"]).values(used_at=_text(now), used_by=key)
                )
            return _token(row)

    async def find_token(self, secret: str) -> TokenRecord:
        """Return the token with this secret. Raises ``JoinTokenError``."""
        async with self._database.read() as connection:
            query = select(JOIN_TOKENS).where(JOIN_TOKENS.c.secret_hash == _hash(secret))
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise JoinTokenError("this join token is not known: make another with `hunqi node token`")
        return _token(row)

    async def tokens(self) -> tuple[TokenRecord, ...]:
        """Return all tokens, the last to expire first."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(JOIN_TOKENS).order_by(JOIN_TOKENS.c.expires_at.desc()))).mappings()
            return tuple(_token(row) for row in rows)

    async def remove_token(self, token: str) -> None:
        """Forget a token, used or not; it is worth nothing from now on."""
        async with self._database.begin() as connection:
            await connection.execute(delete(JOIN_TOKENS).where(JOIN_TOKENS.c.id == token))


def _record(row: RowMapping) -> NodeRecord:
    progress = str(row["progress"])
    return NodeRecord(
        node=row["id"],
        name=row["name"],
        address=row["agent_address"],
        agent=row["fingerprint"],
        intent=Intent(row["intent"]),
        progress=None if progress == "{}" else loads(DrainProgress, progress),
        joined_at=row["joined_at"],
        seen_at=row["seen_at"],
    )


def _token(row: RowMapping) -> TokenRecord:
    return TokenRecord(
        id=row["id"],
        role=row["role"],
        expires_at=row["expires_at"],
        used_at=row["used_at"],
        used_by=row["used_by"],
    )


async def _upsert(
    connection: AsyncConnection, node: str, values: Mapping[str, Any], *, now: datetime, name: str = ""
) -> None:
    # Writes are serial in the whole cluster, so nobody inserts between the two.
    if (await connection.execute(update(NODES).where(NODES.c.id == node).values(**values))).rowcount:
        return
    defaults = {"name": name, "agent_address": "", "fingerprint": "", "intent": Intent.ACTIVE.value, "progress": "{}"}
    row = {**defaults, **values}
    await connection.execute(insert(NODES).values(id=node, joined_at=_text(now), **row))


async def _version(connection: AsyncConnection) -> int:
    query = select(SETTINGS.c.value).where(SETTINGS.c.key == _ROSTER_KEY)
    return int((await connection.execute(query)).scalar_one_or_none() or 0)


async def _bump(connection: AsyncConnection) -> None:
    version = await _version(connection)
    if version == 0:
        await connection.execute(insert(SETTINGS).values(key=_ROSTER_KEY, value="1"))
    else:
        await connection.execute(update(SETTINGS).where(SETTINGS.c.key == _ROSTER_KEY).values(value=str(version + 1)))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _text(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds")
