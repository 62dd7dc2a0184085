"""Uploads, mounts and last-used times."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

import pytest

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.errors import DigestMismatchError, UploadRangeError, UploadUnknownError
from hunqi.mirror.store.model import LinkKind
from hunqi.mirror.store.uploads import Uploads
from hunqi.mirror.store.usage import Usage
from hunqi.oci.digest import Algorithm, Digest


@pytest.fixture
def catalogue(tmp_path: Path):
    opened = Catalogue.open(tmp_path / "data")
    yield opened
    opened.close()


def process(catalogue: Catalogue, now: float | None = None) -> Uploads:
    """Uploads as another process (or one after a restart) sees them."""
    files = ContentFiles(catalogue)
    return Uploads(catalogue, files) if now is None else Uploads(catalogue, files, clock=lambda: now)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("hint", ["sha256", "sha512"])
def test_chunks_become_a_pushed_blob(catalogue: Catalogue, algorithm: Algorithm, hint: Algorithm) -> None:
    uploads = process(catalogue)
    upload = uploads.start("team/a", hint)
    assert uploads.append(upload, b"first ", expected_start=0) == 6
    assert uploads.append(upload, memoryview(b"second"), expected_start=6) == 12
    assert uploads.append(upload, bytearray(b"!"), expected_start=None) == 13
    digest = Digest.of(b"first second!", algorithm)
    assert uploads.finish(upload, digest) == 13
    link = catalogue.link("team/a", digest)
    assert link is not None
    assert (link.pushed, link.size) == (True, 13)
    assert ContentFiles(catalogue).path(digest).read_bytes() == b"first second!"
    assert uploads.get("team/a", upload.id) is None
    assert list(catalogue.paths.uploads.iterdir()) == []


def test_an_empty_blob_can_be_pushed(catalogue: Catalogue) -> None:
    uploads = process(catalogue)
    assert uploads.finish(uploads.start("a"), Digest.of(b"")) == 0


def test_a_chunk_out_of_order_says_where_to_go_on(catalogue: Catalogue) -> None:
    uploads = process(catalogue)
    upload = uploads.start("a")
    uploads.append(upload, b"12345", expected_start=0)
    for start in (0, 4, 6):
        with pytest.raises(UploadRangeError) as caught:
            uploads.append(upload, b"x", expected_start=start)
        assert caught.value.offset == 5
    found = uploads.get("a", upload.id)
    assert found is not None
    assert found.offset == 5


def test_an_upload_goes_on_in_other_processes_and_after_a_restart(catalogue: Catalogue) -> None:
    first, second = process(catalogue), process(catalogue)
    upload = first.start("a")
    first.append(upload, b"one ", expected_start=0)
    second.append(upload, b"two ", expected_start=4)
    first.append(upload, b"three", expected_start=8)
    again = process(catalogue).get("a", upload.id)
    assert again is not None
    assert again.offset == 13
    assert first.finish(upload, Digest.of(b"one two three")) == 13


def test_a_wrong_digest_drops_the_upload_and_stores_nothing(catalogue: Catalogue) -> None:
    uploads = process(catalogue)
    upload = uploads.start("a")
    uploads.append(upload, b"bytes", expected_start=0)
    with pytest.raises(DigestMismatchError):
        uploads.finish(upload, Digest.of(b"other"))
    assert uploads.get("a", upload.id) is None
    assert catalogue.totals().pushed_files == 0
    with pytest.raises(UploadUnknownError):
        uploads.append(upload, b"x", expected_start=None)


@pytest.mark.parametrize(
    "bad",
    ["", ".", "..", "../catalogue.db", "x" * 36, str(uuid.UUID(int=1)).upper()[:35], "{" + str(uuid.UUID(int=7)) + "}"],
)
def test_only_canonical_uuids_name_uploads(catalogue: Catalogue, bad: str) -> None:
    assert process(catalogue).get("a", bad) is None


def test_an_upload_belongs_to_its_repository(catalogue: Catalogue) -> None:
    uploads = process(catalogue)
    upload = uploads.start("a")
    assert uploads.get("b", upload.id) is None


def test_cancelled_uploads_are_gone(catalogue: Catalogue) -> None:
    uploads = process(catalogue)
    upload = uploads.start("a")
    assert uploads.cancel(upload)
    assert not uploads.cancel(upload)
    assert list(catalogue.paths.uploads.iterdir()) == []


def test_old_uploads_expire_and_new_ones_stay(catalogue: Catalogue) -> None:
    uploads = process(catalogue, now=10_000.0)
    old, new, broken = uploads.start("a"), uploads.start("a"), uploads.start("a")
    for upload, at in ((old, 1.0), (new, 9_999.0)):
        os.utime(catalogue.paths.uploads / upload.id / "data", (at, at))
    (catalogue.paths.uploads / broken.id / "data").unlink()
    os.utime(catalogue.paths.uploads / broken.id, (1.0, 1.0))
    assert uploads.expire(3600.0) == 2
    assert uploads.get("a", new.id) is not None
    assert [entry.name for entry in catalogue.paths.uploads.iterdir()] == [new.id]


def test_racing_writers_never_interleave(catalogue: Catalogue) -> None:
    upload = process(catalogue).start("a")
    won: list[int] = []

    def write(number: int) -> None:
        uploads, chunk = process(catalogue), bytes([number]) * 100_000
        for start in range(0, 20 * 100_000, 100_000):
            try:
                uploads.append(upload, chunk, expected_start=start)
                won.append(number)
            except UploadRangeError:
                continue

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = (catalogue.paths.uploads / upload.id / "data").read_bytes()
    assert len(data) == len(won) * 100_000
    pieces = [set(data[at : at + 100_000]) for at in range(0, len(data), 100_000)]
    assert all(len(piece) == 1 for piece in pieces)
    assert process(catalogue).finish(upload, Digest.of(data)) == len(data)


def test_a_mount_needs_the_blob_in_the_source_repository(catalogue: Catalogue) -> None:
    uploads = process(catalogue)
    upload = uploads.start("a")
    uploads.append(upload, b"bytes", expected_start=0)
    digest = Digest.of(b"bytes")
    uploads.finish(upload, digest)
    assert not uploads.mount("b", digest, "elsewhere")
    assert not uploads.mount("b", Digest.of(b"absent"), "a")
    assert not uploads.mount("b", digest, None)
    assert not uploads.mount("b", digest, None, may_read=lambda repo: repo != "a")
    assert uploads.mount("b", digest, "a")
    assert uploads.mount("c", digest, None, may_read=lambda repo: repo == "b")
    link = catalogue.link("c", digest)
    assert link is not None
    assert (link.kind, link.pushed) == (LinkKind.BLOB, True)


def test_last_use_only_moves_forward_and_is_not_a_change_of_the_catalogue(catalogue: Catalogue) -> None:
    usage = Usage.open(catalogue.paths.root)
    version = catalogue.version()
    digest = Digest.of(b"x")
    usage.touch_many({digest: 10.0})
    usage.touch_many({digest: 5.0})
    assert usage.last_used(digest) == 10.0
    usage.forget([digest])
    assert usage.last_used(digest) is None
    assert catalogue.version() == version
    usage.close()


def test_damaged_last_use_times_are_started_afresh(tmp_path: Path) -> None:
    (tmp_path / "usage.db").write_bytes(b"not a database" * 1000)
    usage = Usage.open(tmp_path)
    usage.touch_many({Digest.of(b"x"): 1.0})
    assert usage.last_used(Digest.of(b"x")) == 1.0
    usage.close()
