"""Four mirrors that are peers, one cold blob for a client of each: what the world sends, also when the owner is killed.

The owner is the peer that downloads the blob from the world for all. It is killed with all its processes when it has a
third of the blob; the clients of the three others must not notice.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.bench.clients import get_whole
from tools.bench.model import Bench, BenchError, Row, Samples
from tools.bench.rivals import BLOB_BYTES, TAG, big_blob, big_world, ours

from testbed import images
from testbed.cluster import cluster
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.registry import RealRegistry

PEERS: Final = 4
_PACE_BYTES_S: Final = 8 * images.MIB
_SENT: Final = 1.02
_SENT_KILLED: Final = 1.3
_KILLED_AT: Final = 3
"""The owner is killed when the world has sent one part in so many."""
_MIDDLE_S: Final = 60.0


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
    with (
        tempfile.TemporaryDirectory(dir=folder) as data,
        cluster(Path(data), count=PEERS, upstreams={"docker.io": world.url}) as four,
    ):
        for node in four.nodes:
            get_whole(f"{ours(node.base_url)}/manifests/{TAG}")
        owner = four.by_rank(big_blob())[0]
        clients = [_Client(node) for node in four.nodes]
        for client in clients:
            client.start()
        if kill:
            limit = BLOB_BYTES // _KILLED_AT
            wait_for(lambda: world.wire.sent_bytes("/blobs/") > limit, timeout_s=_MIDDLE_S, what="a third of the blob")
            owner.kill_all()
            clients = [client for client in clients if client.mirror is not owner]
        for client in clients:
            client.finish()
        return float(world.wire.sent_bytes("/blobs/"))


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
