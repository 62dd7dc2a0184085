"""Tags against a real registry that answers, moves, fails, limits and vanishes; the clock is the test's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hunqi.mirror.resolve.errors import (
    ManifestUnknown,
    RepositoryDenied,
    UpstreamLimited,
    UpstreamUnavailable,
)
from hunqi.mirror.resolve.model import Resolved
from hunqi.oci.reference import Tag
from support_resolve import KEY, REPO, SETTINGS, UP, Bench, World, bench, image, source

LATEST = Tag("latest")


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.server:
        world.put(REPO, "latest", image("one"))
        yield world


@pytest.fixture
def mirror(tmp_path: Path, world: World) -> Iterator[Bench]:
    with bench(tmp_path, source(world.server.url)) as running:
        yield running


def get(mirror: Bench, *, head: bool = False, tag: Tag = LATEST) -> Resolved:
    return mirror.resolver.manifest(UP, REPO, tag, head=head)


def test_a_cold_get_costs_one_call_and_is_stored(mirror: Bench, world: World) -> None:
    resolved = get(mirror)
    stored = mirror.catalogue.manifest(KEY, resolved.digest)
    assert stored is not None
    assert stored.body == world.manifests[REPO, "latest"][0]
    assert (resolved.size, resolved.media_type) == (stored.size, stored.media_type)
    assert not resolved.stale
    assert [record.method for record in world.server.requests()] == ["GET"]
    assert mirror.fetched == [resolved.digest]


def test_a_tag_that_a_head_told_is_written_down_when_its_manifest_is_stored(mirror: Bench, world: World) -> None:
    digest = get(mirror, head=True).digest
    assert mirror.catalogue.tag(KEY, LATEST) is None
    mirror.resolver.manifest(UP, REPO, digest)
    row = mirror.catalogue.tag(KEY, LATEST)
    assert row is not None
    assert row.digest == digest
    world.server.refuse()
    assert get(mirror).digest == digest


def test_within_the_ttl_nobody_is_asked(mirror: Bench, world: World) -> None:
    first = get(mirror)
    mirror.clock.pass_s(59.0)
    for head in (False, True):
        again = get(mirror, head=head)
        assert (again.digest, again.stale, again.age_s) == (first.digest, False, 59.0)
    assert world.count() == 1


def test_after_the_ttl_the_answer_comes_first_and_one_head_behind_it(mirror: Bench, world: World) -> None:
    first = get(mirror)
    mirror.clock.pass_s(61.0)
    for _ in range(5):
        again = get(mirror)
        assert (again.digest, again.stale, again.age_s) == (first.digest, True, 61.0)
    assert world.count() == 1
    assert mirror.later.run() == 1
    assert [record.method for record in world.server.requests()] == ["GET", "HEAD"]
    assert not get(mirror).stale
    assert world.count() == 2


def test_a_moved_tag_is_fetched_behind_the_answer(mirror: Bench, world: World) -> None:
    first = get(mirror)
    moved = world.put(REPO, "latest", image("two"))
    mirror.clock.pass_s(61.0)
    assert get(mirror).digest == first.digest
    mirror.later.run()
    assert get(mirror).digest == moved
    assert [record.method for record in world.server.requests()] == ["GET", "HEAD", "GET"]
    assert world.server.requests("GET")[-1].path.endswith(str(moved))


def test_long_after_the_ttl_the_head_comes_first(mirror: Bench, world: World) -> None:
    first = get(mirror)
    mirror.clock.pass_s(361.0)
    again = get(mirror)
    assert (again.digest, again.stale, again.age_s) == (first.digest, False, 0.0)
    assert [record.method for record in world.server.requests()] == ["GET", "HEAD"]
    moved = world.put(REPO, "latest", image("two"))
    mirror.clock.pass_s(361.0)
    assert get(mirror).digest == moved
    assert mirror.later.jobs == []


def test_a_tag_that_moves_back_to_what_is_stored_costs_a_head_only(mirror: Bench, world: World) -> None:
    first = get(mirror)
    world.put(REPO, "latest", image("two"))
    mirror.clock.pass_s(361.0)
    get(mirror)
    world.put(REPO, "latest", image("one"))
    mirror.clock.pass_s(361.0)
    assert get(mirror).digest == first.digest
    assert world.count("GET") == 2


def test_an_upstream_that_tells_no_digest_is_asked_by_get(mirror: Bench, world: World) -> None:
    world.tells_digest = False
    first = get(mirror)
    moved = world.put(REPO, "latest", image("two"))
    mirror.clock.pass_s(361.0)
    assert first.digest != moved == get(mirror).digest
    assert get(mirror, head=True).digest == moved


def test_ttls_by_pattern(tmp_path: Path, world: World) -> None:
    settings = replace(SETTINGS, patterns=((f"{REPO}:latest", 5.0),))
    world.put(REPO, "v1", image("v1"))
    with bench(tmp_path, source(world.server.url), settings=settings) as mirror:
        get(mirror)
        get(mirror, tag=Tag("v1"))
        mirror.clock.pass_s(6.0)
        assert get(mirror).stale
        assert not get(mirror, tag=Tag("v1")).stale


def test_a_ttl_of_nothing_revalidates_every_time(tmp_path: Path, world: World) -> None:
    settings = replace(SETTINGS, ttl_s=0.0, stale_s=0.0)
    with bench(tmp_path, source(world.server.url), settings=settings) as mirror:
        for _ in range(3):
            assert not get(mirror).stale
    assert [record.method for record in world.server.requests()] == ["GET", "HEAD", "HEAD"]


def test_head_of_an_unknown_tag_downloads_nothing(mirror: Bench, world: World) -> None:
    resolved = get(mirror, head=True)
    data, media_type = world.manifests[REPO, "latest"]
    assert (resolved.size, resolved.media_type) == (len(data), media_type)
    assert get(mirror, head=True) == resolved
    assert [record.method for record in world.server.requests()] == ["HEAD"]
    assert mirror.catalogue.content(resolved.digest) is None
    assert mirror.catalogue.tag(KEY, LATEST) is None
    assert get(mirror).digest == resolved.digest
    assert mirror.catalogue.manifest(KEY, resolved.digest) is not None


def test_a_get_after_a_head_that_saw_the_tag_move_does_not_answer_the_old(mirror: Bench, world: World) -> None:
    get(mirror)
    moved = world.put(REPO, "latest", image("two"))
    mirror.clock.pass_s(361.0)
    assert get(mirror, head=True).digest == moved
    assert mirror.catalogue.content(moved) is None
    assert get(mirror).digest == moved
    assert world.count("GET") == 2


def test_what_a_head_saw_does_not_hide_the_stored_answer_when_the_upstream_goes(mirror: Bench, world: World) -> None:
    first = get(mirror)
    world.put(REPO, "latest", image("two"))
    mirror.clock.pass_s(361.0)
    get(mirror, head=True)
    world.server.refuse()
    stale = get(mirror)
    assert (stale.digest, stale.stale) == (first.digest, True)


def test_an_evicted_manifest_is_fetched_again(mirror: Bench, world: World) -> None:
    first = get(mirror)
    mirror.catalogue.paths.content_file(first.digest).unlink()
    assert get(mirror).digest == first.digest
    assert mirror.catalogue.manifest(KEY, first.digest) is not None
    assert world.count("GET") == 2


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_a_failing_upstream_serves_stale(mirror: Bench, world: World, status: int) -> None:
    first = get(mirror)
    world.fail(status)
    mirror.clock.pass_s(1000.0)
    stale = get(mirror)
    assert (stale.digest, stale.stale, stale.age_s) == (first.digest, True, 1000.0)
    world.heal()
    mirror.clock.pass_s(100.0)
    assert not get(mirror).stale


def test_an_upstream_that_is_away_serves_stale_and_at_once(mirror: Bench, world: World) -> None:
    first = get(mirror)
    world.server.refuse()
    mirror.clock.pass_s(1000.0)
    for _ in range(3):
        stale = get(mirror)
        assert (stale.digest, stale.stale) == (first.digest, True)
    assert len(mirror.later.jobs) == 1
    world.server.listen()
    mirror.clock.pass_s(2.0)
    mirror.later.run()
    assert not get(mirror).stale


def test_a_silent_upstream_costs_its_deadline_once(mirror: Bench, world: World) -> None:
    get(mirror)
    world.gate.clear()
    mirror.clock.pass_s(1000.0)
    assert get(mirror).stale
    began_s = time.monotonic()
    assert get(mirror).stale
    assert time.monotonic() - began_s < 0.3
    world.gate.set()


def test_an_upstream_that_is_away_is_an_error_for_what_is_not_known(mirror: Bench, world: World) -> None:
    world.server.refuse()
    with pytest.raises(UpstreamUnavailable) as caught:
        get(mirror)
    assert "upstream:docker.io" in caught.value.reasons[0]


def test_a_tag_that_is_gone_upstream_is_gone_here(mirror: Bench, world: World) -> None:
    get(mirror)
    world.drop(REPO, "latest")
    mirror.clock.pass_s(361.0)
    with pytest.raises(ManifestUnknown):
        get(mirror)
    assert mirror.catalogue.tag(KEY, LATEST) is None
    world.server.refuse()
    mirror.clock.pass_s(11.0)
    with pytest.raises(UpstreamUnavailable):
        get(mirror)


@pytest.mark.parametrize(("status", "unauthorized"), [(401, True), (403, False)])
def test_a_refused_tag_is_not_served_stale(mirror: Bench, world: World, status: int, unauthorized: bool) -> None:
    get(mirror)
    world.fail(status)
    mirror.clock.pass_s(61.0)
    assert get(mirror).stale
    mirror.later.run()
    with pytest.raises(RepositoryDenied) as caught:
        get(mirror)
    assert caught.value.unauthorized is unauthorized
    assert mirror.catalogue.tag(KEY, LATEST) is None


def test_what_is_unknown_is_remembered_for_a_while(mirror: Bench, world: World) -> None:
    for _ in range(3):
        with pytest.raises(ManifestUnknown):
            get(mirror, tag=Tag("nope"))
    assert world.count() == 1
    world.put(REPO, "nope", image("now"))
    mirror.clock.pass_s(11.0)
    get(mirror, tag=Tag("nope"))
    assert world.count() == 2


def test_a_limit_stays_a_limit_and_is_kept_to(mirror: Bench, world: World) -> None:
    world.fail(429, {"Retry-After": "120"})
    with pytest.raises(UpstreamLimited) as caught:
        get(mirror)
    assert caught.value.retry_after_s == 120.0
    mirror.clock.pass_s(50.0)
    with pytest.raises(UpstreamLimited) as caught:
        get(mirror, tag=Tag("other"))
    assert caught.value.retry_after_s == 70.0
    assert world.count() == 1
    world.heal()
    mirror.clock.pass_s(71.0)
    get(mirror)


def test_a_limit_without_a_time_is_kept_for_a_minute(mirror: Bench, world: World) -> None:
    world.fail(429)
    with pytest.raises(UpstreamLimited) as caught:
        get(mirror)
    assert caught.value.retry_after_s == 60.0


def test_while_limited_stale_is_served_without_a_call(mirror: Bench, world: World) -> None:
    first = get(mirror)
    world.fail(429, {"Retry-After": "100000"})
    mirror.clock.pass_s(361.0)
    stale = get(mirror)
    assert (stale.digest, stale.stale) == (first.digest, True)
    asked = world.count()
    for _ in range(3):
        mirror.clock.pass_s(600.0)
        assert get(mirror).digest == first.digest
        mirror.later.run()
    assert world.count() == asked
    world.heal()
    mirror.clock.pass_s(1801.0)
    assert get(mirror).stale or world.count() == asked + 1
    mirror.later.run()
    assert not get(mirror).stale


def test_a_limit_on_downloads_keeps_the_old_answer(mirror: Bench, world: World) -> None:
    first = get(mirror)
    moved = world.put(REPO, "latest", image("two"))
    world.fail(429, {"Retry-After": "60"}, containing=str(moved))
    mirror.clock.pass_s(361.0)
    stale = get(mirror)
    assert (stale.digest, stale.stale) == (first.digest, True)


def test_many_clients_make_one_call(mirror: Bench, world: World) -> None:
    world.gate.clear()
    with ThreadPoolExecutor(32) as pool:
        asked = [pool.submit(get, mirror) for _ in range(32)]
        time.sleep(0.3)
        world.gate.set()
        digests = {one.result(10.0).digest for one in asked}
    assert len(digests) == 1
    assert world.count() == 1


def test_many_clients_get_one_refusal(mirror: Bench, world: World) -> None:
    world.gate.clear()
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(get, mirror, tag=Tag("nope")) for _ in range(16)]
        time.sleep(0.3)
        world.gate.set()
        assert all(isinstance(one.exception(10.0), ManifestUnknown) for one in asked)
    assert world.count() == 1


def test_an_upstream_that_does_not_have_what_it_announced_is_asked_by_the_tag(mirror: Bench, world: World) -> None:
    get(mirror)
    moved = world.put(REPO, "latest", image("two"))
    world.fail(404, containing=str(moved))
    mirror.clock.pass_s(361.0)
    assert get(mirror).digest == moved


def test_what_cannot_be_a_manifest_is_not_kept(mirror: Bench, world: World) -> None:
    world.manifests[REPO, "latest"] = (b'{"schemaVersion": 1}', "application/vnd.docker.distribution.manifest.v1+json")
    with pytest.raises(UpstreamUnavailable) as caught:
        get(mirror)
    assert "cannot be kept" in caught.value.reasons[0]
    assert mirror.catalogue.totals().cached_files == 0


def test_an_invalidated_tag_is_asked_for_again(mirror: Bench, world: World) -> None:
    get(mirror)
    mirror.resolver.invalidate(UP, REPO, LATEST)
    get(mirror)
    assert world.count() == 2
