"""The bed of real daemons that other tests stand on: traffic between machines, a pulled cable, a power cut."""

from __future__ import annotations

import json
from urllib.request import urlopen

import pytest

from testbed.processes import wait_for
from testbed.sample import HEALTHCHECK, SAMPLE, give_sample
from testbed.swarm import THREE_NODES, Bed

pytestmark = [pytest.mark.real, THREE_NODES]


def _get(url: str) -> bytes:
    with urlopen(url, timeout=10.0) as answer:
        return answer.read()


def _asked_from(address: str) -> str:
    answer = json.loads(_get(f"http://{address}:8080/fetch?url=http://two:8080/x"))
    return json.loads(answer["body"])["path"] if answer["status"] == 200 else answer["body"]


def _states(bed: Bed) -> dict[str, str]:
    shown = bed.first.docker("node", "ls", "--format", "{{.Hostname}} {{.Status}}").stdout
    return dict(line.split() for line in shown.splitlines())


def test_tasks_on_different_machines_reach_each_other_by_name(three_nodes: Bed) -> None:
    bed = three_nodes
    give_sample(bed)
    first, second, _ = bed.machines
    first.docker("network", "create", "-d", "overlay", "shop_default")
    try:
        for name, machine in (("one", first), ("two", second)):
            command = ["service", "create", "-d", "--no-resolve-image", "--name", name, "--network", "shop_default"]
            command += ["--endpoint-mode", "dnsrr", "--constraint", f"node.hostname=={machine.hostname}"]
            command += ["--publish", "mode=host,target=8080,published=8080", "--health-interval", "500ms"]
            first.docker(*command, "--health-cmd", " ".join(HEALTHCHECK[1:]), SAMPLE)
        listing = ["service", "ls", "--format", "{{.Replicas}}"]
        wait_for(
            lambda: first.docker(*listing).stdout.split() == ["1/1", "1/1"], timeout_s=30.0, what="both tasks running"
        )
        wait_for(lambda: _asked_from(first.address) == "/x", timeout_s=20.0, what="the name known on the other machine")
        assert _get(f"http://{second.address}:8080/health") == b"ok"
    finally:
        bed.clear()


def test_a_cut_machine_cannot_be_reached_until_its_cable_is_plugged_in(three_nodes: Bed) -> None:
    first, _, third = three_nodes.machines

    def reached() -> bool:
        return first.run("busybox", "nc", "-w", "1", third.address, "2377", "-e", "true", check=False).returncode == 0

    wait_for(reached, timeout_s=20.0, what="the machine before its cable is cut")
    third.cut()
    try:
        assert not reached()
    finally:
        third.heal()
    wait_for(reached, timeout_s=20.0, what="the healed machine")


def test_a_machine_without_power_has_no_process_left_and_its_docker_starts_again(three_nodes: Bed) -> None:
    bed = three_nodes
    give_sample(bed)
    second = bed.machines[1]
    second.docker("run", "-d", "--name", "plain", SAMPLE, "sleep", "600")
    second.kill()
    try:
        assert second.pids() == []
    finally:
        second.power_on()
    wait_for(lambda: _states(bed)["node2"] == "Ready", timeout_s=60.0, what="node2 back")
    assert second.docker("inspect", "-f", "{{.State.Running}}", "plain").stdout.strip() == "false"
    bed.clear()
