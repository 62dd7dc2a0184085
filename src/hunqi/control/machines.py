"""Machines of the cluster for the API: what they are, their draining, and the joining of new ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from hunqi.api.ports import JoinTokenView, NodeChange, NodeView
from hunqi.apps.operations import Change
from hunqi.engine.client import Docker
from hunqi.engine.model import Node, Snapshot
from hunqi.engine.observer import Observer
from hunqi.nodes.controller import NodeController
from hunqi.nodes.errors import JoinTokenError, NodeNotFoundError
from hunqi.nodes.join import JoinAnswer, JoinRequest, Joins
from hunqi.nodes.listing import NodesView, describe
from hunqi.nodes.roster import Rosters
from hunqi.nodes.store import NodeStore
from hunqi.nodes.tokens import JoinDoor

Tell = Callable[[str, str, Change], Awaitable[None]]
"""Writes an event: its kind, the node, by whom and why."""


class Machines:
    """The nodes."""

    def __init__(
        self,
        docker: Docker,
        observer: Observer,
        controller: NodeController,
        rosters: Rosters,
        store: NodeStore,
        *,
        tell: Tell,
    ) -> None:
        self._docker = docker
        self._observer = observer
        self._controller = controller
        self._rosters = rosters
        self._store = store
        self._tell = tell

    async def nodes(self) -> Sequence[NodeView]:
        """Return all, by name."""
        snapshot = self._observer.snapshot or await self._observer.refresh()
        found = describe(
            snapshot,
            await self._store.records(),
            status=self._rosters.status,
            sentence=self._controller.sentence,
            skew_s=self._rosters.skew_s,
            problem=self._rosters.problem,
            now=datetime.now(UTC).timestamp(),
        )
        return sorted(_shown(found), key=lambda each: (each.name, each.id))

    async def find(self, node: str) -> NodeView:
        """Return one by id or name. Raises ``NodeNotFoundError``."""
        for each in await self.nodes():
            if node in {each.id, each.name}:
                return each
        raise NodeNotFoundError(node)

    async def change(self, node: str, wanted: NodeChange, change: Change) -> NodeView:
        """Change role or labels. Raises ``NodeNotFoundError`` and the engine's errors."""
        found = _find(await self._observer.refresh(), node)
        labels = {**found.labels}
        for name, value in wanted.labels.items():
            if value is None:
                labels.pop(name, None)
            else:
                labels[name] = value
        await self._docker.nodes.update(found, role=wanted.role, labels=labels)
        await self._tell("node.changed", found.hostname, change)
        await self._observer.refresh()
        return await self.find(found.id)

    async def drain(self, node: str, change: Change) -> NodeView:
        """Begin to empty it."""
        record = await self._controller.drain(node)
        await self._tell("node.drain-asked", record.name, change)
        return await self.find(record.node)

    async def activate(self, node: str, change: Change) -> NodeView:
        """Let tasks be placed there again."""
        record = await self._controller.activate(node)
        await self._tell("node.activated", record.name, change)
        return await self.find(record.node)

    async def remove(self, node: str, change: Change, *, force: bool) -> None:
        """Remove it."""
        record = await self._controller.remove(node, force=force)
        await self._tell("node.remove-asked", record.name, change)


class Doors:
    """New machines: tokens and joins."""

    def __init__(
        self,
        joins: Joins,
        rosters: Rosters,
        store: NodeStore,
        *,
        manager_ids: Callable[[], frozenset[str]],
        is_open: bool,
        tell: Tell,
    ) -> None:
        self._joins = joins
        self._rosters = rosters
        self._store = store
        self._manager_ids = manager_ids
        self._is_open = is_open
        self._tell = tell

    async def new_token(self, role: str, *, valid_s: float, change: Change) -> JoinTokenView:
        """Make a token, good for one machine. Raises ``NodeRefusedError``."""
        valid = timedelta(seconds=valid_s)
        made = await self._joins.issue(role, doors=self._doors(), valid=valid)
        await self._tell("node.token-made", role, change)
        kept = await self._store.find_token(made.secret)
        return JoinTokenView(id=kept.id, role=role, expires_at=datetime.fromisoformat(kept.expires_at), text=str(made))

    async def tokens(self) -> Sequence[JoinTokenView]:
        """Return those that are good still."""
        return [
            JoinTokenView(id=each.id, role=each.role, expires_at=datetime.fromisoformat(each.expires_at))
            for each in await self._store.tokens()
            if each.used_at is None and datetime.fromisoformat(each.expires_at) > datetime.now(UTC)
        ]

    async def revoke(self, token: str, change: Change) -> None:
        """Make one useless. Raises ``JoinTokenError``."""
        if token not in {each.id for each in await self._store.tokens()}:
            raise JoinTokenError(f"there is no join token {token[:40]!r}: hunqi node token ls lists those there are")
        await self._store.remove_token(token)
        await self._tell("node.token-revoked", token, change)

    async def answer(self, request: JoinRequest) -> JoinAnswer:
        """Answer a machine that joins."""
        answer = await self._joins.answer(request)
        if request.node:
            await self._tell("node.joined", request.name, Change(actor=f"node {request.name}"))
            self._rosters.wake()
        return answer

    def _doors(self) -> tuple[JoinDoor, ...]:
        """Return the agents that let joins through: those of managers, if other machines can reach them at all."""
        if not self._is_open:
            return ()
        managers = self._manager_ids()
        return tuple(
            JoinDoor(agent=each.agent, address=each.address)
            for each in self._rosters.current().members
            if each.node in managers
        )


def _find(snapshot: Snapshot, name: str) -> Node:
    for each in snapshot.nodes.values():
        if name in {each.id, each.hostname}:
            return each
    raise NodeNotFoundError(name)


def _shown(found: NodesView) -> list[NodeView]:
    agents = {"up": "connected", "silent": "unreachable", "none": "missing"}
    shown: list[NodeView] = []
    for each in found.nodes:
        tasks: dict[str, int] = {}
        for service, count in each.services.items():
            app = service.partition("/")[0]
            tasks[app] = tasks.get(app, 0) + count
        shown.append(
            NodeView(
                id=each.id,
                name=each.name,
                role=each.role,
                state=each.state,
                availability=each.availability,
                intent=each.intent,
                sentence=each.sentence or "; ".join(each.warnings),
                address=each.address,
                leader=each.is_leader,
                agent=agents[each.agent],
                gateway=each.gateway,
                labels=each.labels,
                cpus=each.cpus,
                memory_bytes=each.memory_bytes,
                reserved_cpus=each.reserved_cpus,
                reserved_memory_bytes=each.reserved_memory_bytes,
                tasks=tasks,
                engine_version=each.engine_version,
                platform=each.platform,
            )
        )
    return shown
