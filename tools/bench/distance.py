"""An upstream 100 ms away: a client that pulls an image of 20 layers, three at a time, as Docker does.

The upstream demands Bearer tokens, as public registries do; its token server is as far away.
"""

from __future__ import annotations

import http.client
import json
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tools.bench.model import Bench, BenchError, Row, in_turns
from tools.bench.rivals import REPOSITORY, TAG, mirror_of, ours, theirs

from testbed import images
from testbed.client import MANIFEST_TYPES
from testbed.registry import Auth, RealRegistry, real_registry

LATENCY_S: Final = 0.1
_LAYERS: Final = [256 * 1024] * 20
_AT_ONCE: Final = 3
_SHARE: Final = 0.25


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the row of a far upstream."""
    folder = bench.base / "distance"
    image = images.opaque(_LAYERS, seed="distance")
    with real_registry(
        folder / "world", auth=Auth.BEARER, public=(REPOSITORY,), seed={f"{REPOSITORY}:{TAG}": image}, own_process=True
    ) as world:
        world.wire.set_link(latency_s=LATENCY_S)
        if world.tokens is not None:
            world.tokens.server.link.latency_s = LATENCY_S
        found = in_turns(
            bench,
            "an upstream 100 ms away",
            {"ours": lambda: _ours(folder, world, image), "docker-registry": lambda: _theirs(folder, world, image)},
        )
    yield Row(
        name=f"upstream {LATENCY_S * 1000:.0f} ms away, {len(_LAYERS)} layers, {_AT_ONCE} at a time: "
        "time / docker-registry",
        value=found.ratio("ours", "docker-registry"),
        bar=_SHARE,
        figures=f"{found.text('ours')} against {found.text('docker-registry')} s",
    )


def _ours(folder: Path, world: RealRegistry, image: images.Image) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as data, mirror_of(Path(data), world.url) as mirror:
        return pull(ours(mirror.base_url), image)


def _theirs(folder: Path, world: RealRegistry, image: images.Image) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as data, real_registry(Path(data), mirror_of=world.url) as rival:
        return pull(theirs(rival.direct_url), image)


def pull(repository_url: str, image: images.Image) -> float:
    """Pull a whole image and return the seconds; raise :class:`BenchError` unless every byte is right."""
    begun = time.monotonic()
    client = _Client(repository_url)
    client.ask("HEAD", f"/manifests/{TAG}")
    body = client.ask("GET", f"/manifests/{image.digest}")
    client.close()
    if body != image.root.data:
        raise BenchError(f"a wrong manifest from {repository_url}")
    document = json.loads(body)
    left: queue.SimpleQueue[str] = queue.SimpleQueue()
    for descriptor in (document["config"], *document["layers"]):
        left.put(descriptor["digest"])
    failures: list[BaseException] = []
    threads = [threading.Thread(target=_take, args=(repository_url, left, failures)) for _ in range(_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise BenchError(f"a pull from {repository_url} failed") from failures[0]
    return time.monotonic() - begun


def _take(repository_url: str, left: queue.SimpleQueue[str], failures: list[BaseException]) -> None:
    client = _Client(repository_url)
    try:
        while not left.empty():
            digest = left.get_nowait()
            if images.digest_of(client.ask("GET", f"/blobs/{digest}")) != digest:
                raise BenchError(f"wrong bytes for {digest}")
    except queue.Empty:
        pass
    except Exception as error:
        failures.append(error)
    finally:
        client.close()


class _Client:
    """One connection of a pulling client."""

    def __init__(self, repository_url: str) -> None:
        parts = urlsplit(repository_url)
        self._path = parts.path
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=60.0)

    def ask(self, method: str, target: str) -> bytes:
        """Return a body; raise :class:`BenchError` for anything but a success."""
        self._connection.request(method, self._path + target, headers={"Accept": MANIFEST_TYPES})
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise BenchError(f"{method} {target}: {response.status} {body[:200]!r}")
        return body

    def close(self) -> None:
        """Leave."""
        self._connection.close()
