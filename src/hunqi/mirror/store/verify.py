"""Verify: reads every stored byte again and compares it with its digest.

Cached content that is wrong or missing is dropped (its file goes to ``quarantine``) and will be fetched anew. Pushed
content has no other source: it is reported, and pushing it again repairs it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.changes import forget_content, is_pushed
from hunqi.mirror.store.errors import translated
from hunqi.mirror.store.model import Content
from hunqi.oci.digest import Digest

_PAGE: Final = 500
_READ_BYTES: Final = 1024 * 1024


class Fault(Enum):
    """What is wrong with a content."""

    MISSING = "missing"
    WRONG_BYTES = "wrong bytes"
    UNREADABLE = "unreadable"


class Action(Enum):
    """What was done about it."""

    DROPPED = "dropped"
    REPORTED = "reported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One content that is not what it should be."""

    digest: Digest
    fault: Fault
    action: Action
    repos: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyProgress:
    """How far a verification is."""

    done_files: int
    total_files: int
    done_bytes: int
    total_bytes: int


def verify(catalogue: Catalogue, *, progress: Callable[[VerifyProgress], None]) -> list[Problem]:
    """Verify all content, calling ``progress`` after each file; it may raise to stop. Raises the store's errors."""
    totals = catalogue.totals()
    done_files = done_bytes = 0
    problems: list[Problem] = []
    last: Digest | None = None
    while page := catalogue.digests(after=last, limit=_PAGE):
        for digest in page:
            content = catalogue.content(digest)
            if content is None:
                continue
            problem = _verify_one(catalogue, content)
            if problem:
                problems.append(problem)
            done_files += 1
            done_bytes += content.size
            progress(
                VerifyProgress(
                    done_files=done_files,
                    total_files=max(done_files, totals.cached_files + totals.pushed_files),
                    done_bytes=done_bytes,
                    total_bytes=max(done_bytes, totals.cached_bytes + totals.pushed_bytes),
                )
            )
        last = page[-1]
    return problems


def _verify_one(catalogue: Catalogue, content: Content) -> Problem | None:
    digest = content.digest
    path = catalogue.paths.content_file(digest)
    inode = _inode(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fault = None if _hash(descriptor, digest) == digest.hex else Fault.WRONG_BYTES
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        fault = Fault.MISSING
    except OSError:
        fault = Fault.UNREADABLE
    if fault is None:
        return None
    repos = tuple(catalogue.repos_of(digest))
    action = _drop(catalogue, digest, inode)
    return None if action is None else Problem(digest=digest, fault=fault, action=action, repos=repos)


def _hash(descriptor: int, digest: Digest) -> str:
    hasher = hashlib.new(digest.algorithm)
    buffer = memoryview(bytearray(_READ_BYTES))
    while count := os.readv(descriptor, [buffer]):
        hasher.update(buffer[:count])
    return hasher.hexdigest()


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _drop(catalogue: Catalogue, digest: Digest, inode: int | None) -> Action | None:
    """Drop cached content; None if it was removed or replaced in the meantime."""
    path = catalogue.paths.content_file(digest)
    with catalogue.connections.transaction() as connection, translated():
        current = _inode(path)
        row = connection.execute("SELECT 1 FROM content WHERE digest = ?", (str(digest),)).fetchone()
        if row is None or current != inode:
            return None
        if is_pushed(connection, digest):
            return Action.REPORTED
        if current is not None:
            path.rename(catalogue.paths.quarantine / f"{digest.algorithm}-{digest.hex}")
        forget_content(connection, digest)
        return Action.DROPPED
