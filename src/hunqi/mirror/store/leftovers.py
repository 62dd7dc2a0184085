"""Leftovers: what crashes leave behind, collected while everything runs.

Files without a content row, files on their way in or out, uploads that nobody goes on with, quarantined files and
upstream lists that nobody renewed. When no other process has the store open (at start), the ages may be 0.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.changes import has_content
from hunqi.mirror.store.errors import translated
from hunqi.mirror.store.uploads import Uploads
from hunqi.oci.digest import Digest, DigestError

_DAY_S: Final = 86_400.0
_BATCH: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftoverAges:
    """How old (seconds since the last change) each kind must be to be collected."""

    tmp_s: float = _DAY_S
    upload_s: float = 7 * _DAY_S
    quarantine_s: float = 7 * _DAY_S
    document_s: float = 30 * _DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """How many of each kind were collected."""

    orphans: int
    tmp: int
    trash: int
    uploads: int
    quarantined: int
    documents: int

    def __bool__(self) -> bool:
        """Whether there was anything."""
        return any((self.orphans, self.tmp, self.trash, self.uploads, self.quarantined, self.documents))


def collect_leftovers(catalogue: Catalogue, uploads: Uploads, ages: LeftoverAges) -> Collected:
    """Collect once; raises the store's errors. Every write transaction is short."""
    now = catalogue.clock()
    paths = catalogue.paths
    with translated():
        return Collected(
            orphans=_orphans(catalogue),
            tmp=_empty(paths.tmp, changed_before=now - ages.tmp_s),
            trash=_empty(paths.trash, changed_before=now + _DAY_S),
            uploads=uploads.expire(ages.upload_s),
            quarantined=_empty(paths.quarantine, changed_before=now - ages.quarantine_s),
            documents=catalogue.forget_documents(checked_before=now - ages.document_s),
        )


def _orphans(catalogue: Catalogue) -> int:
    count = 0
    stored = _content_files(catalogue.paths.content)
    while batch := list(islice(stored, _BATCH)):
        suspects = [digest for digest in batch if catalogue.content(digest) is None]
        if not suspects:
            continue
        with catalogue.connections.transaction() as connection:
            for digest in suspects:
                if not has_content(connection, digest):
                    catalogue.paths.content_file(digest).unlink(missing_ok=True)
                    count += 1
    return count


def _content_files(content: Path) -> Iterator[Digest]:
    for algorithm in os.scandir(content):
        if not algorithm.is_dir(follow_symlinks=False):
            continue
        for shelf in os.scandir(algorithm.path):
            if not shelf.is_dir(follow_symlinks=False):
                continue
            for entry in os.scandir(shelf.path):
                try:
                    yield Digest.parse(f"{algorithm.name}:{entry.name}")
                except DigestError:
                    continue


def _empty(directory: Path, *, changed_before: float) -> int:
    count = 0
    for entry in os.scandir(directory):
        try:
            if entry.stat(follow_symlinks=False).st_mtime >= changed_before:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink()
        except FileNotFoundError:
            continue
        count += 1
    return count
