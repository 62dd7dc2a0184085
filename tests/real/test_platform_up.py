"""``hunqi up`` and its kin on a machine with a Docker of its own: from nothing to ready, and every way back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hunqi.apps.recovery import PAUSE_S
from hunqi.gateway.lightening import mapped_bytes
from testbed.machine import Machine
from testbed.processes import command_line, is_alive, wait_for
from testbed.programs import Daemon
from testbed.swarm import swarm

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("platform-up")]
HUNQI = (sys.executable, "-m", "hunqi")
UP_S = 150.0


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine, and where its platform keeps everything."""

    machine: Machine
    data: Path

    def run(self, *arguments: str, check: bool = True, timeout_s: float = UP_S) -> str:
        """Run ``hunqi ARGUMENTS`` on this data directory; return all that it says."""
        command = [*HUNQI, *arguments, "--data", str(self.data)]
        done = self.machine.run(*command, timeout_s=timeout_s, check=check, env={"COLUMNS": "200"})
        return done.stdout + done.stderr

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run a command and return its JSON, whatever its exit code."""
        done = self.machine.run(*HUNQI, *arguments, "--data", str(self.data), "--json", timeout_s=UP_S, check=False)
        return json.loads(done.stdout)

    def part(self, name: str) -> dict[str, Any]:
        """Return what ``hunqi status`` says of a process."""
        return next(part for part in self.json("status")["parts"] if part["name"] == name)

    def swarm_id(self) -> str:
        """Return the id of the Swarm, empty if there is none."""
        return self.machine.docker(
            "info", "--format", "{{if .Swarm.Cluster}}{{.Swarm.Cluster.ID}}{{end}}"
        ).stdout.strip()

    def gateways(self) -> set[str]:
        """Return the ids of the running containers of the gateway."""
        return set(self.machine.docker("ps", "-q", "--filter", "name=hunqi-gateway").stdout.split())


@pytest.fixture(scope="module")
def host() -> Generator[Host]:
    with swarm(1, joined=0) as bed:
        yield Host(machine=bed.first, data=bed.first.directory / "hunqi")


def _up(host: Host) -> str:
    return host.run("up", "--docker", str(host.machine.socket))


# The tests of this module are a story, told in the order of the file.


def test_a_port_that_is_taken_is_named_and_nothing_is_begun(host: Host, tmp_path: Path) -> None:
    code = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 7000)); print('on', flush=True); time.sleep(600)"
    )
    squatter: Daemon = host.machine.start([sys.executable, "-c", code], log=tmp_path / "squatter.log")
    try:
        squatter.wait_until(lambda: "on" in squatter.tail(), timeout_s=20.0)

        said = host.run("up", "--docker", str(host.machine.socket), check=False)
    finally:
        squatter.kill()

    assert "127.0.0.1:7000 (control) is taken by" in said
    assert "--control ADDRESS" in said
    assert host.swarm_id() == ""
    assert host.json("doctor")["findings"]


def test_up_makes_a_swarm_and_ends_with_everything_ready(host: Host) -> None:
    said = _up(host)

    assert "made a Swarm of this one machine" in said
    assert "http://127.0.0.1:7000" in said
    assert len(re.findall(r"hqs_\S+", said)) == 1
    assert host.json("status")["ready"] is True
    assert host.swarm_id() != ""
    assert json.loads((host.data / "platform.json").read_text())["docker_socket"] == str(host.machine.socket)
    secrets = [path for path in host.data.rglob("*") if path.suffix in {".key", ".sealed"}]
    assert len(secrets) >= 4
    assert [path for path in (host.data, *secrets) if path.stat().st_mode & 0o077] == []


def test_a_second_up_changes_nothing_and_says_what_runs(host: Host) -> None:
    before = host.json("status")

    said = _up(host)

    assert "runs already" in said
    assert "hqs_" not in said
    assert host.json("status")["pid"] == before["pid"]
    assert re.search(r"hqs_\S+", host.run("up", "--new-setup-token"))


def test_up_with_other_settings_starts_the_processes_anew_and_refuses_what_cannot_be(host: Host) -> None:
    before, gateways = host.json("status"), host.gateways()

    refused = host.run("up", "--control", f"{host.machine.address}:80", "--docker", "/elsewhere.sock", check=False)
    assert "--docker cannot change while Hunqi runs" in refused
    assert host.json("status")["parts"] == before["parts"]

    said = host.run("up", "--advertise", host.machine.address)

    after = host.json("status")
    assert "start anew" in said
    assert after["ready"]
    assert after["pid"] == before["pid"]
    assert f"{host.machine.address}:7001" in host.part("agent")["text"]
    assert json.loads((host.data / "platform.json").read_text())["advertise"] == host.machine.address
    assert gateways <= host.gateways()


def test_the_doctor_takes_our_own_ports_for_ours(host: Host) -> None:
    findings = {finding["name"]: finding for finding in host.json("doctor")["findings"]}

    assert findings["ports"]["level"] == "ok"
    assert findings["docker"]["level"] == "ok"
    assert findings["swarm"]["level"] == "ok"


@pytest.mark.parametrize("name", ["control", "agent", "mirror"])
def test_a_process_that_is_killed_comes_back(host: Host, name: str) -> None:
    before = host.part(name)

    os.kill(before["pid"], signal.SIGKILL)

    wait_for(
        lambda: (now := host.part(name))["ready"] and now["pid"] != before["pid"], timeout_s=90.0, what=f"{name} again"
    )
    assert host.part(name)["last_end"]


def test_the_gateway_keeps_of_its_file_what_it_uses(host: Host) -> None:
    wait_for(lambda: len(host.gateways()) >= 2, timeout_s=60.0, what="the gateway")
    pids = [int(host.machine.docker("inspect", "--format", "{{.State.Pid}}", each).stdout) for each in host.gateways()]
    envoy = next(pid for pid in pids if "envoy" in command_line(pid))

    wait_for(lambda: mapped_bytes(envoy) < 24 * 1024 * 1024, timeout_s=60.0, what="a lighter Envoy")

    assert host.gateways()
    assert is_alive(envoy)


def test_down_stops_our_own_processes_and_the_gateway_serves_on(host: Host) -> None:
    pids = [part["pid"] for part in host.json("status")["parts"]]
    wait_for(lambda: len(host.gateways()) >= 2, timeout_s=60.0, what="the gateway")
    gateways, cluster = host.gateways(), host.swarm_id()

    said = host.run("down")

    assert "go on serving" in said
    assert [pid for pid in pids if is_alive(pid)] == []
    assert host.gateways() == gateways
    assert host.json("status")["running"] is False
    assert "nothing of Hunqi runs" in host.run("down", check=False)

    said = _up(host)
    assert "uses the Swarm that is here" in said
    assert host.swarm_id() == cluster
    assert host.gateways() == gateways


def test_a_supervisor_that_is_killed_takes_its_processes_along_and_the_next_one_waits(host: Host) -> None:
    status = host.json("status")
    orphans = [part["pid"] for part in status["parts"]]

    os.kill(status["pid"], signal.SIGKILL)
    said = _up(host)

    assert "Hunqi runs." in said
    assert [pid for pid in orphans if is_alive(pid)] == []


def test_an_upgrade_copies_the_database_and_restarts_in_the_same_process(host: Host) -> None:
    before = host.json("status")
    _set(host, "of-before", "1")

    said = host.json("upgrade")

    after = host.json("status")
    assert Path(said["snapshot"]).stat().st_size > 0
    assert after["pid"] == before["pid"]
    assert {part["pid"] for part in after["parts"]}.isdisjoint(part["pid"] for part in before["parts"])

    _set(host, "of-before", "2")
    _set(host, "of-after", "1")
    assert Path(host.json("upgrade", "--revert", "--yes")["snapshot"]) == Path(said["snapshot"])
    assert host.json("status")["ready"] is True
    assert _settings(host, "of-") == {"of-before": "1"}


def _set(host: Host, key: str, value: str) -> None:
    with contextlib.closing(sqlite3.connect(host.data / "control/control.db", timeout=10.0)) as database, database:
        database.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))


def _settings(host: Host, prefix: str) -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(host.data / "control/control.db", timeout=10.0)) as database:
        return dict(database.execute("SELECT key, value FROM settings WHERE key LIKE ?", (prefix + "%",)))


def test_control_is_rebuilt_from_the_swarm_with_its_key_or_the_one_that_was_kept(host: Host, tmp_path: Path) -> None:
    environment = {
        "HUNQI_CONTEXTS": str(tmp_path / "contexts.json"),
        "HUNQI_PASSWORD": "tea with 9 lemons",
        "HUNQI_SETUP_TOKEN": str(re.search(r"hqs_\S+", host.run("up", "--new-setup-token"))[0]),  # type: ignore[index]
    }
    before = _configs(host)
    host.machine.run(*HUNQI, "login", "--setup", "--name", "ann", env=environment)
    wait_for(lambda: _configs(host) != before and _is_mirrored(host), timeout_s=60.0, what="a mirror")
    host.run("down")
    key = tmp_path / "cluster.key"
    shutil.move(host.data / "control/cluster.key", key)
    shutil.rmtree(host.data / "control")

    assert host.json("recover")["shared"] is True

    assert host.json("status")["ready"] is True
    said = host.machine.run(*HUNQI, "whoami", "--json", env=environment).stdout
    assert json.loads(said)["name"] == "ann"
    assert (host.data / "control/cluster.key").read_text().strip() == key.read_text().strip()
    assert "hunqi-key-reader" not in host.machine.docker("service", "ls", "--format", "{{.Name}}").stdout

    host.run("down")
    shutil.rmtree(host.data / "control")
    host.machine.docker("secret", "rm", "hunqi-key")
    assert "the cluster's key is needed" in host.run("recover", check=False)
    assert host.json("recover", "--key-file", str(key))["shared"] is True
    assert "hunqi-key" in host.machine.docker("secret", "ls", "--format", "{{.Name}}").stdout


def _is_mirrored(host: Host) -> bool:
    """Whether nothing is written any more: a login is several events, and the mirror pauses between two rounds."""
    seen = _configs(host)
    time.sleep(2 * PAUSE_S)
    return "hunqi-authority" in seen and _configs(host) == seen


def _configs(host: Host) -> list[str]:
    return sorted(host.machine.docker("config", "ls", "--format", "{{.Name}}").stdout.split())


def test_another_data_directory_does_not_take_the_swarm_over(host: Host) -> None:
    host.run("down")
    other = Host(machine=host.machine, data=host.data.with_name("other"))

    said = other.run(
        "up", "--docker", str(host.machine.socket), "--http-port", "8080", "--https-port", "8443",
        "--tcp-ports", "30000-30001", "--ready-port", "0", check=False,
    )  # fmt: skip

    assert "this Swarm has a Hunqi already" in said
    assert "hunqi join TOKEN" in said
