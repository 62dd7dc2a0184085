"""Four mirrors that are peers, one cold blob for a client of each: what the world sends, also when the owner is killed.

The owner is the peer that downloads the blob from the world for all. It is killed with all its processes when it has a
third of the blob; the clients of the three others must not notice.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.bench.clients import get_whole
from tools.bench.model import Bench, BenchError, Row, Samples
from tools.bench.rivals import BLOB_BYTES, TAG, big_blob, big_world, mirror_of, ours

from testbed import images
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.programs import free_port, run
from testbed.registry import RealRegistry

PEERS: Final = 4
_PACE_BYTES_S: Final = 8 * images.MIB
_SENT: Final = 1.02
_SENT_KILLED: Final = 1.3
_KILLED_AT: Final = 3
"""The owner is killed when the world has sent one part in so many."""
_MIDDLE_S: Final = 60.0
_FETCHED: Final = "hunqi_mirror_fetched_bytes_total"


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the rows of peers."""
    folder = bench.base / "peers"
    samples = Samples()
    with big_world(folder / "world") as world:
        world.wire.set_link(pace_bytes_s=_PACE_BYTES_S)
        for number in range(bench.rounds):
            for name in ("all live", "owner killed"):
                bench.say(f"{PEERS} peers, {name}: round {number + 1} of {bench.rounds}")
                samples.add(name, _round(folder, world, kill=name == "owner killed"))
    for name, bar, clients in (("all live", _SENT, PEERS), ("owner killed", _SENT_KILLED, PEERS - 1)):
        yield Row(
            name=f"{PEERS} peers, one cold 256 MiB blob, {name}: the world sends / the blob",
            value=samples.median(name) / BLOB_BYTES,
            bar=bar,
            digits=3,
            figures=f"{samples.text(name, digits=0)} of {BLOB_BYTES:,} bytes, {clients} of {clients} copies right",
        )


def _round(folder: Path, world: RealRegistry, *, kill: bool) -> float:
    """Return the bytes of blobs that the world sent; raise :class:`BenchError` when a client got an error."""
    world.wire.forget()
    with tempfile.TemporaryDirectory(dir=folder) as data, contextlib.ExitStack() as stack:
        mirrors = [stack.enter_context(mirror) for mirror in cluster(Path(data), world.url)]
        for mirror in mirrors:
            get_whole(f"{ours(mirror.base_url)}/manifests/{TAG}")
        clients = [_Client(mirror) for mirror in mirrors]
        for client in clients:
            client.start()
        if kill:
            limit = BLOB_BYTES // _KILLED_AT
            wait_for(lambda: world.wire.sent_bytes("/blobs/") > limit, timeout_s=_MIDDLE_S, what="a third of the blob")
            owner = max(mirrors, key=_from_world)
            owner.kill_all()
            clients = [client for client in clients if client.mirror is not owner]
        for client in clients:
            client.finish()
        return float(world.wire.sent_bytes("/blobs/"))


def cluster(folder: Path, upstream: str) -> list[RunningMirror]:
    """Return mirrors of ``upstream``, not started, that are each other's peers by mutual TLS."""
    authority = folder / "authority"
    _hunqi("certs", "init", "--dir", str(authority))
    ports = [free_port() for _ in range(PEERS)]
    urls = [f"https://127.0.0.1:{port}" for port in ports]
    mirrors: list[RunningMirror] = []
    for number, port in enumerate(ports):
        node, certs = f"node{number}", folder / f"certs{number}"
        _hunqi("certs", "issue", node, "--host", "127.0.0.1", "--dir", str(authority), "--out", str(certs))
        args = ["--peer-listen", f"127.0.0.1:{port}", "--peer-advertise", urls[number]]
        args += [argument for url in urls for argument in ("--peer", url)]
        args += ["--peer-tls-cert", str(certs / f"{node}.pem"), "--peer-tls-key", str(certs / f"{node}.key")]
        args += ["--peer-tls-ca", str(authority / "ca.pem")]
        mirrors.append(mirror_of(folder / node, upstream, *args))
    return mirrors


def _hunqi(*args: str) -> None:
    run([sys.executable, "-m", "hunqi", "mirror", *args])


def _from_world(mirror: RunningMirror) -> float:
    """Return the bytes that a mirror fetched from elsewhere than a peer."""
    ports = [arg.rpartition(":")[2] for arg in mirror.args if arg.startswith("https://127.0.0.1:")]
    return sum(
        value
        for name, value in mirror.metrics().items()
        if name.startswith(_FETCHED) and not any(port in name for port in ports)
    )


class _Client:
    """Reads the blob from one mirror, in a thread."""

    def __init__(self, mirror: RunningMirror) -> None:
        self.mirror = mirror
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.start = self._thread.start

    def finish(self) -> None:
        """Wait for the end; raise :class:`BenchError` unless the blob came whole and right."""
        self._thread.join()
        if self._failure is not None:
            raise BenchError(f"a client of {self.mirror.base_url} got an error") from self._failure

    def _run(self) -> None:
        try:
            data = get_whole(f"{ours(self.mirror.base_url)}/blobs/{big_blob()}")
            if images.digest_of(data) != big_blob():
                raise BenchError("wrong bytes")
        except Exception as error:
            self._failure = error
