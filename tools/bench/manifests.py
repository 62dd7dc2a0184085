"""Warm manifests: 1,000 repositories over 32 connections, by digest and by tag, alone and beside big downloads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.bench.clients import curls, get_whole, write_script, wrk
from tools.bench.model import Bench, BenchError, Row, Samples, in_turns
from tools.bench.rivals import BLOB_BYTES, REPOSITORY, big_blob, big_image, check_blob, mirror_of, ours

from testbed import images
from testbed.images import Image, Pusher
from testbed.registry import RealRegistry, real_registry

REPOSITORIES: Final = 1000
_LAYERS: Final = 4
_BULK_CLIENTS: Final = 3
_PUSHERS: Final = 6
_NEEDED: Final = 10.0
_TAG_SHARE: Final = 0.8
_P99_MS: Final = 20.0


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the rows of warm manifests."""
    folder = bench.base / "manifests"
    shared = [images.payload_layer(1000, seed=number) for number in range(_LAYERS)]
    repositories = {f"bench/r{number:04}": images.compose(shared, label=str(number)) for number in range(REPOSITORIES)}
    with ExitStack() as stack:
        world = stack.enter_context(real_registry(folder / "world"))
        bench.say(f"manifests: pushing {REPOSITORIES} repositories to the upstream")
        _push(world, repositories)
        world.push(big_image(), REPOSITORY)
        mirror = stack.enter_context(mirror_of(folder / "ours", world.direct_url))
        rival = stack.enter_context(real_registry(folder / "rival", mirror_of=world.direct_url))
        for base, prefix in ((mirror.base_url, "docker.io/"), (rival.direct_url, "")):
            bench.say(f"manifests: warming {base}")
            _warm(base, prefix, repositories)
        check_blob(ours(mirror.base_url))
        yield from _rows(bench, _Targets.of(folder, mirror.base_url, rival.direct_url, repositories))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Targets:
    """What wrk asks for."""

    mirror: str
    rival: str
    digests: Path
    tags: Path
    rival_digests: Path

    @classmethod
    def of(cls, folder: Path, mirror: str, rival: str, repositories: dict[str, Image]) -> _Targets:
        by_digest = [f"{name}/manifests/{image.digest}" for name, image in repositories.items()]
        by_tag = [f"{name}/manifests/latest" for name in repositories]
        return cls(
            mirror=mirror,
            rival=rival,
            digests=write_script(folder, "digests", [f"/v2/docker.io/{path}" for path in by_digest]),
            tags=write_script(folder, "tags", [f"/v2/docker.io/{path}" for path in by_tag]),
            rival_digests=write_script(folder, "rival", [f"/v2/{path}" for path in by_digest]),
        )


def _rows(bench: Bench, targets: _Targets) -> Iterator[Row]:
    late = Samples()

    def load(name: str, url: str, script: Path) -> Callable[[], float]:
        def run() -> float:
            found = wrk(url, script)
            late.add(name, found.p99_ms)
            return found.requests_s

        return run

    def bulk() -> float:
        url = f"{ours(targets.mirror)}/blobs/{big_blob()}"
        with curls(url, BLOB_BYTES, connections=_BULK_CLIENTS):
            found = wrk(targets.mirror, targets.digests)
        late.add("bulk", found.p99_ms)
        return found.requests_s

    found = in_turns(
        bench,
        "manifests",
        {
            "digest": load("digest", targets.mirror, targets.digests),
            "tag": load("tag", targets.mirror, targets.tags),
            "docker-registry": load("docker-registry", targets.rival, targets.rival_digests),
            "bulk": bulk,
        },
    )
    digest, tag, rival = (found.text(name, digits=0) for name in ("digest", "tag", "docker-registry"))
    yield Row(
        name=f"warm manifest by digest, {REPOSITORIES:,} repositories / docker-registry",
        value=found.ratio("digest", "docker-registry"),
        bar=_NEEDED,
        at_least=True,
        figures=f"{digest} against {rival} requests/s",
    )
    yield Row(
        name="warm manifest by tag / by digest",
        value=found.ratio("tag", "digest"),
        bar=_TAG_SHARE,
        at_least=True,
        figures=f"{tag} against {digest} requests/s",
    )
    for name, title in (("digest", "by digest"), ("tag", "by tag"), ("bulk", f"beside {_BULK_CLIENTS} big downloads")):
        rate = found.text(name, digits=0)
        yield Row(
            name=f"warm manifest {title}, p99",
            value=late.median(name),
            bar=_P99_MS,
            unit="ms",
            digits=1,
            figures=f"{late.text(name, digits=1)} ms at {rate} requests/s",
        )


def _push(world: RealRegistry, repositories: dict[str, Image]) -> None:
    def push(item: tuple[str, Image]) -> None:
        Pusher(base_url=world.direct_url).push(item[1], item[0])

    with ThreadPoolExecutor(_PUSHERS) as pool:
        list(pool.map(push, repositories.items()))


def _warm(base_url: str, prefix: str, repositories: dict[str, Image]) -> None:
    """Ask for every tag and every digest once, and compare the bytes."""

    def ask(item: tuple[str, Image]) -> None:
        name, image = item
        for reference in ("latest", image.digest):
            body = get_whole(f"{base_url}/v2/{prefix}{name}/manifests/{reference}")
            if body != image.root.data or "layers" not in json.loads(body):
                raise BenchError(f"{base_url} sent a wrong manifest for {name}:{reference}")

    with ThreadPoolExecutor(_PUSHERS) as pool:
        list(pool.map(ask, repositories.items()))
