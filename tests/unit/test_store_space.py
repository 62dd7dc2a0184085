"""What leaves the store, and what must not: eviction, retention, verification, leftovers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.eviction import Eviction
from hunqi.mirror.store.eviction_plan import Marks, MarksError
from hunqi.mirror.store.gc import apply_gc, plan_gc, remove_unlinked
from hunqi.mirror.store.leftovers import LeftoverAges, collect_leftovers
from hunqi.mirror.store.model import LinkKind
from hunqi.mirror.store.retention_plan import RemovalKind, RetentionPolicy, RetentionRule
from hunqi.mirror.store.uploads import Uploads
from hunqi.mirror.store.usage import Usage
from hunqi.mirror.store.verify import Action, Fault, verify
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest
from hunqi.oci.reference import Tag


class Store:
    def __init__(self, root: Path) -> None:
        self.now = 1000.0
        self.catalogue = Catalogue.open(root, clock=lambda: self.now)
        self.files = ContentFiles(self.catalogue)
        self.usage = Usage.open(root)
        self.uploads = Uploads(self.catalogue, self.files)

    def blob(self, repo: str, data: bytes, *, pushed: bool = False) -> Digest:
        digest = Digest.of(data)
        source = self.catalogue.paths.new_tmp()
        source.write_bytes(data)
        self.files.commit(source, digest, len(data), links=[(repo, LinkKind.BLOB, pushed)])
        return digest

    def image(
        self, repo: str, *layers: Digest, tag: str | None = None, pushed: bool = False, subject: Digest | None = None
    ) -> Digest:
        document: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "layers": [{"mediaType": "x/y", "digest": str(layer), "size": 10} for layer in layers],
        }
        if subject:
            document["subject"] = {"mediaType": OCI_MANIFEST, "digest": str(subject), "size": 1}
        return self.put(repo, document, tag=tag, pushed=pushed)

    def put(self, repo: str, document: dict[str, object], *, tag: str | None, pushed: bool) -> Digest:
        data = json.dumps(document).encode()
        digest = Digest.of(data)
        tags = (Tag(tag),) if tag else ()
        manifest = Manifest.parse(data)
        self.catalogue.put_manifest(repo, data, manifest=manifest, digest=digest, tags=tags, pushed=pushed)
        return digest

    def evict(self, wanted: int = 10**12, in_use: frozenset[Digest] = frozenset()) -> list[Digest]:
        steps = Eviction(self.catalogue, self.usage).evict(wanted, in_use=lambda: in_use)
        return [digest for step in steps for digest in step.digests]

    def stored(self, digest: Digest) -> bool:
        row, file = self.catalogue.content(digest) is not None, self.files.path(digest).exists()
        assert row == file
        return row


@pytest.fixture
def store(tmp_path: Path):
    opened = Store(tmp_path / "data")
    yield opened
    opened.usage.close()
    opened.catalogue.close()


def test_nothing_leaves_up_to_the_high_mark_and_down_to_the_low_one_above_it() -> None:
    marks = Marks.of_limit(1000)
    assert marks.bytes_to_free(cached_bytes=600, part_bytes=400) == 0
    assert marks.bytes_to_free(cached_bytes=601, part_bytes=400) == 101
    with pytest.raises(MarksError):
        Marks(high_bytes=1, low_bytes=2)


def test_the_least_recently_used_image_leaves_first_manifest_before_blobs_with_its_tags(store: Store) -> None:
    old_layer, new_layer, shared = (store.blob("docker.io/a", b"%d" % n * 10) for n in range(3))
    old = store.image("docker.io/a", old_layer, shared, tag="old")
    new = store.image("docker.io/a", new_layer, shared, tag="new")
    store.usage.touch_many({old: 2000.0, new: 3000.0})
    size = store.catalogue.content(old)
    assert size is not None
    assert store.evict(size.size + 1) == [old, old_layer]
    assert store.catalogue.tag("docker.io/a", Tag("old")) is None
    assert all(store.stored(digest) for digest in (new, new_layer, shared))
    assert store.evict() == [new, *sorted((new_layer, shared))]
    assert store.catalogue.totals().cached_files == 0
    assert list(store.catalogue.paths.trash.iterdir()) == []


def test_blobs_of_a_hot_manifest_are_as_hot_as_it_also_below_indexes(store: Store) -> None:
    layer = store.blob("docker.io/a", b"layer")
    child = store.image("docker.io/a", layer)
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, "digest": str(child), "size": 1}],
    }
    index = store.put("docker.io/a", document, tag="t", pushed=False)
    loose = store.blob("docker.io/a", b"loose")
    store.usage.touch_many({layer: 1.0, index: 9000.0, loose: 5000.0})
    assert store.evict() == [loose, index, child, layer]


def test_pinned_pushed_and_read_content_stays_with_all_that_it_names(store: Store) -> None:
    layers = [store.blob("docker.io/a", b"layer %d" % number) for number in range(4)]
    pinned = store.image("docker.io/a", layers[0], tag="pinned")
    store.catalogue.pin("docker.io/a", pinned, "running")
    store.catalogue.add_link("team/a", layers[1], kind=LinkKind.BLOB, pushed=True)
    pushed = store.image("team/a", layers[1], pushed=True)
    cached = store.image("docker.io/a", layers[1], layers[2])
    evicted = store.evict(in_use=frozenset({layers[3]}))
    assert evicted == [cached, layers[2]]
    assert all(store.stored(digest) for digest in (pinned, pushed, layers[0], layers[1], layers[3]))
    store.catalogue.unpin("docker.io/a", pinned)
    assert set(store.evict()) == {pinned, layers[0], layers[3]}


def test_a_blob_pushed_after_the_order_was_made_is_not_taken(store: Store) -> None:
    blobs = [store.blob("docker.io/a", b"blob %03d" % number) for number in range(150)]
    steps = Eviction(store.catalogue, store.usage).evict(10**12, in_use=frozenset)
    next(steps)
    last = max(digest for digest in blobs if store.catalogue.content(digest) is not None)
    assert store.catalogue.add_link("team/a", last, kind=LinkKind.BLOB, pushed=True)
    for _ in steps:
        pass
    assert [digest for digest in blobs if store.stored(digest)] == [last]


def test_a_descriptor_opened_before_an_eviction_stays_readable(store: Store) -> None:
    digest = store.blob("docker.io/a", b"being read")
    descriptor = store.files.open_for_read(digest)
    assert descriptor is not None
    assert store.evict() == [digest]
    assert os.read(descriptor, 100) == b"being read"
    os.close(descriptor)
    assert store.files.open_for_read(digest) is None


def test_retention_keeps_the_newest_and_removes_what_nothing_holds_any_more(store: Store) -> None:
    shared = store.blob("team/a", b"shared", pushed=True)
    manifests: list[Digest] = []
    own: list[Digest] = []
    for number in range(4):
        store.now += 10.0
        own.append(store.blob("team/a", b"own %d" % number, pushed=True))
        manifests.append(store.image("team/a", own[-1], shared, tag=f"v{number}", pushed=True))
    signature = store.image("team/a", tag=None, pushed=True, subject=manifests[0])
    store.image("team/a", store.blob("team/a", b"sig", pushed=True), tag=f"sha256-{manifests[0].hex}.sig", pushed=True)
    kept_signature = store.image("team/a", shared, pushed=True, subject=manifests[3])
    store.catalogue.pin("team/a", manifests[1], "running")
    store.now += 1e6
    policy = RetentionPolicy(rules=(RetentionRule(tags="v*", keep_newest=2, untagged_after_s=0.0),))
    plan = plan_gc(store.catalogue, policy)
    assert store.catalogue.tag("team/a", Tag("v0")) is not None
    tags = {one.tag: one.reason for one in plan if one.kind is RemovalKind.TAG}
    assert set(tags) == {"v0", f"sha256-{manifests[0].hex}.sig"}
    assert tags["v0"] == "not among the 2 newest of v*"
    assert apply_gc(store.catalogue, plan, planned_at=store.now) == plan
    assert remove_unlinked(store.catalogue) > 0
    gone, stay = (manifests[0], own[0], signature), (*manifests[1:], *own[1:], shared, kept_signature)
    assert not any(store.stored(digest) for digest in gone)
    assert all(store.stored(digest) for digest in stay)
    assert plan_gc(store.catalogue, policy) == []


def test_what_was_put_after_the_plan_stays(store: Store) -> None:
    layer = store.blob("team/a", b"layer", pushed=True)
    manifest = store.image("team/a", layer, pushed=True)
    planned_at = store.now = store.now + 1e6
    plan = plan_gc(store.catalogue, RetentionPolicy(untagged_after_s=0.0))
    assert {one.digest for one in plan} == {manifest, layer}
    store.now += 1.0
    store.image("team/a", layer, tag="again", pushed=True)
    assert apply_gc(store.catalogue, plan, planned_at=planned_at) == []
    assert store.stored(manifest)


def test_without_rules_gc_removes_no_image_and_leaves_young_blobs(store: Store) -> None:
    store.image("team/a", tag="t", pushed=True)
    store.blob("team/a", b"an upload whose manifest comes soon", pushed=True)
    assert plan_gc(store.catalogue, RetentionPolicy()) == []


def test_verify_drops_bad_cached_content_and_reports_bad_pushed_content(store: Store) -> None:
    good = store.blob("docker.io/a", b"good")
    bad, lost = store.blob("docker.io/a", b"bad"), store.blob("docker.io/a", b"lost")
    pushed = store.blob("team/a", b"pushed", pushed=True)
    for digest in (bad, pushed):
        store.files.path(digest).write_bytes(b"rotten")
    store.files.path(lost).unlink()
    seen: list[int] = []
    problems = {one.digest: one for one in verify(store.catalogue, progress=lambda one: seen.append(one.done_files))}
    assert (problems[bad].fault, problems[bad].action) == (Fault.WRONG_BYTES, Action.DROPPED)
    assert (problems[lost].fault, problems[lost].action) == (Fault.MISSING, Action.DROPPED)
    assert (problems[pushed].fault, problems[pushed].action) == (Fault.WRONG_BYTES, Action.REPORTED)
    assert problems[pushed].repos == ("team/a",)
    assert seen == [1, 2, 3, 4]
    assert store.stored(good)
    assert not store.stored(bad)
    assert len(list(store.catalogue.paths.quarantine.iterdir())) == 1
    store.blob("team/a", b"pushed", pushed=True)
    assert verify(store.catalogue, progress=lambda _: None) == []


def test_leftovers_are_collected_and_nothing_else(store: Store) -> None:
    kept = store.blob("docker.io/a", b"kept")
    upload = store.uploads.start("a")
    orphan = Digest.of(b"orphan", "sha512")
    store.files.path(orphan).parent.mkdir(parents=True)
    store.files.path(orphan).write_bytes(b"orphan")
    store.catalogue.paths.new_tmp().write_bytes(b"half")
    store.catalogue.paths.new_trash().write_bytes(b"dead")
    store.now = 4e9
    ages = LeftoverAges(tmp_s=0.0, upload_s=1e9)
    collected = collect_leftovers(store.catalogue, store.uploads, ages)
    assert (collected.orphans, collected.tmp, collected.trash, collected.uploads) == (1, 1, 1, 0)
    assert not store.files.path(orphan).exists()
    assert store.stored(kept)
    assert store.uploads.get("a", upload.id) is not None
