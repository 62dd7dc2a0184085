"""The supervisor with real processes: what dies comes back, what fails is not hammered, all stops in order."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from hunqi.platform import lock, logs
from hunqi.platform.status import LOCK_NAME, ChildState, read_status
from hunqi.platform.supervisor import Pace
from support_platform import ALREADY_STATUS, RESTART_STATUS, Supervised
from testbed.processes import is_alive, wait_for


def test_a_killed_child_is_started_again_and_the_others_are_left_alone(tmp_path: Path) -> None:
    with Supervised(tmp_path, "steady-a", "steady-b") as running:
        running.wait_running()
        first, other = running.pid_of("steady-a"), running.pid_of("steady-b")

        os.kill(first, signal.SIGKILL)
        wait_for(lambda: running.pid_of("steady-a") not in {0, first}, timeout_s=10.0, what="a new child")

        status = running.status()
        assert status is not None
        again = next(child for child in status.children if child.name == "steady-a")
        assert again.last_end == "killed by SIGKILL"
        assert again.restarts == 1
        assert running.pid_of("steady-b") == other


def test_a_child_that_fails_at_once_is_started_ever_less_often(tmp_path: Path) -> None:
    with Supervised(tmp_path, "failing", "steady") as running:
        running.wait_note("failing begins", times=4)
        # 50, 100, 200, 400, 400, … ms: without a pause a child that ends at once would begin hundreds of times.
        before = len(running.notes())
        time.sleep(1.0)
        assert len(running.notes()) - before <= 4

        status = running.status()
        assert status is not None
        assert {child.name: child.last_end for child in status.children}["failing"] == "exit status 3"
        assert "failing cannot go on" in logs.tail(running.settings.log_dir / "failing.log", 3)
        assert running.process.poll() is None


def test_the_pause_begins_anew_after_a_good_run() -> None:
    pace = Pace(first_delay_s=1.0, longest_delay_s=8.0, steady_s=60.0)

    delays = [0.0]
    for _ in range(5):
        delays.append(pace.delay_after(0.1, delays[-1]))

    assert delays[1:] == [1.0, 2.0, 4.0, 8.0, 8.0]
    assert pace.delay_after(60.0, 8.0) == 1.0


def test_a_child_that_raises_is_written_to_its_log_and_ends_as_failed(tmp_path: Path) -> None:
    with Supervised(tmp_path, "raising") as running:
        running.wait_note("raising begins", times=2)

        assert any("the child is broken" in line for line in logs.tail(running.settings.log_dir / "raising.log", 20))


def test_children_stop_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    with Supervised(tmp_path, "steady-a", "steady-b", "steady-c") as running:
        for name in "abc":
            running.wait_note(f"steady-{name} begins")

        running.process.send_signal(signal.SIGTERM)

        assert running.process.wait(10.0) == 0
    assert [note for note in running.notes() if "stops" in note] == [f"steady-{name} stops" for name in "cba"]
    assert read_status(running.settings) is None


def test_a_child_that_ignores_the_stop_is_killed_after_its_time(tmp_path: Path) -> None:
    with Supervised(tmp_path, "steady", "stubborn") as running:
        running.wait_note("stubborn begins")
        running.wait_note("steady begins")
        stubborn = running.pid_of("stubborn")

        running.process.send_signal(signal.SIGTERM)

        assert running.process.wait(10.0) == 0
        assert not is_alive(stubborn)
    assert running.notes()[-1] == "steady stops"


def test_ctrl_c_in_the_terminal_reaches_the_supervisor_alone(tmp_path: Path) -> None:
    with Supervised(tmp_path, "steady") as running:
        running.wait_running()

        assert os.getpgid(running.pid_of("steady")) != os.getpgid(running.process.pid)


def test_children_of_a_killed_supervisor_stop_by_themselves_and_the_next_one_waits_for_them(tmp_path: Path) -> None:
    with Supervised(tmp_path, "steady") as first:
        first.wait_note("steady begins")
        orphan = first.pid_of("steady")
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait(5.0)

        with Supervised(tmp_path, "steady") as second:
            second.wait_note("steady begins", times=2)
            assert not is_alive(orphan)
    assert second.notes() == ["steady begins", "steady stops", "steady begins", "steady stops"]


def test_a_second_supervisor_on_the_same_directory_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with Supervised(tmp_path, "steady") as first:
        first.wait_running()

        with Supervised(tmp_path, "steady") as second:
            assert second.process.wait(10.0) == ALREADY_STATUS

        assert f"process {first.process.pid}" in second.log.read_text()
        assert first.process.poll() is None


def test_a_reload_is_passed_to_those_that_reload(tmp_path: Path) -> None:
    with Supervised(tmp_path, "steady-hup", "steady-other") as running:
        running.wait_note("steady-hup begins")
        running.wait_note("steady-other begins")

        running.process.send_signal(signal.SIGHUP)
        running.wait_note("steady-hup reloads")

        assert "steady-other reloads" not in running.notes()
        assert running.status() is not None


def test_a_restart_stops_everything_and_says_that_it_is_one(tmp_path: Path) -> None:
    with Supervised(tmp_path, "steady") as running:
        running.wait_note("steady begins")

        running.process.send_signal(signal.SIGUSR1)

        assert running.process.wait(10.0) == RESTART_STATUS
    assert running.notes()[-1] == "steady stops"


def test_the_state_is_waiting_between_two_runs(tmp_path: Path) -> None:
    with Supervised(tmp_path, "failing") as running:

        def waiting() -> bool:
            status = running.status()
            return bool(status and status.children and status.children[0].state is ChildState.WAITING)

        wait_for(waiting, timeout_s=10.0, what="the state of a child that is to be started again")


def test_a_log_is_put_aside_while_its_process_writes_on(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with Supervised(tmp_path, "chatty") as running:
        running.wait_running()
        log = folder / "chatty.log"
        wait_for(lambda: log.exists() and log.stat().st_size > 200_000, timeout_s=20.0, what="a log of 200 kB")

        assert logs.rotate_all(folder, max_bytes=100_000) == ["chatty.log"]
        wait_for(lambda: log.stat().st_size > 20_000, timeout_s=20.0, what="the process to write on")

        first = log.read_text().splitlines()[0].split()
        last = (folder / "chatty.log.1").read_text().splitlines()[-1].split()
        assert first[0] == last[0] == "chatty"
        assert log.stat().st_size < 10_000_000


def test_only_so_many_old_logs_are_kept(tmp_path: Path) -> None:
    for number in range(logs.KEPT + 3):
        (tmp_path / "a.log").write_text(f"{number}" * 50)
        logs.rotate_all(tmp_path, max_bytes=10)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", *(f"a.log.{n}" for n in range(1, 6))]
    assert (tmp_path / "a.log.1").read_text() == "7" * 50


def test_a_lock_is_free_as_soon_as_its_holder_is_gone(tmp_path: Path) -> None:
    with Supervised(tmp_path, "steady") as running:
        running.wait_running()
        assert lock.owner(running.settings.run_dir / LOCK_NAME) == running.process.pid

    assert lock.owner(running.settings.run_dir / LOCK_NAME) is None
