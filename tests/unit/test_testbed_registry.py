"""The testbed's registry is real, its wire counts exactly and breaks only when told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import images
from testbed.client import MANIFEST_TYPES, fetch
from testbed.registry import Auth, RealRegistry, real_registry
from testbed.server import Link
from testbed.wire import Break, Fault

pytestmark = pytest.mark.real
MIB = images.MIB


@pytest.fixture(scope="module")
def image() -> images.Image:
    return images.opaque([3 * MIB], seed="registry")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, image: images.Image) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("registry"), seed={"library/x:latest": image}) as running:
        yield running


@pytest.fixture
def wired(registry: RealRegistry) -> Iterator[RealRegistry]:
    registry.wire.forget()
    yield registry
    registry.wire.heal()
    registry.wire.set_link()


def blob_url(registry: RealRegistry, image: images.Image) -> str:
    return f"{registry.url}/v2/library/x/blobs/{image.layers[0]}"


def test_wire_passes_and_counts_every_byte(wired: RealRegistry, image: images.Image) -> None:
    answer = fetch(blob_url(wired, image))
    assert answer.is_whole
    assert answer.digest == image.layers[0]
    assert wired.wire.sent_bytes("/blobs/") == 3 * MIB
    assert wired.wire.count("GET", image.layers[0]) == 1
    assert fetch(blob_url(wired, image), method="HEAD").promised_bytes == 3 * MIB
    assert wired.wire.sent_bytes() == 3 * MIB


def test_wire_paces_each_connection(wired: RealRegistry, image: images.Image) -> None:
    wired.wire.set_link(pace_bytes_s=6 * MIB)
    assert 0.4 < fetch(blob_url(wired, image)).took_s < 1.5


def test_wire_waits_a_round_trip_to_connect_and_one_to_ask(wired: RealRegistry) -> None:
    wired.wire.set_link(latency_s=0.1)
    assert 0.2 <= fetch(f"{wired.url}/v2/").took_s < 0.6


def test_push_through_the_wire_works(wired: RealRegistry) -> None:
    images.push(images.runnable(seed=3), wired.url, "team/app", "v1")
    assert fetch(f"{wired.url}/v2/team/app/manifests/v1", headers={"Accept": MANIFEST_TYPES}).status == 200


@pytest.mark.parametrize("after", [0, 1, MIB, 3 * MIB - 1])
def test_cut_ends_the_body_at_the_byte(wired: RealRegistry, image: images.Image, after: int) -> None:
    wired.wire.inject(Fault(kind=Break.CUT, after_bytes=after, times=1))
    answer = fetch(blob_url(wired, image))
    assert answer.cut
    assert len(answer.body) == after
    assert fetch(blob_url(wired, image)).digest == image.layers[0]


def test_corrupt_changes_one_byte(wired: RealRegistry, image: images.Image) -> None:
    wired.wire.inject(Fault(kind=Break.CORRUPT, after_bytes=MIB))
    answer = fetch(blob_url(wired, image))
    right = image.blobs[image.layers[0]]
    assert [at for at in range(len(right)) if right[at] != answer.body[at]] == [MIB]


def test_status_silence_and_refusal_come_and_go(wired: RealRegistry, image: images.Image) -> None:
    url = blob_url(wired, image)
    wired.wire.inject(Fault(kind=Break.STATUS, status=429, headers=(("Retry-After", "3"),), times=1))
    assert fetch(url).headers["retry-after"] == "3"
    wired.wire.inject(Fault(kind=Break.SILENT))
    with pytest.raises(TimeoutError):
        fetch(url, timeout_s=0.3)
    wired.wire.refuse()
    with pytest.raises(ConnectionRefusedError):
        fetch(url)
    wired.wire.heal()
    assert fetch(url).is_whole


def test_stall_is_let_go_when_the_client_leaves(wired: RealRegistry, image: images.Image) -> None:
    wired.wire.inject(Fault(kind=Break.STALL, after_bytes=MIB))
    answer: list[bool] = []
    thread = threading.Thread(target=lambda: answer.append(fetch(blob_url(wired, image), timeout_s=20).cut))
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    wired.wire.cut_all()
    thread.join(5)
    assert answer == [True]


def test_wire_in_its_own_process_does_the_same(tmp_path: Path, image: images.Image) -> None:
    link = Link(pace_bytes_s=12 * MIB)
    with real_registry(tmp_path, seed={"library/x:latest": image}, own_process=True, link=link) as registry:
        answer = fetch(blob_url(registry, image))
        assert answer.digest == image.layers[0]
        assert answer.took_s > 0.15
        assert registry.wire.sent_bytes() == 3 * MIB
        registry.wire.inject(Fault(kind=Break.CUT, after_bytes=100))
        assert len(fetch(blob_url(registry, image)).body) == 100


@pytest.mark.parametrize("https", [False, True])
def test_bearer_registry_grants_anonymous_pulls_of_public_repositories_only(tmp_path: Path, https: bool) -> None:
    image = images.opaque([1000])
    seed = {"library/open:latest": image, "corp/secret:latest": image}
    with real_registry(tmp_path, auth=Auth.BEARER, https=https, public=("library/open",), seed=seed) as registry:
        assert registry.tokens is not None
        tls = registry.authority.client_context() if registry.authority else None

        def status(repository: str, authorization: dict[str, str]) -> int:
            assert registry.tokens is not None
            url = f"{registry.tokens.realm}?scope=repository:{repository}:pull&service=x"
            token = json.loads(fetch(url, headers=authorization, tls=tls).body)["token"]
            headers = {"Authorization": f"Bearer {token}", "Accept": MANIFEST_TYPES}
            return fetch(f"{registry.url}/v2/{repository}/manifests/latest", headers=headers, tls=tls).status

        challenge = fetch(f"{registry.url}/v2/library/open/manifests/latest", tls=tls)
        assert challenge.status == 401
        assert registry.tokens.realm in challenge.headers["www-authenticate"]
        assert status("library/open", {}) == 200
        assert status("corp/secret", {}) == 401
        assert status("corp/secret", {"Authorization": registry.authorization}) == 200
        assert registry.tokens.issued == 3
        assert registry.tokens.authorized == 1


def test_basic_registry_wants_its_password(tmp_path: Path) -> None:
    with real_registry(tmp_path, auth=Auth.BASIC) as registry:
        registry.push(images.opaque([10]), "a/b")
        url = f"{registry.url}/v2/a/b/manifests/latest"
        assert fetch(url).status == 401
        assert fetch(url, headers={"Authorization": registry.authorization, "Accept": MANIFEST_TYPES}).status == 200


def test_the_peer_to_beat_runs_as_a_mirror(tmp_path: Path, registry: RealRegistry, image: images.Image) -> None:
    with real_registry(tmp_path, mirror_of=registry.url) as mirror:
        assert fetch(blob_url(mirror, image)).digest == image.layers[0]
