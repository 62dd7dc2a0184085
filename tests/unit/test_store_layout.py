"""Archives: what is exported is imported again byte for byte, and a hostile archive reaches nothing."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.errors import DigestMismatchError
from hunqi.mirror.store.inventory import images, stat
from hunqi.mirror.store.layout import (
    IMAGE_NAME,
    REF_NAME,
    ExportImage,
    ExportIncompleteError,
    ImportTarget,
    LayoutError,
)
from hunqi.mirror.store.layout_export import export_images
from hunqi.mirror.store.layout_import import import_layout
from hunqi.mirror.store.model import LinkKind
from hunqi.mirror.store.usage import Usage
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest
from hunqi.oci.reference import Tag

TARGET = ImportTarget(repo="team/copy", tag=Tag("v1"), pushed=True)


@pytest.fixture
def here(tmp_path: Path):
    catalogue = Catalogue.open(tmp_path / "here")
    yield catalogue
    catalogue.close()


@pytest.fixture
def there(tmp_path: Path):
    catalogue = Catalogue.open(tmp_path / "there")
    yield catalogue
    catalogue.close()


def blob(catalogue: Catalogue, repo: str, data: bytes) -> dict[str, object]:
    digest = Digest.of(data, "sha512")
    source = catalogue.paths.new_tmp()
    source.write_bytes(data)
    ContentFiles(catalogue).commit(source, digest, len(data), links=[(repo, LinkKind.BLOB, False)])
    return {"mediaType": "x/y", "digest": str(digest), "size": len(data)}


def put(catalogue: Catalogue, repo: str, document: dict[str, object], *tags: str) -> dict[str, object]:
    data = json.dumps({"schemaVersion": 2, **document}).encode()
    manifest = Manifest.parse(data)
    digest = Digest.of(data)
    catalogue.put_manifest(repo, data, manifest=manifest, digest=digest, tags=[Tag(tag) for tag in tags], pushed=False)
    return {"mediaType": manifest.media_type, "digest": str(digest), "size": len(data)}


def sample(catalogue: Catalogue, repo: str) -> tuple[Digest, Digest]:
    """An index of one platform, and a signature of that."""
    layers = [blob(catalogue, repo, b"layer" * 100_000), blob(catalogue, repo, b"")]
    foreign = {"mediaType": "x/y", "digest": str(Digest.of(b"foreign")), "size": 7, "urls": ["https://example.org"]}
    child = put(catalogue, repo, {"mediaType": OCI_MANIFEST, "layers": [*layers, foreign]})
    index = put(catalogue, repo, {"mediaType": OCI_INDEX, "manifests": [child]}, "v1")
    signature = put(catalogue, repo, {"mediaType": OCI_MANIFEST, "layers": [], "subject": index})
    return Digest.parse(str(index["digest"])), Digest.parse(str(signature["digest"]))


def exported(catalogue: Catalogue, digest: Digest, *, referrers: bool) -> bytes:
    sink = io.BytesIO()
    image = ExportImage(repo="docker.io/a", digest=digest, name="docker.io/a:v1", tag=Tag("v1"))
    export_images(catalogue, [image], sink, referrers=referrers, progress=lambda _: None)
    return sink.getvalue()


def imported(catalogue: Catalogue, archive: bytes) -> list[Digest]:
    def naming(roots: Sequence[Descriptor]) -> list[ImportTarget | None]:
        return [TARGET if root.annotations else None for root in roots]

    found = import_layout(catalogue, io.BytesIO(archive), naming=naming, progress=lambda _: None)
    return [one.descriptor.digest for one in found]


def archive_of(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return sink.getvalue()


def test_an_image_with_its_referrers_survives_a_journey(here: Catalogue, there: Catalogue) -> None:
    index, signature = sample(here, "docker.io/a")
    assert imported(there, exported(here, index, referrers=True)) == [index, signature]
    row = there.tag("team/copy", Tag("v1"))
    assert row is not None
    assert row.digest == index
    original, copy = here.manifest("docker.io/a", index), there.manifest("team/copy", index)
    assert original == copy
    assert [one.digest for one in there.referrers("team/copy", index, None)] == [signature]
    totals = there.totals()
    assert (totals.cached_files, totals.pushed_files) == (0, 5)
    assert list(there.paths.tmp.iterdir()) == []


def test_an_archive_is_an_image_layout_that_others_read(here: Catalogue) -> None:
    index, _ = sample(here, "docker.io/a")
    with tarfile.open(fileobj=io.BytesIO(exported(here, index, referrers=False))) as archive:
        names = archive.getnames()
        assert names[:2] == ["oci-layout", "index.json"]
        assert f"blobs/sha256/{index.hex}" in names
        file = archive.extractfile("index.json")
        assert file is not None
        (root,) = json.loads(file.read())["manifests"]
    assert root["digest"] == str(index)
    assert root["annotations"] == {IMAGE_NAME: "docker.io/a:v1", REF_NAME: "v1"}


def test_an_image_that_is_not_all_here_is_not_exported(here: Catalogue) -> None:
    index, _ = sample(here, "docker.io/a")
    layer = Digest.of(b"layer" * 100_000, "sha512")
    ContentFiles(here).path(layer).unlink()
    with pytest.raises(ExportIncompleteError) as caught:
        exported(here, index, referrers=False)
    assert caught.value.missing == (layer,)


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
def test_a_cut_archive_changes_nothing(here: Catalogue, there: Catalogue, cut: float) -> None:
    index, _ = sample(here, "docker.io/a")
    archive = exported(here, index, referrers=False)
    end = len(archive.rstrip(b"\0"))
    with pytest.raises((LayoutError, DigestMismatchError)):
        imported(there, archive[: int(end * cut)])
    assert there.totals().pushed_files == 0
    assert list(there.paths.tmp.iterdir()) == []


def test_wrong_bytes_change_nothing(there: Catalogue) -> None:
    name = f"blobs/sha256/{Digest.of(b'right').hex}"
    body = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', name: b"wrong", "index.json": b"{}"}
    with pytest.raises(DigestMismatchError):
        imported(there, archive_of(body))
    assert there.totals().pushed_files == 0


@pytest.mark.parametrize(
    "name", ["../../evil", "/tmp/hunqi-evil", "blobs/sha256/../../../evil", "blobs/../evil", "a/../../evil"]
)
def test_a_hostile_name_reaches_nothing(there: Catalogue, tmp_path: Path, name: str) -> None:
    before = {path for path in tmp_path.rglob("*") if "catalogue" not in path.name}
    index = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    members = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, name: b"evil"}
    assert imported(there, archive_of(members)) == []
    assert {path for path in tmp_path.rglob("*") if "catalogue" not in path.name} == before
    assert not Path("/tmp/hunqi-evil").exists()


def test_links_in_an_archive_are_not_followed(there: Catalogue) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        member = tarfile.TarInfo("index.json")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(LayoutError):
        imported(there, sink.getvalue())


def test_a_giant_extended_header_is_refused_before_it_is_read(there: Catalogue) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 7 * 1024**3
    with pytest.raises(LayoutError, match="extended header"):
        imported(there, member.tobuf(tarfile.USTAR_FORMAT) + bytes(10_240))


@pytest.mark.parametrize("body", [b"", b"not a tar" * 1000, archive_of({"index.json": b"{}"}), archive_of({})])
def test_what_is_no_layout_is_refused(there: Catalogue, body: bytes) -> None:
    with pytest.raises(LayoutError):
        imported(there, body)


def test_the_inventory_lists_tagged_images_with_all_their_bytes(here: Catalogue) -> None:
    index, signature = sample(here, "docker.io/a")
    usage = Usage.open(here.paths.root)
    usage.touch_many({index: 5.0})
    tagged, untagged = images(here, usage, "docker.io/a")
    assert (tagged.tag, tagged.digest, tagged.last_used_at, tagged.pinned) == ("v1", index, 5.0, None)
    assert tagged.total_bytes == tagged.stored_bytes + 7
    assert tagged.stored_bytes > 500_000
    assert (untagged.tag, untagged.digest) == (None, signature)
    found = stat(here)
    assert (found.repositories, found.tags, found.manifests, found.blobs) == (1, 1, 3, 2)
    usage.close()
