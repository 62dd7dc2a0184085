"""The catalogue: links, manifests, tags, referrers, repositories, and what a change of it tells others."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path

import pytest

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.errors import (
    DigestMismatchError,
    StoreDamagedError,
    StoreDirectoryError,
    StoreTooNewError,
)
from hunqi.mirror.store.model import LinkKind, Visibility
from hunqi.oci.digest import Algorithm, Digest
from hunqi.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest
from hunqi.oci.reference import Tag


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Store:
    def __init__(self, root: Path) -> None:
        self.clock = Clock()
        self.catalogue = Catalogue.open(root, clock=self.clock)
        self.files = ContentFiles(self.catalogue)

    def blob(self, repo: str, data: bytes, *, pushed: bool = False, algorithm: Algorithm = "sha256") -> Digest:
        digest = Digest.of(data, algorithm)
        source = self.catalogue.paths.new_tmp()
        source.write_bytes(data)
        self.files.commit(source, digest, len(data), links=[(repo, LinkKind.BLOB, pushed)])
        return digest

    def put(self, repo: str, document: dict[str, object], *tags: str, pushed: bool = False) -> Digest:
        data = json.dumps(document).encode()
        digest = Digest.of(data)
        self.catalogue.put_manifest(
            repo,
            data,
            manifest=Manifest.parse(data),
            digest=digest,
            tags=[Tag(name) for name in tags],
            pushed=pushed,
        )
        return digest


def descriptor(digest: Digest, size: int, media_type: str = "application/x") -> dict[str, object]:
    return {"mediaType": media_type, "digest": str(digest), "size": size}


def image(*layers: tuple[Digest, int], subject: Digest | None = None, **more: object) -> dict[str, object]:
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "layers": [descriptor(*layer) for layer in layers],
        **more,
    }
    if subject:
        document["subject"] = descriptor(subject, 7, OCI_MANIFEST)
    return document


@pytest.fixture
def store(tmp_path: Path):
    opened = Store(tmp_path / "data")
    yield opened
    opened.catalogue.close()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_is_seen_only_through_a_linked_repository(store: Store, algorithm: Algorithm) -> None:
    digest = store.blob("docker.io/library/a", b"bytes", algorithm=algorithm)
    link = store.catalogue.link("docker.io/library/a", digest)
    assert link is not None
    assert (link.size, link.kind, link.pushed, link.created_at) == (5, LinkKind.BLOB, False, 1000.0)
    assert store.catalogue.link("docker.io/library/b", digest) is None
    assert store.catalogue.repos_of(digest) == ["docker.io/library/a"]


def test_a_link_to_content_that_is_not_stored_is_refused(store: Store) -> None:
    digest = Digest.of(b"absent")
    assert not store.catalogue.add_link("a", digest, kind=LinkKind.BLOB, pushed=True)
    assert store.catalogue.link("a", digest) is None


def test_a_link_to_content_whose_file_vanished_is_refused_and_the_next_commit_repairs_it(store: Store) -> None:
    digest = store.blob("a", b"bytes")
    store.files.path(digest).unlink()
    assert not store.catalogue.add_link("b", digest, kind=LinkKind.BLOB, pushed=True)
    assert store.files.open_for_read(digest) is None
    store.blob("a", b"bytes")
    assert store.files.path(digest).read_bytes() == b"bytes"


def test_mounting_into_a_pushed_repository_makes_cached_content_pushed(store: Store) -> None:
    digest = store.blob("docker.io/a", b"bytes")
    assert store.catalogue.totals().cached_bytes == 5
    assert store.catalogue.add_link("team/a", digest, kind=LinkKind.BLOB, pushed=True)
    content = store.catalogue.content(digest)
    assert content is not None
    assert content.pushed
    totals = store.catalogue.totals()
    assert (totals.cached_files, totals.cached_bytes, totals.pushed_files, totals.pushed_bytes) == (0, 0, 1, 5)


def test_a_cached_link_never_weakens_a_pushed_one(store: Store) -> None:
    digest = store.blob("a", b"bytes", pushed=True)
    store.blob("a", b"bytes", pushed=False)
    link = store.catalogue.link("a", digest)
    assert link is not None
    assert link.pushed


def test_unlinking_is_of_one_repository_and_the_last_pushed_link_takes_the_promise_along(store: Store) -> None:
    digest = store.blob("a", b"bytes", pushed=True)
    store.catalogue.add_link("b", digest, kind=LinkKind.BLOB, pushed=True)
    assert store.catalogue.unlink("a", digest)
    assert not store.catalogue.unlink("a", digest)
    content = store.catalogue.content(digest)
    assert content is not None
    assert content.pushed
    assert store.catalogue.unlink("b", digest)
    content = store.catalogue.content(digest)
    assert content is not None
    assert not content.pushed


def test_a_manifest_comes_back_byte_for_byte_with_its_tags(store: Store) -> None:
    layer = store.blob("a", b"layer", pushed=True)
    data = b'{ "schemaVersion":2,\n"mediaType":"%s", "layers":[], "x":1 }' % OCI_MANIFEST.encode()
    digest = Digest.of(data, "sha512")
    store.catalogue.put_manifest(
        "a", data, manifest=Manifest.parse(data), digest=digest, tags=[Tag("v1"), Tag("v2")], pushed=True
    )
    stored = store.catalogue.manifest("a", digest)
    assert stored is not None
    assert (stored.body, stored.media_type, stored.size) == (data, OCI_MANIFEST, len(data))
    assert store.catalogue.tags_of("a", digest) == ["v1", "v2"]
    assert store.catalogue.manifest("b", digest) is None
    assert store.catalogue.manifest("a", layer) is None


def test_a_manifest_with_a_wrong_digest_is_refused(store: Store) -> None:
    data = json.dumps(image()).encode()
    with pytest.raises(DigestMismatchError):
        store.catalogue.put_manifest("a", data, manifest=Manifest.parse(data), digest=Digest.of(b"other"), pushed=True)
    assert not store.catalogue.has_repository("a")
    assert list(store.catalogue.paths.tmp.iterdir()) == []


def test_missing_blobs_names_what_the_repository_lacks_but_neither_foreign_layers_nor_subjects(store: Store) -> None:
    here = store.blob("a", b"here", pushed=True)
    elsewhere = store.blob("b", b"elsewhere", pushed=True)
    foreign = {**descriptor(Digest.of(b"foreign"), 3), "urls": ["https://example.org/x"]}
    document = image((here, 4), (elsewhere, 9), (elsewhere, 9), subject=Digest.of(b"subject"))
    document["layers"] = [*document["layers"], foreign]  # type: ignore[misc]
    assert store.catalogue.missing_blobs("a", Manifest.parse(json.dumps(document).encode())) == [elsewhere]


def test_an_index_misses_its_absent_children(store: Store) -> None:
    child = store.put("a", image(), pushed=True)
    absent = Digest.of(b"absent")
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(child, 1, OCI_MANIFEST), descriptor(absent, 1, OCI_MANIFEST)],
    }
    assert store.catalogue.missing_blobs("a", Manifest.parse(json.dumps(index).encode())) == [absent]


def test_deleting_a_manifest_kills_its_tags_and_referrer_entry_in_that_repository_only(store: Store) -> None:
    subject = Digest.of(b"subject")
    for repo in ("a", "b"):
        digest = store.put(repo, image(subject=subject), "v1", pushed=True)
    assert store.catalogue.delete_manifest("a", digest)
    assert not store.catalogue.delete_manifest("a", digest)
    assert store.catalogue.tag("a", Tag("v1")) is None
    assert store.catalogue.referrers("a", subject, None) == []
    assert store.catalogue.tag("b", Tag("v1")) is not None
    assert [one.digest for one in store.catalogue.referrers("b", subject, None)] == [digest]


def test_a_manifest_is_not_deleted_as_a_blob_nor_a_blob_as_a_manifest(store: Store) -> None:
    blob = store.blob("a", b"blob", pushed=True)
    manifest = store.put("a", image(), pushed=True)
    assert not store.catalogue.unlink("a", manifest)
    assert not store.catalogue.delete_manifest("a", blob)


def test_referrers_come_from_subjects_and_from_the_tag_schema_and_are_filtered(store: Store) -> None:
    subject = store.put("a", image(), pushed=True)
    config = descriptor(Digest.of(b"{}"), 2, "application/vnd.sbom")
    by_subject = store.put("a", image(subject=subject, config=config, annotations={"k": "v"}), pushed=True)
    old = Digest.of(b"old signature")
    fallback = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {**descriptor(old, 9, OCI_MANIFEST), "artifactType": "application/sig"},
            {**descriptor(by_subject, 1, OCI_MANIFEST), "artifactType": "application/vnd.sbom"},
        ],
    }
    store.put("a", fallback, f"sha256-{subject.hex}", pushed=True)
    found = store.catalogue.referrers("a", subject, None)
    assert [one.digest for one in found] == [by_subject, old]
    assert found[0].artifact_type == "application/vnd.sbom"
    assert found[0].annotations == {"k": "v"}
    assert [one.digest for one in store.catalogue.referrers("a", subject, "application/sig")] == [old]
    assert store.catalogue.referrers("never/pushed", subject, None) == []


def test_expected_size_comes_from_manifests_and_a_liar_silences_only_other_repositories(store: Store) -> None:
    layer = Digest.of(b"layer not stored")
    store.put("a", image((layer, 16)))
    assert store.catalogue.expected_size(layer) == 16
    store.put("liar", image((layer, 99)))
    assert store.catalogue.expected_size(layer) is None
    assert store.catalogue.expected_size(layer, repo="a") == 16
    assert store.catalogue.expected_size(layer, repo="liar") == 99
    store.blob("a", b"layer not stored")
    assert store.catalogue.expected_size(layer) == 16


def test_manifests_containing_is_asked_per_repository(store: Store) -> None:
    layer = Digest.of(b"layer")
    manifest = store.put("a", image((layer, 5)))
    assert store.catalogue.manifests_containing(layer) == [manifest]
    assert store.catalogue.manifests_containing(layer, repo="a") == [manifest]
    assert store.catalogue.manifests_containing(layer, repo="b") == []


def test_a_tag_moves_and_remembers_when_it_moved(store: Store) -> None:
    first, second = Digest.of(b"1"), Digest.of(b"2")
    store.catalogue.put_tag("a", Tag("t"), first, pushed=False, checked_at=1.0)
    store.catalogue.put_tag("a", Tag("t"), first, pushed=False, checked_at=2.0)
    row = store.catalogue.tag("a", Tag("t"))
    assert row is not None
    assert (row.digest, row.checked_at, row.changed_at) == (first, 2.0, 1.0)
    store.catalogue.put_tag("a", Tag("t"), second, pushed=False, checked_at=3.0)
    row = store.catalogue.tag("a", Tag("t"))
    assert row is not None
    assert (row.digest, row.changed_at) == (second, 3.0)
    assert store.catalogue.delete_tag("a", Tag("t"))
    assert not store.catalogue.delete_tag("a", Tag("t"))


def test_tags_are_paged_in_byte_order(store: Store) -> None:
    for name in ("b", "B", "a", "_", "10", "9"):
        store.catalogue.put_tag("r", Tag(name), Digest.of(b""), pushed=True, checked_at=0.0)
    everything = store.catalogue.tags("r", after=None, limit=None)
    assert everything == sorted(everything, key=str.encode)
    assert store.catalogue.tags("r", after="9", limit=2) == ["B", "_"]
    assert store.catalogue.tags("r", after=None, limit=0) == []


def test_repositories_are_paged_and_namespaces_outlive_their_content(store: Store) -> None:
    for repo in ("zeta/x", "alpha", "mid/dle"):
        digest = store.blob(repo, repo.encode(), pushed=repo != "alpha")
    assert store.catalogue.repositories(after=None, limit=None) == ["alpha", "mid/dle", "zeta/x"]
    assert store.catalogue.repositories(after="alpha", limit=1) == ["mid/dle"]
    assert store.catalogue.pushed_repositories() == ["mid/dle", "zeta/x"]
    store.catalogue.unlink("mid/dle", digest)
    assert not store.catalogue.has_repository("mid/dle")
    assert store.catalogue.pushed_namespaces() == {"zeta", "mid"}


def test_documents_visibility_and_pins_are_remembered(tmp_path: Path) -> None:
    catalogue = Catalogue.open(tmp_path)
    digest = Digest.of(b"x")
    catalogue.put_document("r", "tags/list", b"{}", content_type="application/json", checked_at=5.0)
    catalogue.set_visibility("r", public=True, decided_at=6.0)
    catalogue.pin("r", digest, "running")
    catalogue.close()
    again = Catalogue.open(tmp_path)
    document = again.document("r", "tags/list")
    assert document is not None
    assert (document.body, document.content_type, document.checked_at) == (b"{}", "application/json", 5.0)
    assert again.visibility("r") == Visibility(public=True, decided_at=6.0)
    assert [(pin.repo, pin.digest, pin.reason) for pin in again.pins()] == [("r", digest, "running")]
    assert again.unpin("r", digest)
    assert not again.unpin("r", digest)
    assert again.forget_documents(checked_before=5.5) == 1
    assert again.document("r", "tags/list") is None
    again.close()


def test_version_changes_with_every_visible_change_and_only_then(store: Store) -> None:
    seen = [store.catalogue.version(), store.catalogue.version()]
    assert seen[0] == seen[1]
    store.blob("a", b"own change")
    seen.append(store.catalogue.version())
    thread = threading.Thread(target=store.blob, args=("a", b"another thread's"))
    thread.start()
    thread.join()
    seen.append(store.catalogue.version())
    other = Catalogue.open(store.catalogue.paths.root)
    other.set_visibility("a", public=True, decided_at=0.0)
    other.close()
    seen.append(store.catalogue.version())
    assert len(set(seen)) == 4
    assert store.catalogue.version() == seen[-1]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    Catalogue.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "catalogue.db")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreTooNewError, match="99"):
        Catalogue.open(tmp_path)


def test_an_unusable_directory_and_a_damaged_database_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreDirectoryError):
        Catalogue.open(tmp_path / "file")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "catalogue.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StoreDamagedError):
        Catalogue.open(tmp_path / "data")


def test_connections_of_ended_threads_are_closed(store: Store) -> None:
    def count() -> int:
        return sum(
            "catalogue.db" in str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.exists()
        )

    store.catalogue.repositories(after=None, limit=None)
    before = count()
    for number in range(20):
        thread = threading.Thread(target=store.blob, args=("a", b"%d" % number))
        thread.start()
        thread.join()
    assert count() <= before + 3
