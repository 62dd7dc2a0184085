"""Retention rules by ``gc``: images pushed by a real client, rules in the configuration, days that have passed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from testbed import images
from testbed.client import fetch
from testbed.docker import Toolbox, toolbox
from testbed.mirror import RunningMirror

pytestmark = pytest.mark.real
DAY_S = 86_400.0
RULES = """
[mirror.access]
allow-anonymous-push = true

[[mirror.space.retention]]
pattern = "team/newest"
keep-newest = 2
untagged-after = "1h"

[[mirror.space.retention]]
pattern = "team/aged"
max-age = "30d"
"""
BUILDS = [images.layered([60_000 + number], seed=("retention", number)) for number in range(4)]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    with toolbox(tmp_path_factory.mktemp("tools")) as running:
        yield running


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[RunningMirror]:
    with RunningMirror(tmp_path, upstreams={"docker.io": "http://127.0.0.1:9"}, config=RULES, workers=1) as running:
        yield running


def push(tools: Toolbox, mirror: RunningMirror, repository: str, number: int, tag: str, directory: Path) -> None:
    layout = directory / f"layout-{number}"
    if not layout.exists():
        images.write_layout(BUILDS[number], layout)
    target = f"docker://{mirror.host}/{repository}:{tag}"
    tools.skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:latest", target)


def let_days_pass(mirror: RunningMirror, days: float, *, tag: str | None = None) -> None:
    """Make everything (or one tag) that many days older."""
    with closing(sqlite3.connect(mirror.data / "catalogue.db", timeout=30)) as catalogue, catalogue:
        if tag is None:
            catalogue.execute("UPDATE link SET created_at = created_at - ?", (days * DAY_S,))
        catalogue.execute(
            "UPDATE tag SET changed_at = changed_at - ? WHERE ? IS NULL OR name = ?", (days * DAY_S, tag, tag)
        )


def tags(mirror: RunningMirror, repository: str) -> list[str]:
    return [row["tag"] for row in mirror.cli_json("ls", repository)["tags"] if row["tag"]]  # type: ignore[index]


def gc(mirror: RunningMirror, *options: str) -> Any:
    return mirror.cli_json("gc", *options)


def test_the_newest_stay_and_a_dry_run_tells_beforehand_what_goes(
    mirror: RunningMirror, tools: Toolbox, tmp_path: Path
) -> None:
    for number in range(4):
        push(tools, mirror, "team/newest", number, f"v{number}", tmp_path)
        time.sleep(0.01)
    push(tools, mirror, "kept/app", 0, "v0", tmp_path)
    let_days_pass(mirror, 2)
    told = gc(mirror, "--dry-run")
    assert tags(mirror, "team/newest") == ["v0", "v1", "v2", "v3"]
    done = gc(mirror)
    assert tags(mirror, "team/newest") == ["v2", "v3"]
    assert tags(mirror, "kept/app") == ["v0"]
    assert [event["removed"] for event in told["events"]] == [event["removed"] for event in done["events"]]
    assert told["freed_bytes"] == done["freed_bytes"]
    assert len(BUILDS[1].blobs[BUILDS[1].layers[0]]) <= done["freed_bytes"] < 2 * 60_000, "the other is kept elsewhere"
    assert any("not among the 2 newest" in event["reason"] for event in done["events"])
    assert gc(mirror)["removed"] == 0
    for number in (2, 3):
        url = f"{mirror.base_url}/v2/team/newest/blobs/{BUILDS[number].layers[0]}"
        assert fetch(url).digest == BUILDS[number].layers[0]
    assert "nothing is bad" in mirror.cli("verify")


def test_what_is_too_old_goes_and_what_is_pinned_stays(mirror: RunningMirror, tools: Toolbox, tmp_path: Path) -> None:
    push(tools, mirror, "team/aged", 0, "old", tmp_path)
    push(tools, mirror, "team/aged", 1, "pinned", tmp_path)
    push(tools, mirror, "team/aged", 2, "young", tmp_path)
    mirror.cli("pin", "team/aged:pinned")
    for tag in ("old", "pinned"):
        let_days_pass(mirror, 31, tag=tag)
    assert gc(mirror)["removed"] >= 1
    assert tags(mirror, "team/aged") == ["pinned", "young"]


def test_what_a_moved_tag_left_behind_goes_after_its_time(
    mirror: RunningMirror, tools: Toolbox, tmp_path: Path
) -> None:
    push(tools, mirror, "team/newest", 0, "latest", tmp_path)
    push(tools, mirror, "team/newest", 1, "latest", tmp_path)
    assert gc(mirror)["removed"] == 0, "young"
    let_days_pass(mirror, 2)
    assert gc(mirror)["removed"] >= 1
    old, new = (f"{mirror.base_url}/v2/team/newest/manifests/{BUILDS[number].digest}" for number in (0, 1))
    assert (fetch(old).status, fetch(new).status) == (404, 200)
