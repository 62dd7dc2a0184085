"""The supervisor: holds the data directory and the port, forks the fetcher and the workers, restarts what dies.

It has no event loop and no threads, so that forking is safe at any time and the children share its imported code: that
is what keeps several processes within the memory of little more than one. When it dies, however it dies, the children
see the end of a pipe and stop.

Each worker has a listening socket of its own, which the supervisor holds too: clients that wait in it are not reset
when the worker ends, but served by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
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
from pathlib import Path
from typing import ClassVar, Final, NoReturn

from hunqi.errors import UserError
from hunqi.mirror.settings import Address, MirrorSettings
from hunqi.mirror.store.errors import StoreDirectoryError

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


class AlreadyServingError(UserError):
    """Another instance serves the same data directory."""

    code: ClassVar[str] = "mirror.already_serving"


class ListenError(UserError):
    """The address cannot be listened on."""

    code: ClassVar[str] = "mirror.listen"


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
    """Descriptors of the sockets in which clients of a worker wait; they are the worker's to close."""


ChildMain = Callable[[ChildContext], None]


@dataclass(slots=True)
class _Child:
    index: int
    main: ChildMain
    pid: int = 0
    started_at: float = 0.0
    delay_s: float = 0.0
    due_at: float | None = None


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
            address = stack.enter_context(_reserve(self.settings.listen))
            peer_listen = self.settings.peers.listen
            peer_address = stack.enter_context(_reserve(peer_listen)) if peer_listen else None
            reader, writer = os.pipe2(os.O_CLOEXEC)
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            gc.collect()
            gc.freeze()
            self._pipe = (reader, writer)
            self._instance = uuid.uuid4().hex
            self._ready = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._addresses = (address, peer_address)
            stack.callback(self._close_listeners)
            self._start_all()
            self._await_workers()
            self.on_listening(address)
            return self._watch()

    _pipe: tuple[int, int] = (-1, -1)
    _ready: tuple[int, int] = (-1, -1)
    _instance: str = ""
    _addresses: tuple[Address, Address | None] = (Address("", 0), None)
    _listeners: list[socket.socket] = field(default_factory=list[socket.socket])
    """One for each worker, and those of workers that a reload took away, shared among the others."""

    def _start_all(self) -> None:
        while len(self._listeners) < self.settings.workers:
            self._listeners.append(shared_listener(self._addresses[0]))
        self._start(_Child(-1, self.fetcher_main))
        for index in range(self.settings.workers):
            self._start(_Child(index, self.worker_main))

    def _await_workers(self) -> None:
        """Wait until as many workers as were started listen, one has died, or it took longer than may be expected."""
        deadline, listening = time.monotonic() + _LISTEN_S, 0
        while listening < self.settings.workers and not self._waiting and time.monotonic() < deadline:
            readable, _, _ = select.select([self._ready[0]], [], [], _LOOK_S)
            if readable:
                listening += len(os.read(self._ready[0], 64))
            else:
                self._waiting += self._reap()

    def _start(self, child: _Child) -> None:
        address, peer_address = self._addresses
        own = self._listeners[child.index :: self.settings.workers] if child.index >= 0 else []
        context = ChildContext(
            self.settings,
            address,
            peer_address,
            parent=self._pipe[0],
            ready=self._ready[1],
            index=child.index,
            instance=self._instance,
            listeners=tuple(listener.fileno() for listener in own),
        )
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            others = [listener.fileno() for listener in self._listeners if listener not in own]
            _become(child.main, context, not_ours=[self._pipe[1], *others])
        child.pid, child.started_at, child.due_at = pid, time.monotonic(), None
        self._children[pid] = child

    def _watch(self) -> int:
        while True:
            now = time.monotonic()
            for child in [child for child in self._waiting if child.due_at is not None and child.due_at <= now]:
                self._waiting.remove(child)
                self._start(child)
            pause_s = min((child.due_at - now for child in self._waiting if child.due_at is not None), default=60.0)
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
        with contextlib.suppress(BlockingIOError):
            os.read(self._ready[0], 64)
        self._waiting.clear()
        self._start_all()
        self._await_workers()
        for child in old:
            if child.index >= 0:
                self._retire(child)
        _log.info("reloaded the settings")

    def _refuse_reload(self, why: str) -> None:
        """Tell the log, and whoever asked for the reload."""
        _log.error("the settings are unchanged: %s", why)
        with contextlib.suppress(OSError):
            (self.settings.data_dir / RELOAD_REFUSED).write_text(why)

    def _retire(self, child: _Child) -> None:
        self._retired.add(child.pid)
        self._children.pop(child.pid, None)
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


def make_private(data_dir: Path) -> None:
    """Make the data directory, readable by its owner only; raise :class:`StoreDirectoryError`."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreDirectoryError(f"{data_dir} cannot be made: {error.strerror}; choose another with --data") from error


@contextlib.contextmanager
def hold(data_dir: Path):
    """Hold the data directory; the children inherit the hold, so it lasts as long as any of them."""
    fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(fd, 32, 0).decode(errors="replace").strip()
            raise AlreadyServingError(
                f"another instance (process {owner or 'unknown'}) serves {data_dir}: stop it or choose another --data"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _reserve(wanted: Address):
    """Hold a port without listening, so that the workers can share it and nobody else listens there unseen."""
    family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe, socket.socket(family, socket.SOCK_STREAM) as sock:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((wanted.host, wanted.port))
            probe.close()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((wanted.host, wanted.port))
        except OSError as error:
            remedy = "choose another with --listen" if error.errno == errno.EADDRINUSE else "see --listen"
            raise ListenError(f"cannot listen on {wanted}: {error.strerror}; {remedy}") from error
        yield Address(wanted.host, sock.getsockname()[1])


def shared_listener(address: Address) -> socket.socket:
    """Return a listening socket that shares its port with those of the other workers."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address.host, address.port))
    sock.listen(1024)
    sock.setblocking(False)
    return sock


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
