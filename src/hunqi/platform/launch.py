"""Starting the supervisor as a process of its own, waiting until its parts answer, and stopping it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hunqi.platform import lock, logs
from hunqi.platform.children import AGENT, CONTROL, MIRROR
from hunqi.platform.errors import NotReadyError, NotRunningError, StopError
from hunqi.platform.settings import Address, PlatformSettings
from hunqi.platform.status import LOCK_NAME, ChildState, PlatformStatus, read_status

READY_S: Final = 60.0
STOP_S: Final = 90.0
"""Longer than all children may take together."""
_ANSWER_S: Final = 3.0
_LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReady:
    """Whether a part answers; ``text`` says what it answered, or why not."""

    name: str
    ready: bool
    text: str


Watch = Callable[[Sequence[PartReady]], None]


def start_detached(settings: PlatformSettings, command: Sequence[str]) -> None:
    """Start the supervisor (``command``) in a session of its own, its output in its log."""
    log = logs.open_log(settings.log_dir / "supervisor.log")
    try:
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=settings.data_dir
        )
    finally:
        os.close(log)


def await_ready(settings: PlatformSettings, watch: Watch, *, timeout_s: float = READY_S) -> PlatformStatus:
    """Wait until every part answers, telling ``watch`` how far each is.

    Raises :class:`NotReadyError` with the last lines of the log of what is not ready, also as soon as the supervisor is
    gone again.
    """
    deadline, seen, known = time.monotonic() + timeout_s, False, dict[str, PartReady]()
    while True:
        status = read_status(settings)
        seen = seen or status is not None
        parts = probe_parts(settings, status, known=known)
        known = {part.name: part for part in parts if part.ready}
        watch(parts)
        if status is not None and status.all_running and all(part.ready for part in parts):
            return status
        gone = seen and status is None
        if gone or time.monotonic() > deadline:
            raise NotReadyError(_why_not(settings, parts, gone=gone, timeout_s=timeout_s))
        time.sleep(_LOOK_S)


def probe_parts(
    settings: PlatformSettings, status: PlatformStatus | None, *, known: Mapping[str, PartReady] | None = None
) -> list[PartReady]:
    """Ask every part of this machine whether it is ready; one that is ``known`` to be and runs is not asked again."""
    probes: dict[str, Callable[[], PartReady]] = {
        MIRROR: lambda: _ask_http(MIRROR, settings.mirror, "/v2/", {200, 401}),
        CONTROL: lambda: _ask_http(CONTROL, settings.control, "/ready", {200}),
        AGENT: lambda: _connect(AGENT, settings.agent),
    }
    names = [MIRROR, CONTROL, AGENT] if settings.has_control else [MIRROR, AGENT]
    states = {child.name: child for child in status.children} if status else {}
    parts: list[PartReady] = []
    for name in names:
        child = states.get(name)
        if child is None or child.state is not ChildState.RUNNING:
            text = f"is started again: {child.last_end}" if child and child.last_end else "does not run"
            parts.append(PartReady(name=name, ready=False, text=text))
        else:
            parts.append((known or {}).get(name) or probes[name]())
    return parts


def stop(settings: PlatformSettings, *, timeout_s: float = STOP_S) -> None:
    """Stop the supervisor and its parts. Raises :class:`NotRunningError`, :class:`StopError`."""
    path = settings.run_dir / LOCK_NAME
    pid = lock.owner(path)
    if pid is None:
        raise NotRunningError(f"nothing of Hunqi runs on {settings.data_dir}: hunqi up starts it")
    _signal(pid, signal.SIGTERM)
    if not lock.await_free(path, timeout_s=timeout_s):
        raise StopError(f"Hunqi (process {pid}) has not stopped after {timeout_s:.0f} s; see {settings.log_dir}")


def reload(settings: PlatformSettings) -> None:
    """Have the parts read their settings again. Raises :class:`NotRunningError`."""
    pid = lock.owner(settings.run_dir / LOCK_NAME)
    if pid is None:
        raise NotRunningError(f"nothing of Hunqi runs on {settings.data_dir}: hunqi up starts it")
    _signal(pid, signal.SIGHUP)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        if pid:
            os.kill(pid, number)
    except ProcessLookupError:
        pass  # it was killed; what it left is stopping by itself
    except PermissionError as error:
        raise StopError(f"this user may not signal process {pid}: try as the user who ran hunqi up") from error


def _ask_http(name: str, address: Address, path: str, good: set[int]) -> PartReady:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=_ANSWER_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read(500).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return PartReady(name=name, ready=False, text=f"does not answer yet ({error or type(error).__name__})")
    finally:
        connection.close()
    if answer.status in good:
        return PartReady(name=name, ready=True, text=f"answers at http://{address}")
    return PartReady(name=name, ready=False, text=f"is not ready ({answer.status}): {' '.join(text.split())[:200]}")


def _connect(name: str, address: Address) -> PartReady:
    try:
        with socket.create_connection((address.host, address.port), timeout=_ANSWER_S):
            return PartReady(name=name, ready=True, text=f"listens at {address}")
    except OSError as error:
        return PartReady(name=name, ready=False, text=f"does not listen yet ({error.strerror or error})")


def _why_not(settings: PlatformSettings, parts: Sequence[PartReady], *, gone: bool, timeout_s: float) -> str:
    failed = [part for part in parts if not part.ready]
    head = "Hunqi ended while it was starting" if gone else f"Hunqi is not ready after {timeout_s:.0f} s"
    lines = [head, *(f"  {part.name} {part.text}" for part in failed)]
    for name in ["supervisor"] if gone else [part.name for part in failed]:
        path = settings.log_dir / f"{name}.log"
        with contextlib.suppress(OSError):
            said = logs.tail(path, 6)
            lines += [f"  the end of {path}:", *(f"    {line}" for line in said)] if said else []
    return "\n".join([*lines, "It goes on trying: hunqi status shows how far it is."] if not gone else lines)
