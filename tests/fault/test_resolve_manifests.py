"""Manifests by digest: for ever once linked, by a HEAD where another repository has them, also on a full disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hunqi.mirror.resolve.errors import ManifestUnknown, UpstreamUnavailable
from hunqi.mirror.resolve.model import Resolved
from hunqi.mirror.sources.model import SourceKind
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Reference, Tag
from support_resolve import KEY, REPO, UP, Bench, World, bench, filled, image, small_disk, source

OTHER = "library/other"


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.server:
        yield world


@pytest.fixture
def mirror(tmp_path: Path, world: World) -> Iterator[Bench]:
    with bench(tmp_path, source(world.server.url)) as running:
        yield running


def get(mirror: Bench, reference: Reference, *, repository: str = REPO, head: bool = False) -> Resolved:
    return mirror.resolver.manifest(UP, repository, reference, head=head)


def test_a_digest_is_fetched_once_and_good_for_ever(mirror: Bench, world: World) -> None:
    digest = world.put(REPO, None, image("one"))
    assert get(mirror, digest).digest == digest
    world.server.refuse()
    mirror.clock.pass_s(1e9)
    for head in (False, True):
        resolved = get(mirror, digest, head=head)
        assert (resolved.digest, resolved.stale, resolved.age_s) == (digest, False, 0.0)
    assert world.count() == 1


def test_head_of_a_digest_downloads_nothing(mirror: Bench, world: World) -> None:
    digest = world.put(REPO, None, image("one"))
    resolved = get(mirror, digest, head=True)
    data, media_type = world.manifests[REPO, str(digest)]
    assert (resolved.size, resolved.media_type) == (len(data), media_type)
    assert mirror.catalogue.content(digest) is None
    assert world.count("GET") == 0


def test_a_manifest_of_another_repository_costs_a_head_there(mirror: Bench, world: World) -> None:
    digest = world.put(REPO, None, image("one"))
    world.put(OTHER, None, image("one"))
    get(mirror, digest)
    assert get(mirror, digest, repository=OTHER).digest == digest
    assert mirror.catalogue.manifest(f"{UP}/{OTHER}", digest) is not None
    assert world.count("GET") == 1
    assert world.count("HEAD", containing=OTHER) == 1


def test_knowing_the_digest_of_another_repositorys_manifest_opens_nothing(mirror: Bench, world: World) -> None:
    digest = world.put(REPO, None, image("one"))
    get(mirror, digest)
    for head in (False, True):
        with pytest.raises(ManifestUnknown):
            get(mirror, digest, repository=OTHER, head=head)
    assert mirror.catalogue.link(f"{UP}/{OTHER}", digest) is None
    world.server.refuse()
    mirror.clock.pass_s(11.0)
    with pytest.raises(UpstreamUnavailable):
        get(mirror, digest, repository=OTHER)


def test_what_is_stored_as_a_blob_only_becomes_a_manifest_by_asking(mirror: Bench, world: World) -> None:
    digest = world.put(REPO, None, image("one"))
    assert mirror.blob(KEY, world.manifests[REPO, str(digest)][0]) == digest
    assert get(mirror, digest).media_type == image("one")["mediaType"]
    assert mirror.catalogue.manifest(KEY, digest) is not None


def test_wrong_bytes_are_not_kept(mirror: Bench, world: World) -> None:
    digest = world.put(REPO, None, image("one"))
    data, media_type = world.manifests[REPO, str(digest)]
    world.manifests[REPO, str(digest)] = (data.replace(b"one", b"two"), media_type)
    with pytest.raises(UpstreamUnavailable) as caught:
        get(mirror, digest)
    assert "digest" in caught.value.reasons[0]
    assert mirror.catalogue.content(digest) is None


def test_sha512_is_a_digest_like_any_other(mirror: Bench, world: World) -> None:
    data, media_type = world.manifests[REPO, str(world.put(REPO, None, image("one")))]
    digest = Digest.of(data, "sha512")
    world.manifests[REPO, str(digest)] = (data, media_type)
    world.tells_digest = False
    assert get(mirror, digest).digest == digest
    assert get(mirror, digest).digest == digest
    assert world.count() == 1


def test_many_clients_fetch_a_digest_once(mirror: Bench, world: World) -> None:
    digest = world.put(REPO, None, image("one"))
    world.gate.clear()
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(get, mirror, digest) for _ in range(16)]
        time.sleep(0.3)
        world.gate.set()
        assert {one.result(10.0).digest for one in asked} == {digest}
    assert world.count() == 1


def test_unknown_digests_are_remembered_for_a_while(mirror: Bench, world: World) -> None:
    digest = Digest.of(b"nothing")
    for _ in range(3):
        with pytest.raises(ManifestUnknown):
            get(mirror, digest)
    assert world.count() == 1


def test_a_full_disk_does_not_stop_pulls(tmp_path: Path, world: World) -> None:
    digest = world.put(REPO, "latest", image("one"))
    small = tmp_path / "small"
    with small_disk(small, size_bytes=2 * 1024 * 1024), bench(small, source(world.server.url)) as mirror:
        mirror.catalogue.version()  # a running mirror has its connections open
        with filled(small):
            for _ in range(3):
                resolved = get(mirror, Tag("latest"))
                assert resolved.body == world.manifests[REPO, "latest"][0]
            assert get(mirror, digest).body == resolved.body
            assert world.count() == 1
            mirror.clock.pass_s(361.0)
            assert get(mirror, Tag("latest")).body == resolved.body
            assert [record.method for record in world.server.requests()] == ["GET", "HEAD"]
        mirror.resolver.invalidate(UP, REPO, Tag("latest"))
        assert get(mirror, Tag("latest")).body is None
        assert mirror.catalogue.manifest(KEY, digest) is not None


def test_of_several_nodes_one_spends_the_quota_and_a_dead_owner_costs_nothing_but_that(tmp_path: Path) -> None:
    up, near = World(), World()
    with up.server, near.server:
        digest = up.put(REPO, "latest", image("one"))
        near.put(KEY, None, image("one"))
        owner = source(near.server.url, SourceKind.PEER)
        with bench(tmp_path / "a", source(up.server.url), owners=[owner]) as node:
            assert node.resolver.manifest(UP, REPO, Tag("latest")).digest == digest
            assert (up.count("GET"), up.count("HEAD"), near.count("GET")) == (0, 1, 1)
        with bench(tmp_path / "b", source(up.server.url), owners=[source(near.server.url, SourceKind.PEER)]) as node:
            near.fail(502)
            assert node.resolver.manifest(UP, REPO, digest).digest == digest
            assert (up.count("GET"), near.count("GET")) == (1, 2)
            assert node.health.state(f"peer:{near.server.url.partition('//')[2]}").down_until_s is None


def test_a_question_of_a_peer_asks_no_peer(tmp_path: Path) -> None:
    up, near = World(), World()
    with up.server, near.server:
        digest = up.put(REPO, "latest", image("one"))
        with bench(tmp_path, source(up.server.url), owners=[source(near.server.url, SourceKind.PEER)]) as node:
            assert node.resolver.manifest(UP, REPO, digest, from_peer=True).digest == digest
            assert near.count() == 0
