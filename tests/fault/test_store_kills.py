"""SIGKILL at any moment, and several processes at once: the store needs no repair."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.leftovers import LeftoverAges, collect_leftovers
from hunqi.mirror.store.uploads import Uploads
from hunqi.oci.digest import Digest

WORK = """
import json, random, sys, time
from pathlib import Path
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.eviction import Eviction
from hunqi.mirror.store.model import LinkKind
from hunqi.mirror.store.uploads import Uploads
from hunqi.mirror.store.usage import Usage
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_MANIFEST, Manifest
from hunqi.oci.reference import Tag

root, seed, work_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
chance = random.Random(seed)
catalogue = Catalogue.open(root)
files, usage = ContentFiles(catalogue), Usage.open(root)
uploads = Uploads(catalogue, files)
print("ready", flush=True)
until = time.monotonic() + work_s
while time.monotonic() < until:
    data = b"blob %d " % chance.randrange(30) * 2000
    digest = Digest.of(data)
    match chance.randrange(5):
        case 0:
            source = catalogue.paths.new_tmp()
            source.write_bytes(data)
            files.commit(source, digest, len(data), links=[("docker.io/a", LinkKind.BLOB, False)])
        case 1:
            upload = uploads.start("team/a")
            uploads.append(upload, data[:999], expected_start=0)
            uploads.append(upload, data[999:], expected_start=999)
            uploads.finish(upload, digest)
            print("pushed", digest, flush=True)
        case 2:
            if uploads.mount("team/b", digest, "docker.io/a"):
                print("pushed", digest, flush=True)
        case 3:
            for step in Eviction(catalogue, usage).evict(chance.choice((1, 10**9)), in_use=frozenset):
                pass
        case 4:
            layer = {"mediaType": "x/y", "digest": str(digest), "size": len(data)}
            body = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [layer]}).encode()
            manifest, pushed = Manifest.parse(body), chance.random() < 0.2
            repo = "team/a" if pushed else "docker.io/a"
            if not pushed or not catalogue.missing_blobs(repo, manifest):
                name = Digest.of(body)
                tags = [Tag("t%d" % chance.randrange(5))]
                catalogue.put_manifest(repo, body, manifest=manifest, digest=name, tags=tags, pushed=pushed)
"""


def start(root: Path, seed: object, *, work_s: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORK, str(root), str(seed), str(work_s)], stdout=subprocess.PIPE, text=True
    )


def check(root: Path, acknowledged: set[str]) -> None:
    """Every file is right, every pushed row has its file, every sum is right, every leftover goes."""
    catalogue = Catalogue.open(root)
    files = ContentFiles(catalogue)
    uploads = Uploads(catalogue, files)
    collect_leftovers(catalogue, uploads, LeftoverAges(tmp_s=-10.0, upload_s=-10.0))
    sums = {True: 0, False: 0}
    rows = catalogue.digests(after=None, limit=10_000)
    for digest in rows:
        content = catalogue.content(digest)
        assert content is not None
        sums[content.pushed] += content.size
        path = files.path(digest)
        assert path.exists() or not content.pushed, f"pushed {digest} is lost"
        assert not path.exists() or Digest.of(path.read_bytes(), digest.algorithm) == digest
        assert content.pushed == any(
            (link := catalogue.link(repo, digest)) is not None and link.pushed for repo in catalogue.repos_of(digest)
        )
    for text in acknowledged:
        content = catalogue.content(Digest.parse(text))
        assert content is not None
        assert content.pushed
    totals = catalogue.totals()
    assert (totals.pushed_bytes, totals.cached_bytes) == (sums[True], sums[False])
    on_disk = {path.name for path in catalogue.paths.content.rglob("*") if path.is_file()}
    assert on_disk <= {digest.hex for digest in rows}
    for directory in (catalogue.paths.tmp, catalogue.paths.trash, catalogue.paths.uploads):
        assert list(directory.iterdir()) == []
    catalogue.close()


def acknowledged_by(process: subprocess.Popen[str]) -> set[str]:
    assert process.stdout is not None
    lines = process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait()
    return {line.split()[1] for line in lines if line.startswith("pushed ") and line.endswith("\n")}


def test_a_kill_at_any_moment_loses_no_acknowledged_push_and_leaves_nothing_wrong(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    ends = time.monotonic() + 15.0
    seed = 0
    while seed < 25 and time.monotonic() < ends:
        process = start(tmp_path, seed, work_s=60.0)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.Random(seed).uniform(0.0, 0.3))
        process.kill()
        acknowledged |= acknowledged_by(process)
        check(tmp_path, acknowledged)
        seed += 1
    assert seed >= 5
    assert acknowledged


def test_processes_that_push_mount_and_evict_the_same_blobs_at_once_agree(tmp_path: Path) -> None:
    processes = [start(tmp_path, f"worker {number}", work_s=3.0) for number in range(3)]
    acknowledged: set[str] = set()
    for process in processes:
        acknowledged |= acknowledged_by(process)
        assert process.returncode == 0
    assert acknowledged
    check(tmp_path, acknowledged)
