"""32 clients, one cold image: what the upstream sends, and how long after the first the last client is served."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.bench.model import Bench, Row, Samples
from tools.bench.readers import Reader, read_together
from tools.bench.rivals import PACE_BYTES_S, REPOSITORY, TAG, mirror_of

from testbed import images
from testbed.registry import RealRegistry, real_registry
from testbed.server import Link

CLIENTS: Final = 32
_LAYERS: Final = [24 * images.MIB] * 3
_SENT: Final = 1.02
_SPREAD_MS: Final = 50.0


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the rows of one cold image for many clients."""
    folder = bench.base / "fanout"
    image = images.opaque(_LAYERS, seed="fanout")
    samples = Samples()
    link = Link(pace_bytes_s=PACE_BYTES_S)
    with real_registry(folder / "world", seed={f"{REPOSITORY}:{TAG}": image}, own_process=True, link=link) as world:
        for number in range(bench.rounds):
            bench.say(f"{CLIENTS} clients, one cold image: round {number + 1} of {bench.rounds}")
            _round(folder, world, image, samples)
    wanted = image.size_bytes + len(image.root.data)
    sent = samples.median("sent")
    yield Row(
        name=f"{CLIENTS} clients, one cold image: upstream sends / the image",
        value=sent / wanted,
        bar=_SENT,
        digits=3,
        figures=f"{samples.text('sent', digits=0)} of {wanted:,} bytes, {CLIENTS} right copies",
    )
    later = samples.text("later", scale=1e3, digits=1)
    yield Row(
        name=f"{CLIENTS} clients, one cold image: last client's first byte after the first client's",
        value=samples.median("first") * 1e3,
        bar=_SPREAD_MS,
        unit="ms",
        digits=1,
        figures=f"{samples.text('first', scale=1e3, digits=1)} ms for the first layer; worst other layer {later} ms",
    )


def _round(folder: Path, world: RealRegistry, image: images.Image, samples: Samples) -> None:
    world.wire.forget()
    base = f"/v2/docker.io/{REPOSITORY}"
    with (
        tempfile.TemporaryDirectory(dir=folder) as data,
        mirror_of(Path(data), world.url) as mirror,
        contextlib.ExitStack() as stack,
    ):
        readers = [Reader(mirror.base_url) for _ in range(CLIENTS)]
        for reader in readers:
            stack.callback(reader.close)
        read_together(readers, f"{base}/manifests/{TAG}", image.root.data)
        spreads = {digest: read_together(readers, f"{base}/blobs/{digest}", blob) for digest, blob in _blobs(image)}
    first, *others = (spreads[digest] for digest in image.layers)
    samples.add("first", first)
    samples.add("later", max(others))
    samples.add("sent", world.wire.sent_bytes())


def _blobs(image: images.Image) -> list[tuple[str, bytes]]:
    """Return the layers and then the configuration: the first layer is to be cold."""
    layers = [(digest, image.blobs[digest]) for digest in image.layers]
    return layers + [(digest, blob) for digest, blob in image.blobs.items() if digest not in image.layers]
