"""A signal to the first process of a container, and to no other process that may have got its number since."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

from hunqi.agent.errors import BadRequestError, GoneError

_REAL_TIME: Final = "RTMIN+"


def parse_signal(text: str) -> int:
    """Return the number of a signal as Docker writes it (``SIGTERM``, ``TERM``, ``15``, ``SIGRTMIN+3``).

    Raises :class:`BadRequestError`.
    """
    name = text.strip().upper().removeprefix("SIG")
    if name.isdecimal() and 0 < int(name) < signal.NSIG:
        return int(name)
    if name.startswith(_REAL_TIME) and name.removeprefix(_REAL_TIME).isdecimal():
        number = signal.SIGRTMIN + int(name.removeprefix(_REAL_TIME))
        if number <= signal.SIGRTMAX:
            return number
    try:
        return signal.Signals[f"SIG{name}"]
    except KeyError as error:
        raise BadRequestError(f"{text[:40]!r} is no signal; write for example SIGTERM") from error


def send_signal(pid: int, container: str, number: int) -> None:
    """Send it to ``pid`` if that is a process of ``container`` (its full id) now. Raises :class:`GoneError`."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        raise GoneError(f"process {pid} of container {container[:12]} is gone") from error
    try:
        # Looked at with the descriptor open: from here on the number cannot pass to another process unseen.
        if not container or container not in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8"):
            raise GoneError(f"process {pid} is not of container {container[:12]}")
        signal.pidfd_send_signal(descriptor, number)
    except OSError as error:
        raise GoneError(f"process {pid} of container {container[:12]} is gone") from error
    finally:
        os.close(descriptor)
