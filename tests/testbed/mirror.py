"""A ``hunqi mirror serve`` in processes of its own, as a user starts it: to be asked, measured and killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from hunqi.mirror.access.model import Grant
from hunqi.mirror.access.users import UsersFile
from testbed.authority import Authority
from testbed.processes import children, descendants, is_alive, listeners, open_files, pss_bytes, wait_for
from testbed.programs import Daemon, ProcessFailedError, free_port, run

_READY_S: Final = 20.0
_REACHED_AT: Final[Mapping[str, str]] = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
_FORGOTTEN: Final = ("HUNQI_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class RunningMirror:
    """A context manager around one data directory and one port; the processes may come and go inside it."""

    def __init__(
        self,
        directory: Path,
        *,
        upstreams: Mapping[str, str] | None = None,
        relays: Sequence[tuple[str, str]] = (),
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        workers: int | None = None,
        config: str | None = None,
        listen: str = "127.0.0.1",
        authority: Authority | None = None,
    ) -> None:
        """``upstreams`` and ``relays`` map an upstream's name to a URL; ``args`` are further arguments of ``serve``.

        ``config`` is the text of a ``hunqi.toml``. ``listen`` is the host of ``--listen``, as it stands there. With an
        ``authority`` the mirror serves https with a certificate of it.
        """
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "mirror.log"
        self.port = free_port()
        self.args = list(args)
        self.upstreams = dict(upstreams or {})
        self.relays = list(relays)
        self.workers = workers
        self.config = config
        self.env = dict(env or {})
        self.listen = listen
        self.scheme = "https" if authority else "http"
        self.tls = authority.client_context() if authority else None
        if authority:
            credential = authority.issue("mirror", hosts=("127.0.0.1", "localhost", "::1"))
            self.args += ["--tls-cert", str(credential.cert_file), "--tls-key", str(credential.key_file)]
        self._daemon: Daemon | None = None

    def __enter__(self) -> Self:
        """Start and wait until it is ready."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        """Stop; when the test failed, show the end of the log."""
        if value is not None:
            print(f"--- last lines of {self.log}\n{self.tail()}", file=sys.stderr)
        if self._daemon is not None:
            self.stop()

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``, as it stands in image references."""
        return f"{_REACHED_AT.get(self.listen, self.listen)}:{self.port}"

    @property
    def base_url(self) -> str:
        """Where it serves."""
        return f"{self.scheme}://{self.host}"

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._running().pid

    def command(self) -> list[str]:
        """Return the command line that :meth:`start` runs."""
        address = f"{self.listen}:{self.port}"
        command = [sys.executable, "-m", "hunqi", "mirror", "serve", "--listen", address, "--data", str(self.data)]
        for name, url in self.upstreams.items():
            command += ["--upstream", f"{name}={url}"]
        for name, url in self.relays:
            command += ["--relay", f"{name}={url}"]
        if self.workers is not None:
            command += ["--workers", str(self.workers)]
        if self.config is not None:
            command += ["--config", str(self.directory / "hunqi.toml")]
        return command + self.args

    def start(self, *, timeout_s: float = _READY_S) -> None:
        """Start the processes; raise :class:`ProcessFailedError` with the log's tail when it does not become ready."""
        self.data.mkdir(parents=True, exist_ok=True)
        if self.config is not None:
            (self.directory / "hunqi.toml").write_text(self.config)
        self._daemon = Daemon(self.command(), log=self.log, env=self.environment())
        try:
            self._daemon.wait_until(self.is_ready, timeout_s=timeout_s)
        except ProcessFailedError:
            self.kill_all()
            raise

    def environment(self) -> dict[str, str]:
        """Return the environment of the processes: this one's without proxies and settings, and the given one."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_FORGOTTEN)}
        return {**kept, "PYTHONUNBUFFERED": "1", **self.env}

    def is_ready(self) -> bool:
        """Whether ``/readyz`` answers 200."""
        try:
            with urllib.request.urlopen(f"{self.base_url}/readyz", timeout=2.0, context=self.tls) as response:
                return response.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def stop(self, *, timeout_s: float = 30.0) -> int:
        """SIGTERM and wait; return the exit status."""
        daemon, self._daemon = self._running(), None
        below = descendants(daemon.pid)
        status = daemon.stop(timeout_s=timeout_s)
        for pid in below:
            wait_for(lambda pid=pid: not is_alive(pid), timeout_s=10.0, what=f"end of process {pid}")
        return status

    def add_user(self, name: str, password: str, *grants: str) -> None:
        """Add a user with grants such as ``team:pull,push``; also while the mirror is not running."""
        self.data.mkdir(parents=True, exist_ok=True)
        UsersFile(self.data / "users.json").add(name, password, [Grant.parse(grant) for grant in grants])

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        os.kill(self.pid, signal.SIGTERM)

    def reload(self) -> None:
        """SIGHUP."""
        os.kill(self.pid, signal.SIGHUP)

    def kill_all(self) -> None:
        """SIGKILL to every process at once, as a power cut would."""
        daemon, self._daemon = self._running(), None
        below = [daemon.pid, *descendants(daemon.pid)]
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        daemon.process.wait(5.0)
        for pid in below:
            wait_for(lambda pid=pid: not is_alive(pid), timeout_s=10.0, what=f"end of process {pid}")

    def kill_one(self, number: int = 0) -> int:
        """SIGKILL to one child of the supervisor, by its position in :meth:`children`; return its pid."""
        pid = self.children()[number]
        os.kill(pid, signal.SIGKILL)
        return pid

    def restart(self) -> None:
        """Stop if it runs, and start on the same data and port."""
        if self._daemon is not None:
            self.stop()
        self.start()

    def children(self) -> list[int]:
        """Return the supervisor's children: the fetcher and the workers, in the order of their birth."""
        return children(self.pid)

    def worker_pids(self) -> list[int]:
        """Return the pids of the workers that listen now."""
        return listeners(self.children(), port=self.port)

    def fetcher_pid(self) -> int | None:
        """Return the pid of the fetcher, told by its Unix socket; None while there is none."""
        return next(iter(listeners(self.children())), None)

    def pids(self) -> list[int]:
        """Return all process ids, the supervisor's first."""
        return [self.pid, *descendants(self.pid)]

    def pss_bytes(self) -> int:
        """Return the proportional set size of all processes together."""
        return sum(pss_bytes(pid) for pid in self.pids())

    def open_files(self) -> list[str]:
        """Return what all open descriptors of all processes point to."""
        return [target for pid in self.pids() for target in open_files(pid)]

    def tail(self, lines: int = 40) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def metrics(self) -> dict[str, float]:
        """Return ``/metrics`` as sample (with its labels) to value."""
        with urllib.request.urlopen(f"{self.base_url}/metrics", timeout=10.0, context=self.tls) as response:
            lines = response.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def cli(self, *args: str, timeout_s: float = 60.0, check: bool = True) -> str:
        """Run ``hunqi mirror ARGS --data DIR`` and return what it printed."""
        command = [sys.executable, "-m", "hunqi", "mirror", *args, "--data", str(self.data)]
        return run(command, timeout_s=timeout_s, env=self.environment(), check=check).stdout

    def cli_json(self, *args: str) -> object:
        """Run :meth:`cli` with ``--json`` and return what it printed, parsed."""
        return json.loads(self.cli(*args, "--json"))

    def _running(self) -> Daemon:
        if self._daemon is None:
            raise RuntimeError("the mirror is not running")
        return self._daemon


@contextlib.contextmanager
def chain(
    directory: Path, *, length: int, upstream: tuple[str, str], args: Sequence[str] = ()
) -> Generator[list[RunningMirror]]:
    """Run ``length`` mirrors, the first at the upstream and each next one with the one before as its relay."""
    name, url = upstream
    with contextlib.ExitStack() as stack:
        mirrors: list[RunningMirror] = []
        for number in range(length):
            relays = [(name, mirrors[-1].base_url)] if mirrors else []
            mirror = RunningMirror(directory / str(number), upstreams={name: url}, relays=relays, args=args)
            mirrors.append(stack.enter_context(mirror))
        yield mirrors
