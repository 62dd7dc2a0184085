"""The history on a disk that fills, with files that are damaged, and under kill -9 at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from hunqi.telemetry import journal
from hunqi.telemetry.errors import HistoryError
from hunqi.telemetry.histogram import upper_ms
from hunqi.telemetry.history import History
from hunqi.telemetry.history_files import Files
from hunqi.telemetry.live import Live
from hunqi.telemetry.model import Subject
from hunqi.telemetry.operations import MetricQuery
from hunqi.telemetry.queries import Queries
from hunqi.telemetry.rows import CustomRow, ServiceRow, Step, TaskRow
from hunqi.telemetry.settings import HistoryLimits
from support_telemetry import Clock

HOUR = 3600
BEGIN = 1_700_006_400 - 1_700_006_400 % 864_000
"""The beginning of a span of every level."""


def rows(at: int, *, requests: int = 10) -> Step:
    step = Step(at)
    step.services.append(
        ServiceRow(
            at=at, app="shop", service="web", revision=1, seconds=10, requests=requests,
            classes=(0, requests - 1, 0, 0, 1), buckets=(40, 60), counts=(requests - 1, 1), active=2.0,
        )
    )  # fmt: skip
    for task in ("t1", "t2"):
        step.tasks.append(
            TaskRow(at=at, app="shop", service="web", revision=1, task=task, node="n", cpu=0.5, memory=1000)
        )
    step.custom.append(
        CustomRow(
            at=at, app="shop", service="web", revision=1, task="t1", node="n", metric="jobs", labels="", value=3.0
        )
    )
    return step


def history(root: Path, now: float, limits: HistoryLimits | None = None, **more: Any) -> History:
    clock = Clock(now)
    return History(root, Live(lambda: (), clock=clock), limits=limits, clock=clock, **more)


def question(start: int, end: int, step: int, **more: Any) -> dict[str, Any]:
    asked = {"kind": "services", "app": "shop", "service": None, "revision": None, "by": "", "metric": None}
    return {**asked, "labels": None, "start": start, "end": end, "step": step, **more}


def fill(root: Path, start: int, end: int) -> None:
    files = Files(root, HistoryLimits())
    files.prepare()
    journal.append(files, [rows(at) for at in range(start, end, 10)])


async def total(root: Path, start: int, end: int, step: int = 10, now: float | None = None) -> int:
    found = await history(root, now or end).bins(question(start, end, step))
    return sum(row[3] for row in found)


async def test_rows_go_through_every_resolution_and_stay_the_same_sums(tmp_path: Path) -> None:
    end = BEGIN + 864_000  # ten days: a file of each level, the finest of which are gone by then
    fill(tmp_path, BEGIN, BEGIN + 2 * HOUR)
    names: set[str] = set()
    for now in (BEGIN + 2 * HOUR + 700, BEGIN + 86_400 + 5000, end + 90_000):
        kept = history(tmp_path, now)
        await kept.tidy()
        await kept.tidy()  # nothing more to do
        assert kept.problems == []
        names |= {path.parent.name for path in tmp_path.rglob("services-*.parquet")}
        fill(tmp_path, int(now) - int(now) % 600 - 600, int(now) - int(now) % 600 - 590)  # so that the next is due
    assert names == {"10s", "60s", "600s", "3600s"}
    hourly = await history(tmp_path, end).bins(question(BEGIN, BEGIN + 2 * HOUR, HOUR))
    assert [row[:4] for row in hourly] == [["", BEGIN, 3600, 3600], ["", BEGIN + HOUR, 3600, 3600]]
    assert hourly[0][4:8] == [[0, 3240, 0, 0, 360], [40, 60], [3240, 360], 2.0]
    cpu = await history(tmp_path, end).bins(question(BEGIN, BEGIN + HOUR, HOUR, kind="tasks", by="task"))
    assert [(row[0], row[2], row[3]) for row in cpu] == [("t1", 0.5, 1000), ("t2", 0.5, 1000)]
    own = question(BEGIN, BEGIN + HOUR, HOUR, kind="custom", metric="jobs")
    assert [row[2] for row in await history(tmp_path, end).bins(own)] == [3.0]


@pytest.mark.parametrize("moment", [0, 1, 3, 5])
async def test_killed_at_any_moment_of_its_upkeep_no_row_is_lost_or_there_twice(tmp_path: Path, moment: int) -> None:
    """kill -9 of the process that makes files, at moments spread over its work; then it is done again."""
    fill(tmp_path, BEGIN, BEGIN + HOUR)
    now = BEGIN + HOUR + 700.0
    asked = {
        "do": "tidy", "now": now, "root": str(tmp_path), "days": 400, "most_bytes": 2**30, "memory_bytes": 2**27,
        "levels": [{"step_s": 10, "span_s": 600, "keep_s": 10**9}, {"step_s": 60, "span_s": 3600, "keep_s": 10**9}],
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "hunqi.telemetry.history_worker"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(orjson.dumps(asked))
    process.stdin.close()
    wanted = 3 * moment
    deadline = time.monotonic() + 30
    while process.poll() is None and len(list(tmp_path.rglob("*.parquet*"))) < wanted and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert await total(tmp_path, BEGIN, BEGIN + HOUR) == 3600
    assert await total(tmp_path, BEGIN, BEGIN + HOUR, 60) == 3600
    kept = history(tmp_path, now)
    await kept.begin()
    await kept.tidy()
    assert kept.problems == []
    assert not list(tmp_path.rglob("*.new"))
    assert not list(tmp_path.glob("journal/*"))
    assert await total(tmp_path, BEGIN, BEGIN + HOUR) == 3600
    assert await total(tmp_path, BEGIN, BEGIN + HOUR, 60) == 3600


async def test_what_is_damaged_is_passed_over_and_named(tmp_path: Path) -> None:
    fill(tmp_path, BEGIN, BEGIN + HOUR)
    kept = history(tmp_path, BEGIN + 2400)
    await kept.tidy()
    files = sorted(tmp_path.glob("10s/services-*.parquet"))
    assert len(files) == 3
    files[0].write_bytes(b"")
    whole = bytearray(files[1].read_bytes())
    whole[10:60] = b"\x00" * 50
    files[1].write_bytes(whole)
    line = tmp_path / "journal" / f"services-{BEGIN + 1800}.ndjson"
    line.write_bytes(line.read_bytes()[:-20])  # as after kill -9 in mid-line
    journal.append(Files(tmp_path, HistoryLimits()), [rows(BEGIN + 2390, requests=7)])
    (tmp_path / "10s" / "services-1.parquet.new").write_bytes(b"half")
    (tmp_path / "10s" / "anything").write_bytes(b"of somebody else")

    found = await kept.bins(question(BEGIN, BEGIN + 2400, 10))
    assert sum(row[3] for row in found) == 600 + 590 + 7
    assert {name.name for name in tmp_path.rglob("*.bad")} == {f"{files[0].name}.bad", f"{files[1].name}.bad"}
    for each in files[:2]:
        assert any(each.name in problem for problem in kept.problems), kept.problems
    again = history(tmp_path, BEGIN + HOUR + 700)
    await again.begin()
    await again.tidy()
    assert any("1 damaged" in problem for problem in again.problems), again.problems
    assert not list(tmp_path.rglob("*.new"))


async def test_the_last_hours_are_in_memory_again_after_a_restart(tmp_path: Path) -> None:
    fill(tmp_path, BEGIN, BEGIN + HOUR)
    now = BEGIN + HOUR + 30.0
    first = history(tmp_path, now - 1900)
    await first.tidy()  # some of it lies in files, some in journals
    clock = Clock(now)
    live = Live(lambda: {"n"}, clock=clock)
    await History(tmp_path, live, clock=clock).begin()
    web = Subject(app="shop", service="web")
    assert live.measured_until("shop") == BEGIN + HOUR
    found = live.traffic(web, start=BEGIN, end=BEGIN + HOUR)
    assert (found.requests, found.errors, found.active) == (3600, 360, 2.0)
    assert live.traffic(web, start=BEGIN + 600, end=BEGIN + 1200).requests == 600
    assert {each.task for each in live.usage(web, start=BEGIN, end=now)} == {"t1", "t2"}
    assert len(live.custom(web, "jobs", start=BEGIN, end=now)["t1"]) == 360


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    path.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=False).returncode
    ):
        pytest.skip("a small disk cannot be mounted here: that takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


async def test_a_full_disk_loses_no_row_that_was_written_and_no_answer(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "2m"):
        fill(disk, BEGIN, BEGIN + HOUR)
        filling = disk / "filling"
        with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        with pytest.raises(OSError, match="No space"):
            journal.append(Files(disk, HistoryLimits()), [rows(BEGIN + HOUR + at) for at in range(0, 5000, 10)])
        kept = history(disk, BEGIN + HOUR + 700)
        await kept.tidy()
        assert any("could not be written" in problem for problem in kept.problems), kept.problems
        assert await total(disk, BEGIN, BEGIN + 2 * HOUR) == 3600
        filling.unlink()
        await kept.tidy()
        assert not list(disk.glob("journal/services-*"))
        assert await total(disk, BEGIN, BEGIN + 2 * HOUR) == 3600


async def test_files_are_bounded_by_age_and_by_size(tmp_path: Path) -> None:
    fill(tmp_path, BEGIN, BEGIN + HOUR)
    kept = history(tmp_path, BEGIN + HOUR + 700)
    await kept.tidy()
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    limits = HistoryLimits(most_bytes=size // 2)
    files = Files(tmp_path, limits)
    (told,) = files.retain(BEGIN + HOUR + 700)
    assert "removed" in told
    assert files.size() <= size // 2
    left = sorted(each.start for each in files.of(limits.levels[0]))
    assert left
    assert left[0] > BEGIN, "the oldest go first"
    assert files.retain(BEGIN + 500 * 86_400) == []
    assert list(files.everything()) == []


async def test_a_worker_that_dies_or_hangs_is_an_error_and_leaves_no_process(tmp_path: Path) -> None:
    for worker, said in (
        ([sys.executable, "-c", "raise SystemExit('no memory left')"], "no memory left"),
        (["/nowhere/python"], "could not be asked"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "did not answer"),
    ):
        kept = history(tmp_path, BEGIN, HistoryLimits(patience_s=0.5), worker=worker)
        with pytest.raises(HistoryError, match=said):
            await kept.bins(question(BEGIN, BEGIN + 10, 10))


async def test_what_is_measured_is_written_as_it_comes(tmp_path: Path) -> None:
    from support_telemetry import measuring

    world = measuring("a")
    world.clock.now = float(BEGIN + 1)
    kept = History(tmp_path, world.live, clock=world.clock)
    await kept.begin()
    world.nodes["a"].serve("web", 1, 0)
    for _ in range(13):
        world.nodes["a"].serve("web", 1, 5)
        world.poll()
        await kept.write()
        await asyncio.sleep(0)
    assert await total(tmp_path, BEGIN, BEGIN + 70) == 5 * 10, "of the six steps that are over, but not of the first"
    shutil.rmtree(tmp_path / "journal")
    for _ in range(3):
        world.poll()
    await kept.write()
    assert any("could not be written" in problem for problem in kept.problems)


async def test_a_line_over_time_goes_on_from_the_disk_into_memory(tmp_path: Path) -> None:
    """Memory begins in the middle of a step of the question: no request is left out, none is counted twice."""
    fill(tmp_path, BEGIN, BEGIN + HOUR)
    clock = Clock(BEGIN + HOUR + 700.0)
    await history(tmp_path, clock.now).tidy()  # so that coarser rows are there, which reach into what memory has
    live = Live(lambda: {"n"}, clock=clock)
    with live.restoring() as put:
        for at in range(BEGIN + 2_510, BEGIN + HOUR, 10):
            put(rows(at))
    asked = Queries(live, History(tmp_path, live, clock=clock), clock=clock)
    for measure, step, value in (("rps", 60, 1.0), ("rps", 600, 1.0), ("cpu", 600, 1.0), ("tasks", 60, 2.0)):
        query = MetricQuery(measure=measure, service="web", since=BEGIN, until=BEGIN + HOUR, step_s=step)
        (line,) = (await asked.query("shop", query)).lines
        assert [point.at for point in line.points] == list(range(BEGIN, BEGIN + HOUR, step))
        assert [point.value for point in line.points] == pytest.approx([value] * (HOUR // step)), measure
    query = MetricQuery(measure="p99", service="web", since=BEGIN, until=BEGIN + HOUR, step_s=600)
    (line,) = (await asked.query("shop", query)).lines
    assert {point.value for point in line.points} == {upper_ms(60)}
