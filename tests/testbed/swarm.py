"""One to three real Docker daemons on one host, each on a *machine* of its own, joined by a bridge to a Swarm.

    with swarm(3) as bed:                      # three managers of one Swarm; swarm(3, joined=1): two stay outside
        first, second, third = bed.machines
        first.docker("service", "create", …)   # the docker client, from the host
        first.run("hunqi", "status")           # a program on the machine: its network, host name and /run
        daemon = first.start(["hunqi", "up"], log=tmp_path / "up.log")
        urlopen(f"http://{first.address}:80")  # the host reaches each machine at its address
        second.cut(); second.heal()            # the cable
        second.kill(); second.power_on()       # power cut, and back; stop_docker, start_docker: dockerd alone
        bed.give_image(sample_image(), "sample:1")

In tests, take the fixtures ``one_node`` and ``three_nodes`` of ``tests/conftest.py`` (one per worker) and mark the
module with ``ONE_NODE`` or ``THREE_NODES``; ``make test`` keeps the tests of a file in one worker. Leave a bed as you
found it:
:meth:`Bed.clear` removes all services, networks, volumes, secrets and configs.

Needs root, and the kernel's bridge, veth and VXLAN. Any number of beds may run at once: each holds a number by a
lock, by which bridge, namespaces and addresses (10.199.NUMBER.0/24) are named; what a killed run left is removed
when the next bed is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import pytest

from testbed.machine import Machine
from testbed.programs import ProcessFailedError, find_program, run

ONE_NODE: Final = pytest.mark.xdist_group("one-node")
THREE_NODES: Final = pytest.mark.xdist_group("three-nodes")
_NUMBERS: Final = range(1, 120)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bed:
    """Machines on one bridge."""

    machines: tuple[Machine, ...]
    gateway: str
    """The host's address on the bridge: what the machines reach the host at."""

    @property
    def first(self) -> Machine:
        """The machine that the Swarm was made on."""
        return self.machines[0]

    def join(self, machine: Machine, *, role: str = "manager") -> None:
        """Make a machine join the first one's Swarm."""
        token = self.first.docker("swarm", "join-token", "-q", role).stdout.strip()
        address = f"--advertise-addr={machine.address}"
        machine.docker("swarm", "join", address, "--token", token, f"{self.first.address}:2377")

    def give_image(self, archive: Path, name: str, *changes: str) -> None:
        """Import a root file system's tar as image ``name`` on each machine; ``changes`` are Dockerfile lines."""
        options = [word for change in changes for word in ("--change", change)]
        for machine in self.machines:
            machine.docker("import", *options, str(archive), name)

    def clear(self) -> None:
        """Remove everything of the Swarm and all plain containers; images stay."""
        for noun in ("service", "secret", "config"):
            if found := self.first.docker(noun, "ls", "-q").stdout.split():
                self.first.docker(noun, "rm", *found)
        for machine in self.machines:
            if found := machine.docker("ps", "-aq").stdout.split():
                machine.docker("rm", "-f", *found, check=False)
        self._clear_networks()
        for machine in self.machines:
            if found := machine.docker("volume", "ls", "-q").stdout.split():
                machine.docker("volume", "rm", "-f", *found, check=False)

    def _clear_networks(self) -> None:
        # A network is in use until the last task of a removed service has gone.
        deadline = time.monotonic() + 60.0
        while found := self.first.docker("network", "ls", "-q", "-f", "type=custom").stdout.split():
            names = self.first.docker("network", "inspect", "-f", "{{.Name}}", *found, check=False).stdout.split()
            kept = {"ingress", "docker_gwbridge"}
            if not (extra := [name for name in names if name not in kept]):
                return
            if self.first.docker("network", "rm", *extra, check=False).returncode and time.monotonic() > deadline:
                raise ProcessFailedError(f"networks are still in use: {extra}")
            time.sleep(0.2)


@contextlib.contextmanager
def swarm(machines: int = 1, *, joined: int | None = None, docker: bool = True) -> Generator[Bed]:
    """Boot machines with dockerd and make a Swarm of the first ``joined`` of them (all), every one a manager.

    ``joined=0`` makes no Swarm; ``docker=False`` starts no dockerd.
    """
    for program in ("dockerd", "docker", "containerd", "runc", "iptables", "ip", "nsenter", "unshare"):
        find_program(program)
    with contextlib.ExitStack() as stack:
        _sweep_left()
        number = stack.enter_context(_number())
        bed = _layout(number, machines)
        stack.callback(_sweep, number)
        _lay_bridge(number, bed)
        for machine in bed.machines:
            stack.callback(machine.end)
            machine.boot()
        if docker:
            for machine in bed.machines:
                machine.start_docker()
            _make_swarm(bed, machines if joined is None else joined)
        yield bed


def _make_swarm(bed: Bed, joined: int) -> None:
    if joined > 0:
        bed.first.docker("swarm", "init", f"--advertise-addr={bed.first.address}")
    for machine in bed.machines[1:joined]:
        bed.join(machine)


def _layout(number: int, count: int) -> Bed:
    gateway = f"10.199.{number}.254"
    return Bed(
        gateway=gateway,
        machines=tuple(
            Machine(
                f"hqt{number}n{index}",
                hostname=f"node{index}",
                address=f"10.199.{number}.{index}",
                gateway=gateway,
                bridge=_bridge(number),
                directory=_directory(number) / f"n{index}",
            )
            for index in range(1, count + 1)
        ),
    )


def _bridge(number: int) -> str:
    return f"hqt{number}br"


def _directory(number: int) -> Path:
    # Short, since it holds sockets; not on a tmpfs, which overlay2 may refuse.
    return Path(f"/var/tmp/hqt{number}")


def _lay_bridge(number: int, bed: Bed) -> None:
    bridge = _bridge(number)
    run(["ip", "link", "add", bridge, "type", "bridge"])
    run(["ip", "addr", "add", f"{bed.gateway}/24", "dev", bridge])
    run(["ip", "link", "set", bridge, "up"])
    # A dockerd of the host sets FORWARD to DROP, and bridged packets pass it (bridge-nf-call-iptables).
    for rule in _forward_rules(bridge):
        run(["iptables", "-w", "10", "-I", "FORWARD", *rule])


def _forward_rules(bridge: str) -> list[list[str]]:
    """Machines reach each other; the world says at once that it is not there."""
    return [["-i", bridge, "!", "-o", bridge, "-j", "REJECT"], ["-i", bridge, "-o", bridge, "-j", "ACCEPT"]]


def _sweep(number: int) -> None:
    """Remove what is left of the bed of this number."""
    for machine in _layout(number, 5).machines:
        if Path(f"/var/run/netns/{machine.name}").exists() or machine.directory.exists():
            machine.end()
    bridge = _bridge(number)
    for rule in _forward_rules(bridge):
        while run(["iptables", "-w", "10", "-D", "FORWARD", *rule], check=False).returncode == 0:
            pass
    if Path(f"/sys/class/net/{bridge}").exists():
        run(["ip", "link", "delete", bridge], check=False)
    shutil.rmtree(_directory(number), ignore_errors=True)


def _sweep_left() -> None:
    """Remove the beds whose test runs were killed: their daemons would go on for ever."""
    for number in _NUMBERS:
        if _directory(number).exists():
            with _lock_file(number).open("a") as file:
                if _locked(file):
                    _sweep(number)


def _lock_file(number: int) -> Path:
    return Path(f"/tmp/hqt{number}.lock")


@contextlib.contextmanager
def _number() -> Generator[int]:
    for number in _NUMBERS:
        with _lock_file(number).open("a") as file:
            if _locked(file):
                _sweep(number)
                yield number
                return
    raise ProcessFailedError("every number for a test bed is taken")


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
