"""Secrets and configs of the fake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hunqi.engine.errors import ConflictError, EngineRefusedError, InUseError, NotFoundError
from hunqi.engine.fake.streams import Reach
from hunqi.engine.fake.world import World
from hunqi.engine.model import Payload
from hunqi.engine.parse import part

_MOST_BYTES = {"secret": 500 * 1024, "config": 1000 * 1024}


class FakePayloads:
    """See :class:`~hunqi.engine.payloads.Payloads`."""

    def __init__(self, world: World, reach: Reach, kind: str) -> None:
        self._world = world
        self._reach = reach
        self._kind = kind
        self._held: dict[str, Payload] = {}

    async def list(self, labels: Mapping[str, str] | None = None) -> list[Payload]:
        """Return secrets or configs."""
        self._reach()
        wanted = dict(labels or {})
        return [
            self._shown(payload)
            for payload in self._held.values()
            if all(key in payload.labels and (not v or payload.labels[key] == v) for key, v in wanted.items())
        ]

    async def inspect(self, payload: str) -> Payload:
        """Return one."""
        self._reach()
        return self._shown(self._find(payload))

    async def create(
        self, name: str, data: bytes, *, labels: Mapping[str, str] | None = None, template: str = ""
    ) -> str:
        """Create one."""
        self._reach()
        if not name or len(data) > _MOST_BYTES[self._kind] or not data:
            raise EngineRefusedError(f"{self._kind} {name!r}: no name, no data, or more than can be kept")
        if any(payload.name == name for payload in self._held.values()):
            raise ConflictError(f"{self._kind} {name} already exists")
        id_ = self._world.new_id()
        self._held[id_] = Payload(
            id=id_,
            version=self._world.bump(),
            name=name,
            labels=dict(labels or {}),
            data=bytes(data),
            template=template,
        )
        self._world.tell(self._kind, "create", id_, name)
        return id_

    async def remove(self, payload: str) -> None:
        """Remove one."""
        self._reach()
        found = self._find(payload)
        for service in self._world.services.values():
            container = part(service["Spec"]["TaskTemplate"], "ContainerSpec")
            kind = self._kind.capitalize()
            if any(each[f"{kind}ID"] == found.id for each in container.get(f"{kind}s") or ()):
                raise InUseError(f"{self._kind} '{found.name}' is in use by: {service['Spec']['Name']}")
        del self._held[found.id]
        self._world.tell(self._kind, "remove", found.id, found.name)

    def has(self, payload_id: str) -> bool:
        """Whether there is one of this id."""
        return payload_id in self._held

    def _find(self, payload: str) -> Payload:
        for held in self._held.values():
            if payload in {held.id, held.name}:
                return held
        raise NotFoundError(f"{self._kind} {payload} not found")

    def _shown(self, payload: Payload) -> Payload:
        data = None if self._kind == "secret" else payload.data
        return replace(payload, labels=dict(payload.labels), data=data)
