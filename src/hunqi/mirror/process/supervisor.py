"""The supervisor: holds the data directory and the port, forks the fetcher and the workers, restarts what dies.

It has no event loop and no threads, so that forking is safe at any time and the children share its imported code: that
is what keeps several processes within the memory of little more than one. When it dies, however it dies, the children
see the end of a pipe and stop.

There is a listening socket for each worker that there may be, and the supervisor holds them all: clients that wait in
one are not reset when a worker ends, but served by the next. While fewer workers run (``crew``), each accepts from
several sockets; all have all of them open, and are told how many share them.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from hunqi.errors import UserError
from hunqi.kit.memory import unmap_code
from hunqi.mirror.process.crew import LOOK_S, Crew, used_s
from hunqi.mirror.process.holding import hold, make_private, reserve, shared_listener
from hunqi.mirror.settings import Address, MirrorSettings

_log: Final = logging.getLogger(__name__)
_FIRST_DELAY_S: Final = 0.05
_LONGEST_DELAY_S: Final = 5.0
_LONGEST_WORKER_DELAY_S: Final = 1.0
"""Clients wait for a worker that is started again."""
_STEADY_S: Final = 30.0
"""A child that lived so long is restarted without delay."""
_FETCHER_STOP_S: Final = 15.0
_LISTEN_S: Final = 15.0
RELOAD_REFUSED: Final = "reload.refused"
"""In the data directory: why the last reload was not done, if it was not."""
_LOOK_S: Final = 0.1
_SIGNALS: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class ChildContext:
    """What a child process is given besides the settings."""

    settings: MirrorSettings
    address: Address
    """The clients' address, with the port that the kernel chose."""
    peer_address: Address | None
    parent: int
    """Descriptor of a pipe that ends when the supervisor does."""
    ready: int
    """Descriptor to which a worker writes a byte once it listens."""
    index: int
    """Of the worker, from 0; the fetcher's is -1."""
    instance: str
    """Names this run of the supervisor, for the other nodes of a cluster."""
    listeners: tuple[int, ...] = ()
    """Descriptors of the sockets in which clients wait; a worker accepts from every ``sharing``-th, from its index."""
    sharing: int = 1
    """How many workers share the sockets."""
    told: int = -1
    """Descriptor from which a worker reads, a byte each, how many share them from then on."""


ChildMain = Callable[[ChildContext], None]


@dataclass(slots=True)
class _Child:
    index: int
    main: ChildMain
    pid: int = 0
    started_at: float = 0.0
    delay_s: float = 0.0
    due_at: float | None = None
    tell: int = -1
    """Descriptor of the pipe by which a worker is told."""


@dataclass(slots=True)
class Supervisor:
    """One run of a mirror; :meth:`run` returns the exit status."""

    settings: MirrorSettings
    fetcher_main: ChildMain
    worker_main: ChildMain
    reload: Callable[[], MirrorSettings] | None = None
    """Reads the settings again, for SIGHUP."""
    on_listening: Callable[[Address], None] = lambda _address: None
    _children: dict[int, _Child] = field(default_factory=dict[int, "_Child"])
    _retired: set[int] = field(default_factory=set[int])
    _waiting: list[_Child] = field(default_factory=list["_Child"])
    """The dead whose restart is due later."""

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT.

        Raises :class:`AlreadyServingError`, :class:`ListenError` and :class:`StoreDirectoryError` before anything is
        started.
        """
        make_private(self.settings.data_dir)
        with hold(self.settings.data_dir), contextlib.ExitStack() as stack:
            address = stack.enter_context(reserve(self.settings.listen))
            peer_listen = self.settings.peers.listen
            peer_address = stack.enter_context(reserve(peer_listen)) if peer_listen else None
            reader, writer = os.pipe2(os.O_CLOEXEC)
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            gc.collect()
            gc.freeze()
            self._pipe = (reader, writer)
            self._instance = uuid.uuid4().hex
            self._ready = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._addresses = (address, peer_address)
            stack.callback(self._close_listeners)
            self._crew = _crew_of(self.settings)
            self._start_all()
            self._await_workers(self._crew.size)
            self.on_listening(address)
            unmap_code()
            return self._watch()

    _pipe: tuple[int, int] = (-1, -1)
    _ready: tuple[int, int] = (-1, -1)
    _instance: str = ""
    _addresses: tuple[Address, Address | None] = (Address("", 0), None)
    _listeners: list[socket.socket] = field(default_factory=list[socket.socket])
    """One for each worker that there may be or might have been before a reload."""
    _crew: Crew = field(default_factory=lambda: Crew(rest=1, most=1))

    def _start_all(self) -> None:
        while len(self._listeners) < self.settings.workers:
            self._listeners.append(shared_listener(self._addresses[0]))
        self._start(_Child(-1, self.fetcher_main))
        for index in range(self._crew.size):
            self._start(_Child(index, self.worker_main))

    def _await_workers(self, started: int) -> None:
        """Wait until as many workers as were started listen, one has died, or it took longer than may be expected."""
        deadline, listening = time.monotonic() + _LISTEN_S, 0
        while listening < started and not self._waiting and time.monotonic() < deadline:
            readable, _, _ = select.select([self._ready[0]], [], [], _LOOK_S)
            if readable:
                listening += len(os.read(self._ready[0], 64))
            else:
                self._waiting += self._reap()

    def _start(self, child: _Child) -> None:
        address, peer_address = self._addresses
        _close(child)
        told = -1
        if child.index >= 0:
            told, child.tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        context = ChildContext(
            self.settings,
            address,
            peer_address,
            parent=self._pipe[0],
            ready=self._ready[1],
            index=child.index,
            instance=self._instance,
            listeners=tuple(listener.fileno() for listener in self._listeners) if child.index >= 0 else (),
            sharing=self._crew.size,
            told=told,
        )
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            others = [child.tell] if child.index >= 0 else [listener.fileno() for listener in self._listeners]
            _become(child.main, context, not_ours=[self._pipe[1], *others])
        if told >= 0:
            os.close(told)
        child.pid, child.started_at, child.due_at = pid, time.monotonic(), None
        self._children[pid] = child

    def _watch(self) -> int:
        while True:
            now = time.monotonic()
            for child in [child for child in self._waiting if child.due_at is not None and child.due_at <= now]:
                self._waiting.remove(child)
                self._start(child)
            if self._crew.is_due(now):
                self._look_at_workers(now)
            longest_s = LOOK_S if self._crew.varies else 60.0
            due = [child.due_at - now for child in self._waiting if child.due_at is not None]
            pause_s = min([longest_s, *due])
            received = signal.sigtimedwait(_SIGNALS, max(0.0, pause_s))
            if received is None or received.si_signo == signal.SIGCHLD:
                self._waiting += self._reap()
            elif received.si_signo == signal.SIGHUP:
                self._reload()
            else:
                return self._stop()

    def _reap(self) -> list[_Child]:
        lost: list[_Child] = []
        for pid, status in _ended():
            child = self._children.pop(pid, None)
            if child is None or pid in self._retired:
                self._retired.discard(pid)
                continue
            lived_s = time.monotonic() - child.started_at
            longest_s = _LONGEST_DELAY_S if child.index == -1 else _LONGEST_WORKER_DELAY_S
            longer_s = max(_FIRST_DELAY_S, min(longest_s, child.delay_s * 2))
            child.delay_s = _FIRST_DELAY_S if lived_s > _STEADY_S else longer_s
            child.due_at = time.monotonic() + child.delay_s
            _log.error("%s ended (%s), starting it again in %.2f s", _name(child), _describe(status), child.delay_s)
            lost.append(child)
        return lost

    def _look_at_workers(self, now: float) -> None:
        """Start more workers, or have the last ones finish what they have."""
        before = self._crew.size
        pids = [pid for pid, child in self._children.items() if child.index >= 0]
        if not self._crew.look(now, {pid: used for pid in pids if (used := used_s(pid)) is not None}):
            return
        size = self._crew.size
        _log.info("%d workers instead of %d", size, before)
        self._forget_ready()
        for index in range(before, size):
            self._start(_Child(index, self.worker_main))
        self._await_workers(size - before)
        for child in [child for child in self._waiting if child.index >= size]:
            self._waiting.remove(child)
            _close(child)
        for child in list(self._children.values()):
            if child.index >= size:
                self._retire(child)
            elif 0 <= child.index < before:
                with contextlib.suppress(OSError):  # it has ended: the next one is told when it starts
                    os.write(child.tell, bytes([size]))

    def _reload(self) -> None:
        """Start new children with the settings as they are now; the old workers finish their answers."""
        if self.reload is None:
            return
        try:
            fresh = self.reload()
        except UserError as error:
            self._refuse_reload(str(error))
            return
        fixed = (self.settings.data_dir, self.settings.listen, self.settings.peers.listen)
        if (fresh.data_dir, fresh.listen, fresh.peers.listen) != fixed:
            self._refuse_reload("the data directory and addresses need a restart")
            return
        self.settings = fresh
        old = list(self._children.values())
        fetcher = next((child for child in old if child.index == -1), None)
        if fetcher is not None:
            self._retire(fetcher)
            _await_end(fetcher.pid, _FETCHER_STOP_S)
        self._forget_ready()
        self._waiting.clear()
        self._crew = _crew_of(fresh, size=self._crew.size)
        self._start_all()
        self._await_workers(self._crew.size)
        for child in old:
            if child.index >= 0:
                self._retire(child)
        _log.info("reloaded the settings")

    def _forget_ready(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._ready[0], 4096)

    def _refuse_reload(self, why: str) -> None:
        """Tell the log, and whoever asked for the reload."""
        _log.error("the settings are unchanged: %s", why)
        with contextlib.suppress(OSError):
            (self.settings.data_dir / RELOAD_REFUSED).write_text(why)

    def _retire(self, child: _Child) -> None:
        self._retired.add(child.pid)
        self._children.pop(child.pid, None)
        _close(child)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)

    def _stop(self) -> int:
        """Stop the workers, when they have drained the fetcher, and whoever does not stop by force."""
        self._close_listeners()
        fetchers = [pid for pid, child in self._children.items() if child.index == -1]
        workers = [pid for pid in (*self._children, *self._retired) if pid not in fetchers]
        clean = _end(workers, self.settings.drain_s + 2.0)
        return 0 if _end(fetchers, _FETCHER_STOP_S) and clean else 1

    def _close_listeners(self) -> None:
        """Let nobody wait here any more."""
        while self._listeners:
            self._listeners.pop().close()


def _crew_of(settings: MirrorSettings, *, size: int | None = None) -> Crew:
    return Crew(rest=settings.workers_at_rest or settings.workers, most=settings.workers, size=size)


def _close(child: _Child) -> None:
    if child.tell >= 0:
        os.close(child.tell)
        child.tell = -1


def _become(main: ChildMain, context: ChildContext, *, not_ours: list[int]) -> NoReturn:
    status = 1
    try:
        for descriptor in not_ours:
            os.close(descriptor)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        main(context)
        status = 0
    except BaseException:
        _log.exception("process %d failed", context.index)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _ended() -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    with contextlib.suppress(ChildProcessError):
        while (result := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append(result)
    return ended


def _await_end(pid: int, limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        signal.sigtimedwait((signal.SIGCHLD,), min(0.1, max(0.0, deadline - time.monotonic())))
    return False


def _end(pids: list[int], limit_s: float) -> bool:
    """Send SIGTERM, wait, send SIGKILL to who is left; return whether nobody was."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + limit_s
    left = [pid for pid in pids if not _await_end(pid, deadline - time.monotonic())]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _await_end(pid, 5.0)
    return not left


def _name(child: _Child) -> str:
    return "the fetcher" if child.index == -1 else f"worker {child.index}"


def _describe(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"
