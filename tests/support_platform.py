"""A real supervisor with small children of the tests' own, as a program: ``python support_platform.py DIR KIND...``.

Each KIND is a child: ``steady`` serves until SIGTERM, ``failing`` ends at once with status 3, ``stubborn`` ignores
SIGTERM, ``counting`` notes each SIGHUP in ``DIR/hups`` and logs ``MiB`` lines for the rotation.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hunqi.platform import lock
from hunqi.platform.children import ChildSpec
from hunqi.platform.errors import AlreadyRunningError
from hunqi.platform.settings import PlatformSettings
from hunqi.platform.status import LOCK_NAME, PlatformStatus, read_status
from hunqi.platform.supervisor import End, Pace, Supervisor
from testbed.processes import wait_for

PACE = Pace(first_delay_s=0.05, longest_delay_s=0.4, steady_s=1.0, inherit_s=10.0, look_at_logs_s=0.1)
RESTART_STATUS = 42
ALREADY_STATUS = 43


def _note(settings: PlatformSettings, text: str) -> None:
    with (settings.data_dir / "notes").open("a") as file:
        file.write(f"{text}\n")


def _steady(settings: PlatformSettings, name: str) -> int:
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stop.append(number))
    signal.signal(signal.SIGHUP, lambda _number, _frame: _note(settings, f"{name} reloads"))
    _note(settings, f"{name} begins")
    while not stop:
        time.sleep(0.02)
    _note(settings, f"{name} stops")
    return 0


def _failing(settings: PlatformSettings, name: str) -> int:
    sys.stderr.write(f"{name} cannot go on\n")
    _note(settings, f"{name} begins")
    return 3


def _stubborn(settings: PlatformSettings, name: str) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _note(settings, f"{name} begins")
    while True:
        time.sleep(1.0)


def _chatty(settings: PlatformSettings, name: str) -> int:
    del settings
    number = 0
    while True:
        sys.stderr.write(f"{name} {number} {'x' * 1000}\n")
        number += 1
        time.sleep(0.0001)


def _raising(settings: PlatformSettings, name: str) -> int:
    _note(settings, f"{name} begins")
    raise RuntimeError("the child is broken")


_KINDS: dict[str, Callable[[PlatformSettings, str], int]] = {
    "steady": _steady,
    "failing": _failing,
    "stubborn": _stubborn,
    "chatty": _chatty,
    "raising": _raising,
}


def _spec(name: str) -> ChildSpec:
    kind = name.partition("-")[0]
    return ChildSpec(name=name, main=lambda held: _KINDS[kind](held, name), stop_s=0.5, reloads=name.endswith("hup"))


def main(arguments: list[str]) -> int:
    """Run one supervisor in the foreground."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    settings = PlatformSettings(data_dir=Path(arguments[0]))
    children = [_spec(name) for name in arguments[1:]]
    try:
        end = Supervisor(settings=settings, children=children, version="0.0", pace=PACE).run()
    except AlreadyRunningError as error:
        sys.stderr.write(f"{error}\n")
        return ALREADY_STATUS
    return RESTART_STATUS if end is End.RESTART else 0


class Supervised:
    """A supervisor that runs as a process of its own."""

    def __init__(self, data_dir: Path, *children: str) -> None:
        self.settings = PlatformSettings(data_dir=data_dir)
        data_dir.mkdir(exist_ok=True)
        self.log = data_dir / "supervisor.out"
        with self.log.open("ab") as output:
            command = [sys.executable, __file__, str(data_dir), *children]
            environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
            self.process = subprocess.Popen(command, stderr=output, stdout=output, env=environment)

    def __enter__(self) -> Supervised:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait(5.0)
        lock.await_free(self.settings.run_dir / LOCK_NAME, timeout_s=10.0)

    def status(self) -> PlatformStatus | None:
        """Return what it says of its children."""
        return read_status(self.settings)

    def pid_of(self, name: str) -> int:
        """Return the process of a child that runs, 0 if it does not."""
        status = self.status()
        children = status.children if status else ()
        return next((child.pid or 0 for child in children if child.name == name), 0)

    def wait_running(self) -> None:
        """Wait until every child runs."""
        wait_for(lambda: bool((now := self.status()) and now.children and now.all_running), timeout_s=10.0, what="run")

    def notes(self) -> list[str]:
        """Return what the children noted, in order."""
        path = self.settings.data_dir / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def wait_note(self, text: str, *, times: int = 1) -> None:
        """Wait until a child has noted ``text`` so many times."""
        wait_for(lambda: self.notes().count(text) >= times, timeout_s=10.0, what=f"{text!r} {times} times")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
