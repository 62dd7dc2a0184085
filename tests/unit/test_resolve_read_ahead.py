"""Which blobs are read ahead, in which order, how many at a time; and what warming walks through."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from hunqi.mirror.names import Target
from hunqi.mirror.resolve.read_ahead import REPEAT_AFTER_S, ReadAhead
from hunqi.mirror.resolve.warm import NoSuchPlatform, WarmBlob, WarmManifest, warm
from hunqi.mirror.settings import SMALL_BLOB, SMALL_PARALLEL, FetchSettings
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest
from hunqi.oci.reference import Reference, Tag
from support_resolve import Clock

HOME = Target("docker.io", "library/x")
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"


def blob(name: str, media_type: str = "application/octet-stream") -> Descriptor:
    return Descriptor(media_type=media_type, digest=Digest.of(name.encode()), size=SMALL_BLOB + len(name))


def image(*names: str) -> Manifest:
    config, *layers = (blob(name) for name in names)
    return Manifest(media_type=OCI_MANIFEST, config=config, layers=tuple(layers))


class Shelf:
    """Manifests and stored digests in memory: the room's own port."""

    def __init__(self, **manifests: Manifest) -> None:
        self.manifests = {Digest.of(name.encode()): manifest for name, manifest in manifests.items()}
        self.stored: set[Digest] = set()

    def manifests_of(self, key: str, blob: Digest) -> Sequence[tuple[Digest, Manifest]]:
        assert key == HOME.key
        return [pair for pair in self.manifests.items() if any(one.digest == blob for one in pair[1].blobs)]

    def is_stored(self, digest: Digest) -> bool:
        return digest in self.stored

    def open_manifest(self, target: Target, reference: Reference) -> tuple[Digest, Manifest]:
        assert target == HOME
        digest = reference if isinstance(reference, Digest) else Digest.of(reference.name.encode())
        return digest, self.manifests[digest]


class Fetches:
    def __init__(self, *, ends_at_once: bool = False) -> None:
        self.started: list[Digest] = []
        self.running: list[Callable[[], None]] = []
        self._ends_at_once = ends_at_once

    def __call__(self, target: Target, wanted: Descriptor, done: Callable[[], None]) -> None:
        self.started.append(wanted.digest)
        if self._ends_at_once:
            done()
        else:
            self.running.append(done)


def digests(*names: str) -> list[Digest]:
    return [Digest.of(name.encode()) for name in names]


def read_ahead(shelf: Shelf, fetches: Fetches, clock: Clock, settings: FetchSettings | None = None) -> ReadAhead:
    settings = settings or FetchSettings(read_ahead_parallel=2)
    return ReadAhead(shelf=shelf, settings=settings, clock=clock, start_fetch=fetches)


def test_the_rest_of_the_image_begins_in_order_and_bounded() -> None:
    fetches = Fetches()
    ahead = read_ahead(Shelf(m=image("c", "a", "b", "d")), fetches, Clock())
    assert ahead.note_blob(HOME, Digest.of(b"c")) == 3
    assert fetches.started == digests("a", "b")
    done = fetches.running[0]
    done()
    done()
    assert fetches.started == digests("a", "b", "d")


def test_an_image_is_read_ahead_once_in_a_while() -> None:
    clock, fetches = Clock(), Fetches(ends_at_once=True)
    ahead = read_ahead(Shelf(m=image("c", "a")), fetches, clock)
    assert ahead.note_blob(HOME, Digest.of(b"c")) == 1
    assert ahead.note_blob(HOME, Digest.of(b"a")) == 0
    clock.pass_s(REPEAT_AFTER_S)
    assert ahead.note_blob(HOME, Digest.of(b"c")) == 1


def test_stored_foreign_and_repeated_blobs_are_left_out() -> None:
    manifest = image("c", "a", "a", "b")
    foreign = Manifest(media_type=OCI_MANIFEST, config=manifest.config, layers=(*manifest.layers, blob("f", FOREIGN)))
    shelf, fetches = Shelf(m=foreign), Fetches(ends_at_once=True)
    shelf.stored.add(Digest.of(b"b"))
    read_ahead(shelf, fetches, Clock()).note_blob(HOME, Digest.of(b"c"))
    assert fetches.started == digests("a")


def test_the_manifest_that_was_asked_for_last_is_the_one() -> None:
    shelf, fetches = Shelf(m=image("base", "a"), n=image("base", "b")), Fetches(ends_at_once=True)
    ahead = read_ahead(shelf, fetches, Clock())
    ahead.note_manifest(HOME, Digest.of(b"n"))
    ahead.note_blob(HOME, Digest.of(b"base"))
    assert fetches.started == digests("b")


def test_it_can_be_off_and_local_repositories_have_none() -> None:
    fetches = Fetches()
    off = read_ahead(Shelf(m=image("c", "a")), fetches, Clock(), FetchSettings(read_ahead=False))
    assert off.note_blob(HOME, Digest.of(b"c")) == 0
    assert read_ahead(Shelf(), fetches, Clock()).note_blob(Target(None, "team/x"), Digest.of(b"c")) == 0
    assert fetches.started == []


def test_fetches_that_end_at_once_or_fail_do_not_stop_the_next() -> None:
    names = ["c", *(f"l{number}" for number in range(500))]
    quick = Fetches(ends_at_once=True)
    read_ahead(Shelf(m=image(*names)), quick, Clock()).note_blob(HOME, Digest.of(b"c"))
    assert len(quick.started) == 500
    tried: list[Digest] = []

    def fail(target: Target, wanted: Descriptor, done: Callable[[], None]) -> None:
        tried.append(wanted.digest)
        raise RuntimeError

    settings = FetchSettings(read_ahead_parallel=2)
    failing = ReadAhead(shelf=Shelf(m=image("c", "a", "b", "d")), settings=settings, clock=Clock(), start_fetch=fail)
    failing.note_blob(HOME, Digest.of(b"c"))
    assert tried == digests("a", "b", "d")


def child(name: str, platform: str | None) -> Descriptor:
    return Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(name.encode()), size=1, platform=platform)


def multi() -> Shelf:
    children = (child("amd", "linux/amd64"), child("arm", "linux/arm64/v8"))
    return Shelf(
        latest=Manifest(media_type=OCI_INDEX, manifests=children),
        amd=image("ca", "base", "la"),
        arm=image("cb", "base", "lb"),
    )


def walk(shelf: Shelf, *platforms: str) -> tuple[list[str | None], list[Digest]]:
    steps = list(warm(shelf, HOME, Tag("latest"), platforms))
    manifests = [step.platform for step in steps if isinstance(step, WarmManifest)]
    return manifests, [step.blob.digest for step in steps if isinstance(step, WarmBlob)]


def test_warming_takes_all_platforms_and_each_blob_once() -> None:
    assert walk(multi()) == (
        [None, "linux/amd64", "linux/arm64/v8"],
        digests("ca", "base", "la", "cb", "lb"),
    )


def test_warming_takes_the_platforms_that_were_asked_for() -> None:
    assert walk(multi(), "linux/arm64") == ([None, "linux/arm64/v8"], digests("cb", "base", "lb"))


def test_a_platform_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(NoSuchPlatform) as caught:
        walk(multi(), "linux/arm")
    assert caught.value.available == ("linux/amd64", "linux/arm64/v8")


def test_warming_tells_what_is_here_already() -> None:
    shelf = multi()
    shelf.stored.add(Digest.of(b"base"))
    steps = [step for step in warm(shelf, HOME, Tag("latest")) if isinstance(step, WarmBlob) and step.is_stored]
    assert [step.blob.digest for step in steps] == digests("base")


def test_small_blobs_cost_a_round_trip_so_many_are_read_ahead_at_once() -> None:
    small = [Descriptor(media_type="x", digest=Digest.of(bytes([number])), size=SMALL_BLOB) for number in range(40)]
    fetches = Fetches()
    shelf = Shelf(m=Manifest(media_type=OCI_MANIFEST, config=small[0], layers=tuple(small[1:])))
    assert read_ahead(shelf, fetches, Clock()).note_blob(HOME, small[0].digest) == 39
    assert fetches.started == [one.digest for one in small[1 : SMALL_PARALLEL + 1]]
