"""Control on two managers with one PostgreSQL: what is refused, and who leads once the leader is gone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.processes import wait_for
from testbed.product import Api, ApiError, Node, kept_dead
from testbed.swarm import swarm

if TYPE_CHECKING:
    from testbed.postgres import PostgresServer

pytest_plugins = ["testbed.postgres"]
pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("control-managers")]
TAKEN_OVER_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two machines; control is on the first, and the second has joined as a worker."""

    first: Node
    second: Node
    database: Path
    other_database: Path

    @property
    def key(self) -> Path:
        return self.first.data / "control/cluster.key"

    def api(self, node: Node) -> Api:
        """The interface of one of them, for the same user."""
        return Api(host=node.machine.address, token=(self.first.data / "token").read_text())

    def refused(self, *options: str) -> str:
        """Ask the second to have control; return what it says to that."""
        command = [sys.executable, "-m", "hunqi", "up", *options, "--data", str(self.second.data)]
        done = self.second.machine.run(*command, check=False, timeout_s=60.0, env={"COLUMNS": "300"})
        assert done.returncode
        assert not (self.second.data / "control").exists()
        return done.stderr


@pytest.fixture(scope="module")
def pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair]:
    folder = tmp_path_factory.mktemp("managers")
    urls = [folder / "db.url", folder / "other.url"]
    for each in urls:
        each.write_text(postgres_server.create() + "\n")
    with swarm(2, joined=0) as bed:
        first, second = (Node(machine, env={}) for machine in bed.machines)
        try:
            api = Api(host=bed.first.address)
            api.set_up(first.up("--database-file", str(urls[0])) or "")
            (first.data / "token").write_text(api.token)
            second.join(api.call("POST", "/v1/join-tokens", {"role": "worker"})["text"])
            yield Pair(first=first, second=second, database=urls[0], other_database=urls[1])
        finally:
            for node in (first, second):
                node.hunqi("down", check=False)


# The tests of this module are a story, told in the order of the file.


def test_what_does_not_fit_is_refused_before_anything_is_written(pair: Pair, tmp_path: Path) -> None:
    database, key = ("--database-file", str(pair.database)), ("--key-file", str(pair.key))
    wrong = tmp_path / "wrong.key"
    wrong.write_text("ab" * 32)

    assert "is a worker" in pair.refused(*database, *key)
    pair.first.machine.docker("node", "promote", pair.second.machine.hostname)
    wait_for(lambda: _is_manager(pair.second), timeout_s=60.0, what="the second as a manager")
    assert "needs one PostgreSQL" in pair.refused(*key)
    assert "is not the key of this cluster" in pair.refused(*database, "--key-file", str(wrong))
    assert "knows nothing of this machine" in pair.refused("--database-file", str(pair.other_database), *key)


def test_a_machine_that_joined_is_started_again_without_control(pair: Pair) -> None:
    pair.second.hunqi("down")

    assert json.loads(pair.second.hunqi("up", "--json"))["control"] is None
    assert json.loads(pair.second.hunqi("status", "--json"))["ready"] is True


def test_a_second_control_reads_and_takes_over(pair: Pair) -> None:
    own = pair.second.machine.address
    pair.second.hunqi("up", "--control", f"{own}:7000", "--database-file", str(pair.database))
    held = pair.second.data / "control/cluster.key"
    assert held.read_text().strip() == pair.key.read_text().strip()
    assert held.stat().st_mode & 0o077 == 0

    api = pair.api(pair.second)
    wait_for(lambda: _connected(api) == 2, timeout_s=30.0, what="both machines as the follower sees them")
    problem = _change(api, pair.second, "one")
    assert (problem["code"], problem["leader"]) == ("api.not-leader", f"http://{pair.first.machine.address}:7000")
    status = api.call("GET", "/v1/status")
    assert not status["leading"]
    assert {part["state"] for part in status["parts"]} == {"up"}

    with kept_dead(pair.first, "control"):
        since = time.monotonic()
        wait_for(lambda: not _change(api, pair.second, "two"), timeout_s=TAKEN_OVER_S, what="a change at the second")
        assert time.monotonic() - since < TAKEN_OVER_S
    wait_for(lambda: _reads(pair.api(pair.first)), timeout_s=60.0, what="the first again")
    assert pair.api(pair.first).call("GET", "/v1/status")["leading"] is False


def _is_manager(node: Node) -> bool:
    said = node.machine.docker("info", "--format", "{{.Swarm.ControlAvailable}}", check=False).stdout
    return said.strip() == "true" and node.machine.docker("node", "ls", check=False).returncode == 0


def _connected(api: Api) -> int:
    return sum(each["agent"] == "connected" and each["gateway"] for each in api.call("GET", "/v1/nodes")["items"])


def _change(api: Api, node: Node, value: str) -> dict[str, Any]:
    """Change a label; return the problem, empty if there is none."""
    try:
        api.call("PATCH", f"/v1/nodes/{node.machine.hostname}", {"labels": {"test": value}})
    except ApiError as error:
        return dict(json.loads(error.body))
    return {}


def _reads(api: Api) -> bool:
    try:
        return bool(api.call("GET", "/v1/status")["leader"])
    except (OSError, ApiError):
        return False
