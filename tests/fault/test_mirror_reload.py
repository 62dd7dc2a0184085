"""SIGHUP under load: nobody loses an answer, whatever was being asked, and the new settings count."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import images
from testbed.client import MANIFEST_TYPES, fetch
from testbed.images import MIB
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.server import Link
from testbed.zoo import ZooRegistry

pytestmark = pytest.mark.xdist_group("reload")
RELOADS = 3
MANY = images.opaque([20_000 + number for number in range(400)], seed="reload")
BIG = images.opaque([24 * MIB], seed="reload-big")
APP = "/v2/docker.io/library/app"


@pytest.fixture(scope="module")
def zoo() -> Iterator[ZooRegistry]:
    tags = {"many": MANY, "big": BIG}
    with ZooRegistry([MANY, BIG], tags=tags, link=Link(pace_bytes_s=4 * MIB)) as registry:
        yield registry


class Load:
    """Clients that ask again and again in threads; every answer that is not right is kept."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.asked = 0
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []

    def start(self, name: str, once: Callable[[], str | None]) -> None:
        def work() -> None:
            while not self.stop.is_set():
                try:
                    fault = once()
                except (OSError, http.client.HTTPException, images.PushError) as error:
                    fault = repr(error)
                self.asked += 1
                if fault:
                    self.lost.append(f"{name}: {fault}")

        thread = threading.Thread(target=work, daemon=True)
        self.threads.append(thread)
        thread.start()

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(30.0)


def wrong(answer_digest: str, status: int, wanted: str) -> str | None:
    return None if (status, answer_digest) == (200, wanted) else f"{status} {answer_digest} for {wanted}"


def test_no_request_is_lost(tmp_path: Path, zoo: ZooRegistry) -> None:
    args = ["--no-read-ahead", "--allow-anonymous-push", "--drain", "20s", "--tag-ttl", "50ms", "--tag-stale", "0s"]
    with RunningMirror(tmp_path, upstreams={"docker.io": zoo.url}, args=args, workers=2) as mirror:
        warm = MANY.layers[0]
        fetch(f"{mirror.base_url}{APP}/blobs/{warm}")
        cold, numbers, load = iter(MANY.layers[1:]), itertools.count(), Load()

        def get(path: str, wanted: str) -> str | None:
            answer = fetch(f"{mirror.base_url}{path}", headers={"Accept": MANIFEST_TYPES})
            return wrong(answer.digest, answer.status, wanted)

        def push() -> str | None:
            image = images.opaque([3_000], seed=("push", next(numbers)))
            images.push(image, mirror.base_url, "team/app", f"v{next(numbers)}")
            return None

        kept = http.client.HTTPConnection("127.0.0.1", mirror.port, timeout=30.0)

        def keep_alive() -> str | None:
            """Ask on one connection; a server may end it between two answers, but must say so."""
            kept.request("GET", f"{APP}/manifests/{MANY.digest}", headers={"Accept": MANIFEST_TYPES})
            response = kept.getresponse()
            body = response.read()
            return wrong(images.digest_of(body), response.status, MANY.digest)

        load.start("warm blob", lambda: get(f"{APP}/blobs/{warm}", warm))
        load.start("manifest", lambda: get(f"{APP}/manifests/many", MANY.digest))
        load.start("digest", lambda: get(f"{APP}/manifests/{MANY.digest}", MANY.digest))
        load.start("cold blob", lambda: get(f"{APP}/blobs/{(digest := next(cold))}", digest))
        load.start("big blob", lambda: get(f"{APP}/blobs/{BIG.layers[0]}", BIG.layers[0]))
        load.start("push", push)
        load.start("kept connection", keep_alive)
        try:
            for _ in range(RELOADS):
                before = set(mirror.children())
                time.sleep(0.5)
                mirror.reload()
                wait_for(
                    lambda before=before: len(mirror.children()) == 3 and not before & set(mirror.children()),
                    timeout_s=60.0,
                    what="new children only",
                )
        finally:
            load.end()
        kept.close()
        assert not load.lost, f"{len(load.lost)} of {load.asked}:\n" + "\n".join(load.lost[:40])
        assert load.asked > 100


def test_new_settings_count_and_bad_ones_change_nothing(tmp_path: Path, zoo: ZooRegistry) -> None:
    def config(*names: str) -> str:
        return "".join(f'[mirror.upstreams."{name}"]\nurl = "{zoo.url}"\n' for name in names)

    def serves(name: str) -> bool:
        return fetch(f"{mirror.base_url}/v2/{name}/team/app/manifests/many").status == 200

    with RunningMirror(tmp_path, config=config("one.test"), workers=2) as mirror:
        assert serves("one.test")
        assert not serves("two.test")
        (tmp_path / "hunqi.toml").write_text(config("one.test", "two.test"))
        mirror.cli("reload")
        wait_for(lambda: serves("two.test"), timeout_s=20.0, what="the new upstream")
        (tmp_path / "hunqi.toml").write_text("[mirror]\nworkers = 0\nnonsense = 1\n")
        mirror.reload()
        wait_for(lambda: "nonsense" in mirror.log.read_text(), timeout_s=10.0, what="the complaint")
        assert serves("two.test")
        assert serves("one.test")
