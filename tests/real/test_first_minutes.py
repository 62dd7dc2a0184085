"""What a stranger types first: the list of targets, the accelerator in the foreground, the demonstration."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from testbed import images
from testbed.processes import wait_for
from testbed.registry import real_registry

pytestmark = pytest.mark.real
ROOT = Path(__file__).resolve().parents[2]
IMAGE = images.runnable(seed="first")
ACCEPT = images.Dialect.OCI.manifest


def _environment(**given: str) -> dict[str, str]:
    """Return an environment without settings and proxies, as a new machine has."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HUNQI_", "MAKE", "MFLAGS"))}
    return {key: value for key, value in kept.items() if not key.lower().endswith("_proxy")} | given


def test_make_lists_its_targets() -> None:
    said = subprocess.run(["make"], cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True).stdout

    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

    assert len(targets) >= 8
    assert [target for target in targets if not re.search(rf"^  {target} +\S", said, re.MULTILINE)] == []


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_make_mirror_serves_an_upstream_that_a_variable_points_elsewhere(tmp_path: Path, how: str) -> None:
    with real_registry(tmp_path / "world", seed={"library/first:1": IMAGE}) as world:
        given = {"LISTEN": "127.0.0.1:0", "DATA": str(tmp_path / "data"), "LOG": str(tmp_path / "access.log")}
        upstream = {"DOCKER_IO": world.url}
        arguments = [f"{key}={value}" for key, value in (given | (upstream if how == "argument" else {})).items()]
        environment = _environment(COLUMNS="100", **(upstream if how == "variable" else {}))
        screen = tmp_path / "screen"
        with screen.open("wb") as file:
            process = subprocess.Popen(
                ["make", "--old-file=.venv/.runtime-installed", "mirror", *arguments],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for(lambda: "Ctrl-C" in screen.read_text(), timeout_s=30.0, what="the first screen")
            text = screen.read_text()
            address = re.search(r"listens on +(http://\S+)", text)
            assert address is not None
            assert re.search(rf"docker\.io \(default\) +{re.escape(world.url)} ", text)
            request = urllib.request.Request(f"{address[1]}/v2/library/first/manifests/1", headers={"Accept": ACCEPT})
            with urllib.request.urlopen(request, timeout=20.0) as answer:
                assert images.digest_of(answer.read()) == IMAGE.digest
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(40.0)
        assert '"path":"/v2/library/first/manifests/1"' in (tmp_path / "access.log").read_text()
        assert '"path"' not in screen.read_text()


def test_the_demonstration_pulls_twice_and_the_second_time_for_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "tools/demo.py"],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=120.0,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert re.search(r"^first +[\d.]+ +[1-9][\d,]{7,} *$", done.stdout, re.MULTILINE)
    assert re.search(r"^second +[\d.]+ +0 *$", done.stdout, re.MULTILINE)
