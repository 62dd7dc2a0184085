"""What the tests of broken sources have in common: a mirror with short deadlines, a client, the promises."""

from __future__ import annotations

import time
from hashlib import file_digest
from pathlib import Path
from typing import Final

from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.images import MIB, Image, opaque
from testbed.mirror import RunningMirror

IMPATIENT: Final = ("--connect-timeout", "1s", "--first-byte-timeout", "1s", "--stall-timeout", "1s")
REPOSITORY: Final = "library/x"
SMALL_BYTES: Final = 3 * MIB
BIG_BYTES: Final = 24 * MIB
"""Over the threshold of ranged fetches (16 MiB)."""
ENDS_WITHIN_S: Final = 45.0
HEALS_WITHIN_S: Final = 30.0


class BrokenPromiseError(AssertionError):
    """A client got what no client may get."""


def image_of(size_bytes: int, *, seed: object) -> Image:
    """Return an image of two blobs of ``size_bytes``: one for the trouble, one for afterwards."""
    return opaque([size_bytes, size_bytes], seed=(seed, size_bytes))


def get_blob(mirror: RunningMirror, digest: str, *, deadline_s: float = ENDS_WITHIN_S) -> Answer:
    """GET a blob; raise :class:`BrokenPromiseError` if a whole and wrong body comes."""
    url = f"{mirror.base_url}/v2/docker.io/{REPOSITORY}/blobs/{digest}"
    answer = fetch(url, timeout_s=deadline_s, deadline_s=deadline_s)
    if answer.is_whole and answer.digest != digest:
        raise BrokenPromiseError(f"a complete body of {len(answer.body)} bytes is not {digest}")
    return answer


def get_manifest(mirror: RunningMirror, reference: str = "latest") -> Answer:
    """GET a manifest, as every client does before its blobs."""
    url = f"{mirror.base_url}/v2/docker.io/{REPOSITORY}/manifests/{reference}"
    return fetch(url, headers={"Accept": MANIFEST_TYPES}, timeout_s=ENDS_WITHIN_S)


def is_right(answer: Answer, digest: str) -> bool:
    """Whether the whole, right body came."""
    return answer.status == 200 and answer.is_whole and answer.digest == digest


def get_until_right(mirror: RunningMirror, digest: str, *, within_s: float = HEALS_WITHIN_S) -> int:
    """GET a blob until it comes right; return how many tries it took. Raises :class:`TimeoutError`."""
    deadline = time.monotonic() + within_s
    tries = 1
    while not is_right(answer := get_blob(mirror, digest, deadline_s=within_s), digest):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not right after {tries} tries in {within_s} s; the last was {answer}")
        tries += 1
        time.sleep(0.25)
    return tries


def wrong_files(data: Path) -> list[Path]:
    """Return the files of the store whose content is not what their name says."""
    files = [file for file in (data / "content" / "sha256").rglob("*") if file.is_file()]
    wrong: list[Path] = []
    for file in files:
        with file.open("rb") as stream:
            if file_digest(stream, "sha256").hexdigest() != file.name:
                wrong.append(file)
    return wrong
