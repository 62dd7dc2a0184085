"""A Docker that does not answer is said, and that it answers again."""

from __future__ import annotations

import asyncio

from hunqi.agent.engine import EngineWatch
from hunqi.engine.errors import EngineUnreachableError


class Listed:
    """Lists nothing, late or never."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.is_stuck = False

    async def list(self) -> list[object]:
        if self.error:
            raise self.error
        if self.is_stuck:
            await asyncio.Event().wait()
        return []


async def test_a_daemon_that_is_stuck_in_one_thing_is_said_until_it_answers() -> None:
    containers, networks = Listed(), Listed()
    watch = EngineWatch(containers, networks, patience_s=0.05)
    await watch.look()
    assert watch.problem == ""
    networks.is_stuck = True
    await watch.look()
    assert "has not answered" in watch.problem
    assert "restart it" in watch.problem
    networks.is_stuck = False
    await watch.look()
    assert watch.problem == ""
    containers.error = EngineUnreachableError("Docker is away")
    await watch.look()
    assert watch.problem == "Docker is away"
