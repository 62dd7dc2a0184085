"""Control groups of both versions, laid out as kernels lay them out, under each of Docker's drivers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from hunqi.agent.cgroups import Cgroups, Usage

ID = "4f" * 32
PID = 4242
V2_STAT = "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 0\n"


def machine(root: Path, mounts: Mapping[str, str], cgroup: str) -> Cgroups:
    """``mounts``: mount point → file system and options, as ``mountinfo`` ends."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / str(PID)).mkdir()
    lines = [
        f"{number} 23 0:{number} / {root}{point} rw,nosuid - {what}"
        for number, (point, what) in enumerate(mounts.items(), start=30)
    ]
    (root / "proc" / "self" / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/sda rw\n" + "\n".join(lines) + "\n")
    (root / "proc" / str(PID) / "cgroup").write_text(cgroup)
    return Cgroups(root / "proc")


def write(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)


def v2(directory: Path) -> None:
    write(
        directory,
        cpu__stat=V2_STAT,
        memory__current="104857600\n",
        memory__stat="anon 50000000\nfile 54857600\nactive_file 14857600\ninactive_file 40000000\n",
        memory__events="low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\n",
    )


def v1(root: Path, path: str) -> None:
    write(root / "cpuacct" / path, cpuacct__usage="2500000000\n")
    write(
        root / "memory" / path,
        memory__usage_in_bytes="104857600\n",
        memory__stat="cache 5\ninactive_file 7\ntotal_cache 54857600\ntotal_inactive_file 40000000\n",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    )


EXPECTED = Usage(cpu_s=2.5, memory_bytes=64_857_600, ooms=1)
V1_MOUNTS = {"/cg/cpuacct": "cgroup cgroup rw,cpuacct", "/cg/memory": "cgroup cgroup rw,memory"}


@pytest.mark.parametrize(
    "path",
    [f"/docker/{ID}", f"/system.slice/docker-{ID}.scope", f"/system.slice/docker-{ID}.scope/init.scope"],
    ids=["cgroupfs", "systemd", "an init of its own in a group below"],
)
def test_version_2(tmp_path: Path, path: str) -> None:
    groups = machine(tmp_path, {"/cg": "cgroup2 cgroup2 rw,nsdelegate"}, f"0::{path}\n")
    v2(tmp_path / "cg" / path.removesuffix("/init.scope").lstrip("/"))
    assert groups.find(PID, ID).read() == EXPECTED


@pytest.mark.parametrize("path", [f"docker/{ID}", f"system.slice/docker-{ID}.scope"], ids=["cgroupfs", "systemd"])
def test_version_1_with_an_empty_version_2_beside_it(tmp_path: Path, path: str) -> None:
    mounts = {**V1_MOUNTS, "/cg/unified": "cgroup2 cgroup2 rw"}
    text = f"9:name=systemd:/x\n4:memory:/{path}\n2:cpuacct:/{path}\n1:cpu:/{path}\n0::/\n"
    groups = machine(tmp_path, mounts, text)
    v1(tmp_path / "cg", path)
    assert groups.find(PID, ID).read() == EXPECTED


def test_version_1_with_cpu_and_cpuacct_in_one(tmp_path: Path) -> None:
    mounts = {"/cg/cpuacct": "cgroup cgroup rw,cpu,cpuacct", "/cg/memory": "cgroup cgroup rw,memory"}
    path = f"kubelet/docker/{ID}"
    groups = machine(tmp_path, mounts, f"4:memory:/{path}\n2:cpu,cpuacct:/{path}\n")
    v1(tmp_path / "cg", path)
    assert groups.find(PID, ID).read() == EXPECTED


def test_memory_of_version_1_and_cpu_of_version_2(tmp_path: Path) -> None:
    mounts = {"/cg/memory": "cgroup cgroup rw,memory", "/cg/unified": "cgroup2 cgroup2 rw"}
    groups = machine(tmp_path, mounts, f"4:memory:/docker/{ID}\n0::/docker/{ID}\n")
    v1(tmp_path / "cg", f"docker/{ID}")
    v2(tmp_path / "cg" / "unified" / "docker" / ID)
    assert groups.find(PID, ID).read() == EXPECTED


def test_a_container_that_has_gone_is_an_error_and_no_zero(tmp_path: Path) -> None:
    groups = machine(tmp_path, {"/cg": "cgroup2 cgroup2 rw"}, f"0::/docker/{ID}\n")
    with pytest.raises(FileNotFoundError):
        groups.find(PID, ID).read()
    with pytest.raises(FileNotFoundError):
        groups.find(1, ID)


def test_groups_that_are_mounted_nowhere_are_an_error(tmp_path: Path) -> None:
    groups = machine(tmp_path, {}, f"0::/docker/{ID}\n")
    with pytest.raises(ValueError, match="not mounted"):
        groups.find(PID, ID)
