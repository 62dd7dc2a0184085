"""The doctor's judgements, and what it sees of ports with a real listener."""

from __future__ import annotations

import os
import resource
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from hunqi.engine.model import Node, SwarmState
from hunqi.platform import docker_checks, doctor, ports
from hunqi.platform.errors import PortTakenError
from hunqi.platform.findings import Finding, Level, worst
from hunqi.platform.kernel import Feature
from hunqi.platform.settings import Address, PlatformSettings
from testbed.programs import free_port

NODE = Node(
    id="n1",
    version=1,
    hostname="one",
    role="manager",
    availability="active",
    state="ready",
    address="10.0.0.1",
    labels={},
    is_leader=True,
    reachable=True,
    nano_cpus=1,
    memory_bytes=1,
    engine_version="20.10",
    platform="linux/x86_64",
    spec={},
)
SWARM = SwarmState(
    state="active", is_manager=True, node_id="n1", node_address="10.0.0.1", managers=(), cluster_id="c", error=""
)


def _settings(**given: int | Address) -> PlatformSettings:
    first = free_port()
    free = PlatformSettings(
        control=Address("127.0.0.1", free_port()),
        mirror=Address("127.0.0.1", free_port()),
        agent_port=free_port(),
        peers_port=free_port(),
        http_port=free_port(),
        https_port=free_port(),
        tcp_ports=(first, first),
    )
    return replace(free, **given)


def test_a_port_that_is_taken_is_named_with_its_holder_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = _settings(control=Address("127.0.0.1", port))

        with pytest.raises(PortTakenError) as caught:
            ports.require_free(ports.needs_of(settings))

    text = str(caught.value)
    assert f"127.0.0.1:{port} (control) is taken by" in text
    assert f"(process {os.getpid()})" in text
    assert "--control ADDRESS" in text
    assert len(text.splitlines()) == 2


def test_ports_of_our_own_are_not_looked_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = _settings(control=Address("127.0.0.1", port))

        assert ports.find_taken(ports.needs_of(settings), ours={port}) == []


def test_a_taken_range_is_told_once() -> None:
    with socket.create_server(("0.0.0.0", 0)) as one, socket.create_server(("0.0.0.0", 0)) as two:
        low, high = sorted((one.getsockname()[1], two.getsockname()[1]))
        needs = [
            need
            for need in ports.gateway_needs(PlatformSettings(tcp_ports=(low, high)))
            if need.address.port in {low, high}
        ]

        with pytest.raises(PortTakenError) as caught:
            ports.require_free(needs)

    assert len(str(caught.value).splitlines()) == 2


def test_an_address_of_another_machine_is_told_apart_from_a_taken_port() -> None:
    need = ports.Need(address=Address("192.0.2.1", free_port()), what="the agent", option="--agent-port PORT")

    assert [taken.reason for taken in ports.find_taken([need])] == ["is no address of this machine"]


def test_a_worker_needs_no_port_for_control() -> None:
    settings = PlatformSettings(has_control=False)

    assert settings.control not in [need.address for need in ports.needs_of(settings)]


def test_the_doctor_names_a_taken_port_as_a_problem_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = _settings(mirror=Address("127.0.0.1", listener.getsockname()[1]))

        findings = doctor.check_ports(settings, ours=())

    assert [finding.level for finding in findings] == [Level.PROBLEM]
    assert "--mirror ADDRESS" in findings[0].remedy


def test_free_ports_are_well() -> None:
    assert [finding.level for finding in doctor.check_ports(_settings(), ours=())] == [Level.OK]


@pytest.mark.parametrize(
    ("finding", "level"),
    [
        (doctor.check_clock(Feature.YES), Level.OK),
        (doctor.check_clock(Feature.NO), Level.WARNING),
        (doctor.check_clock(Feature.UNKNOWN), Level.NOTE),
        (doctor.check_cgroups(1), Level.OK),
        (doctor.check_cgroups(2), Level.OK),
        (doctor.check_cgroups(None), Level.PROBLEM),
        (doctor.check_overlay(Feature.NO), Level.PROBLEM),
        (doctor.check_vxlan(Feature.NO), Level.PROBLEM),
        (doctor.check_vxlan(Feature.YES), Level.OK),
        (doctor.check_bridge(Feature.YES, Feature.NO), Level.PROBLEM),
        (doctor.check_ipvs(Feature.NO), Level.NOTE),
        (doctor.check_files(1024), Level.WARNING),
        (doctor.check_files(resource.RLIM_INFINITY), Level.OK),
        (doctor.check_envoy(), Level.OK),
        (docker_checks.check_swarm(SWARM), Level.OK),
        (docker_checks.check_swarm(replace(SWARM, state="inactive")), Level.NOTE),
        (docker_checks.check_swarm(replace(SWARM, state="locked")), Level.PROBLEM),
        (docker_checks.check_swarm(replace(SWARM, state="error", error="certificate expired")), Level.PROBLEM),
        (docker_checks.check_managers([NODE]), Level.OK),
        (docker_checks.check_managers([NODE, NODE]), Level.WARNING),
        (docker_checks.check_managers([NODE, NODE, NODE]), Level.OK),
        (docker_checks.check_managers([NODE, NODE, replace(NODE, reachable=False)]), Level.PROBLEM),
        (docker_checks.check_managers([NODE, replace(NODE, role="worker")]), Level.OK),
    ],
)
def test_each_finding_has_its_level_and_what_is_wrong_has_a_remedy(finding: Finding, level: Level) -> None:
    assert finding.level is level
    assert bool(finding.remedy) == (level in {Level.WARNING, Level.PROBLEM})


def test_a_full_disk_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A disk cannot be filled in a unit test; what is patched is the kernel's answer.
    gib = 1024**3
    for free, level in ((gib // 2, Level.PROBLEM), (5 * gib, Level.WARNING), (50 * gib, Level.OK)):
        usage = type("usage", (), {"total": 100 * gib, "free": free})
        monkeypatch.setattr("shutil.disk_usage", lambda _path, usage=usage: usage)

        assert doctor.check_disk(tmp_path / "not/yet/there", "disk").level is level


def test_memory_is_read_from_the_kernel(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 2000000 kB\nMemFree: 1 kB\nMemAvailable: 100000 kB\n")

    assert doctor.check_memory(meminfo).level is Level.WARNING
    assert doctor.check_memory().level in {Level.OK, Level.WARNING}


def test_the_worst_finding_decides() -> None:
    ok, warning = doctor.check_cgroups(2), doctor.check_files(1)

    assert worst([]) is Level.OK
    assert worst([ok, warning, ok]) is Level.WARNING
    assert worst([doctor.check_cgroups(None), warning]) is Level.PROBLEM


def test_the_whole_machine_is_examined_without_raising() -> None:
    names = {finding.name for finding in doctor.examine_machine(_settings())}

    assert {"ports", "disk", "memory", "clock", "cgroups", "overlayfs", "vxlan", "ipvs", "gateway"} <= names
