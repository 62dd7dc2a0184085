"""Two control processes on one PostgreSQL: one leads, the other answers reads, and leads once the first is gone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import support_control
from hunqi.identity.directory import open_directory
from hunqi.state.database import open_database
from testbed.processes import wait_for
from testbed.product import Api, ApiError
from testbed.programs import free_port

if TYPE_CHECKING:
    from testbed.postgres import PostgresServer

pytest_plugins = ["testbed.postgres"]
pytestmark = pytest.mark.xdist_group("control-takeover")
TAKEN_OVER_S = 15.0


@dataclass
class Control:
    """One of the processes."""

    directory: Path
    node: str
    database: str
    api: Api = field(default_factory=lambda: Api(host="127.0.0.1", port=free_port()))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = support_control.start(self.directory, self.node, self.api.port, self.database)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number is signal.SIGKILL:
            self.process.wait(10.0)

    def is_ready(self) -> bool:
        try:
            self.api.call("GET", "/ready")
        except (OSError, ApiError):
            return False
        return True

    def leads(self) -> bool:
        try:
            return bool(self.api.call("GET", "/v1/status")["leading"])
        except (OSError, ApiError):
            return False

    def drain(self, node: str) -> str:
        """Change something; return the refusal, empty if there is none."""
        try:
            self.api.call("POST", f"/v1/nodes/{node}/drain", {"reason": "a test"})
        except ApiError as error:
            return error.body
        return ""


@pytest.fixture
def controls(postgres_server: PostgresServer, tmp_path: Path) -> Generator[tuple[Control, Control]]:
    """The leader and another, with a user logged in at both."""
    database = postgres_server.create()
    one, two, _ = support_control.node_ids()
    first = Control(support_control.found(tmp_path / "one", one), one, database)
    second = Control(support_control.found(tmp_path / "two", two, of=first.directory), two, database)
    try:
        first.start()
        wait_for(first.is_ready, timeout_s=30.0, what="the first control")
        first.api.set_up(asyncio.run(_setup_token(database)))
        second.api.token = first.api.token
        wait_for(first.leads, timeout_s=10.0, what="the first to lead")
        second.start()
        wait_for(second.is_ready, timeout_s=30.0, what="the second control")
        yield first, second
    finally:
        for each in (first, second):
            if each.process is not None:
                each.process.kill()
                each.process.wait(10.0)


async def _setup_token(url: str) -> str:
    async with open_database(url) as database:
        return str(await open_directory(database).setup.new_token())


def test_another_takes_over_when_the_leader_is_killed(controls: tuple[Control, Control]) -> None:
    first, second = controls

    assert not second.leads()
    refused = second.drain("node3")
    assert '"api.not-leader"' in refused
    assert "listens on loopback only" in refused
    assert {each["name"] for each in second.api.call("GET", "/v1/nodes")["items"]} == {"node1", "node2", "node3"}
    assert first.drain("node3") == ""
    assert second.api.call("GET", "/v1/nodes/node3")["intent"] == "drain"

    first.send(signal.SIGKILL)
    since = time.monotonic()
    wait_for(lambda: second.drain("node2") == "", timeout_s=TAKEN_OVER_S, what="a change at the other")
    assert time.monotonic() - since < TAKEN_OVER_S
    assert second.leads()
    assert second.is_ready()

    first.start()
    wait_for(first.is_ready, timeout_s=30.0, what="the first again")
    assert not first.leads()
    assert first.api.call("GET", "/v1/nodes/node2")["intent"] == "drain"


def test_a_leader_that_slept_ends_once_another_leads(controls: tuple[Control, Control]) -> None:
    first, second = controls

    first.send(signal.SIGSTOP)
    wait_for(lambda: second.drain("node3") == "", timeout_s=TAKEN_OVER_S, what="a change at the other")
    first.send(signal.SIGCONT)

    with contextlib.suppress(OSError):  # it may be gone already
        assert "api.not-leader" in first.drain("node2")
    assert first.process is not None
    assert first.process.wait(15.0) == 0
    assert second.leads()
    assert second.api.call("GET", "/v1/nodes/node2")["intent"] == "active"
