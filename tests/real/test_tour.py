"""The tour of the README: each of its commands is typed on a machine with Docker, and does what the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from testbed.machine import Machine
from testbed.processes import descendants, pss_bytes
from testbed.swarm import swarm

pytestmark = [pytest.mark.real, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024
PASSWORD = "tea with 9 lemons"
COMMAND_S = 300.0


def tour() -> list[str]:
    """Return the commands of the tour, in the order of the page."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return commands(text[text.index("## Ten minutes") : text.index("## The accelerator alone")])


def commands(text: str) -> list[str]:
    """Return the commands of a page, in its order."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@dataclass(kw_only=True)
class Shell:
    """Somebody at a machine, in the checkout: what they export stays, what is made goes below ``home``."""

    machine: Machine
    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def type(self, line: str) -> str:
        """Type a line; return what it says. Raises ``AssertionError`` if it fails."""
        typed = line.replace(".run/hunqi", str(self.home / "hunqi")).replace("$PWD/" + str(self.home), str(self.home))
        typed = typed.replace("hunqi-ca.pem", str(self.home / "hunqi-ca.pem"))
        if typed.startswith("export "):
            self._export(typed)
            return ""
        script = f"cd {shlex.quote(str(ROOT))} || exit\n{typed}"
        done = subprocess.run(
            self.machine.inside(["bash", "-c", script]),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            env=self._everything(),
            check=False,
        )
        self.said[line] = done.stdout
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _export(self, line: str) -> None:
        for name, value in re.findall(r'(\w+)="([^"]*)"', line):
            self.environment[name] = value.replace("$PWD", str(ROOT)).replace("$PATH", os.environ["PATH"])

    def _everything(self) -> dict[str, str]:
        dropped = ("HUNQI_", "MAKE", "MFLAGS", "DOCKER_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        kept = {key: value for key, value in kept.items() if not key.lower().endswith("_proxy")}
        own = {
            "DATA": str(self.home / "hunqi"),
            "HUNQI_CONTEXTS": str(self.home / "contexts.json"),
            "HUNQI_PASSWORD": PASSWORD,
        }
        return {**kept, **own, **self.environment}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shell]:
    # The machine has no way to Debian's archive: what make sample downloads is downloaded here.
    subprocess.run([sys.executable, "tools/sample", "--no-import"], cwd=ROOT, timeout=COMMAND_S, check=True)
    with swarm(1, joined=0) as bed:
        home = bed.first.directory / "home"
        home.mkdir()
        yield Shell(machine=bed.first, home=home)


def test_the_tour_works_as_it_is_written(shell: Shell) -> None:
    for line in tour():
        said = shell.type(line)
        if line == "make up" and (token := re.search(r"hqs_\S+", said)):
            shell.environment["HUNQI_SETUP_TOKEN"] = token[0]

    said = shell.said
    assert "Hunqi runs." in said["make up"]
    assert "as admin" in said["hunqi login --setup"]
    page = next(text for line, text in said.items() if line.endswith("https://shop.localhost/"))
    assert "orders sent" in page
    assert '"item": "coffee"' in next(text for line, text in said.items() if "item=coffee" in line)
    assert "web" in said["hunqi app logs shop --tail 5"]
    assert "services.web" in said["hunqi app diff shop 1 2"]
    assert "0 problems" in said["hunqi doctor"]


def test_after_the_tour_the_app_serves_and_everything_is_light(shell: Shell) -> None:
    page = shell.type("curl -sS --cacert hunqi-ca.pem https://shop.localhost/")
    assert "The shop" in page
    assert "Tea and more" not in page

    lock = shell.home / "hunqi/run/supervisor.lock"
    supervisor = int(lock.read_text())
    own = sum(map(pss_bytes, [supervisor, *descendants(supervisor)]))
    envoy = sum(pss_bytes(pid) for pid in shell.machine.pids() if _program(pid) == "envoy")
    assert envoy > 0
    # The bar is 250 MB at rest; a tour has just ended, so a little more is allowed here.
    assert own + envoy < 320 * MIB, f"{own / MIB:.0f} + {envoy / MIB:.0f} MiB"


def test_a_bad_revision_of_the_shop_is_turned_away_as_its_page_says(shell: Shell) -> None:
    page = (ROOT / "docs/how-to/gray-release.md").read_text(encoding="utf-8")
    said = [(line, shell.type(line)) for line in commands(page)]

    bad, good = (text.splitlines()[-1] for line, text in said if line.endswith("--watch"))
    assert bad.startswith("aborted 0 %: success-rate of web fails"), bad
    assert good.startswith("succeeded"), good
    plot = next(text for line, text in said if line.endswith("--plot"))
    assert "weight" in plot
    assert "error" in plot
    requests = next(text for line, text in said if line.startswith("hunqi app requests"))
    assert "500" in requests
    assert "Tea, coffee and more" in shell.type("curl -sS --cacert hunqi-ca.pem https://shop.localhost/")


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
