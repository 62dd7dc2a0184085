"""The systemd unit of the platform, as systemd itself reads it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from testbed.programs import run

pytestmark = pytest.mark.real


def _hunqi(*arguments: str) -> str:
    return run([sys.executable, "-m", "hunqi", *arguments]).stdout


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    data = tmp_path / "da ta$%"

    told = _hunqi("service", "install", "--root", str(tmp_path / "root"), "--data", str(data))

    unit = tmp_path / "root/etc/systemd/system/hunqi.service"
    assert str(unit) in told
    verified = run(["systemd-analyze", "verify", "--man=no", str(unit)], check=False)
    complaints = [line for line in verified.stderr.splitlines() if "hunqi.service" in line]
    assert complaints == []
    assert verified.returncode == 0, verified.stderr
    text = unit.read_text()
    assert '"' + str(data).replace("%", "%%").replace("$", "$$") + '"' in text
    assert "up --foreground" in text


def test_the_unit_can_be_looked_at_first(tmp_path: Path) -> None:
    text = _hunqi("service", "install", "--print", "--data", str(tmp_path))

    assert text.startswith("# Written by `hunqi service install`.")
    assert f"ReadWritePaths={tmp_path}" in text
    assert list(tmp_path.iterdir()) == []
