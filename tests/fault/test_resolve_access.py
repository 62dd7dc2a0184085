"""Visibility, blob links, lists and relays: who sees what, and what a loop ends with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hunqi.mirror.resolve.errors import BlobUnknown, ManifestUnknown, RelayLoop, UpstreamUnavailable
from hunqi.mirror.sources.model import SourceKind
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Tag
from support_resolve import KEY, REPO, UP, Bench, World, bench, image, index, source

LATEST = Tag("latest")
OTHER = "library/other"
LAYER = b"layer bytes"


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.server:
        world.put(REPO, "latest", image("one", (b"{}", "application/json"), (LAYER, "application/octet-stream")))
        yield world


@pytest.fixture
def mirror(tmp_path: Path, world: World) -> Iterator[Bench]:
    with bench(tmp_path / "a", source(world.server.url)) as running:
        yield running


@pytest.fixture
def known(tmp_path: Path, world: World) -> Iterator[Bench]:
    """A mirror that could use credentials."""
    with bench(tmp_path / "b", source(world.server.url), with_credentials=True) as running:
        yield running


def test_an_anonymous_head_decides_and_is_remembered(known: Bench, world: World) -> None:
    assert known.resolver.visibility(UP, REPO, LATEST)
    known.clock.pass_s(2699.0)
    assert known.resolver.visibility(UP, REPO, LATEST)
    assert [record.method for record in world.server.requests()] == ["HEAD"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_to_strangers_means_private(known: Bench, world: World, status: int) -> None:
    world.fail(status)
    assert not known.resolver.visibility(UP, REPO, LATEST)
    world.heal()
    assert not known.resolver.visibility(UP, REPO, LATEST)
    known.clock.pass_s(3600.0)
    assert known.resolver.visibility(UP, REPO, LATEST)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_undecidable_is_the_last_decision_else_private(known: Bench, world: World, status: int) -> None:
    world.fail(status, {"Retry-After": "1"})
    assert not known.resolver.visibility(UP, REPO, LATEST)
    world.heal()
    known.clock.pass_s(120.0)
    assert known.resolver.visibility(UP, REPO, LATEST)
    world.fail(status)
    known.clock.pass_s(3600.0)
    assert known.resolver.visibility(UP, REPO, LATEST)


def test_a_decision_is_written_down_once_something_is_stored(known: Bench) -> None:
    assert known.resolver.visibility(UP, REPO, LATEST)
    decided_at = known.clock.now
    assert known.catalogue.visibility(KEY) is None
    known.clock.pass_s(10.0)
    known.resolver.manifest(UP, REPO, LATEST)
    written = known.catalogue.visibility(KEY)
    assert written is not None
    assert (written.public, written.decided_at) == (True, decided_at)


def test_a_404_to_a_stranger_decides_only_where_we_are_strangers_ourselves(mirror: Bench, known: Bench) -> None:
    assert mirror.resolver.visibility(UP, OTHER, LATEST)
    assert not known.resolver.visibility(UP, OTHER, LATEST)


def test_a_pull_without_credentials_decides_and_one_with_does_not(mirror: Bench, known: Bench, world: World) -> None:
    mirror.resolver.manifest(UP, REPO, LATEST)
    known.resolver.manifest(UP, REPO, LATEST)
    decided = mirror.catalogue.visibility(KEY)
    assert decided is not None
    assert decided.public
    assert known.catalogue.visibility(KEY) is None
    asked = world.count()
    assert mirror.resolver.visibility(UP, REPO, LATEST)
    assert world.count() == asked


def test_visibility_is_renewed_behind_the_answer(known: Bench, world: World) -> None:
    assert known.resolver.visibility(UP, REPO, LATEST)
    world.fail(403)
    known.clock.pass_s(2700.0)
    assert known.resolver.visibility(UP, REPO, LATEST)
    assert known.later.run() == 1
    assert not known.resolver.visibility(UP, REPO, LATEST)


def test_asking_for_names_does_not_fill_the_disk(mirror: Bench) -> None:
    for number in range(5):
        mirror.resolver.visibility(UP, f"library/n{number}", LATEST)
        assert mirror.catalogue.visibility(f"{UP}/library/n{number}") is None


def test_a_stored_blob_costs_one_head_in_another_repository(mirror: Bench, world: World) -> None:
    digest = mirror.blob(KEY, LAYER)
    world.blobs[OTHER, str(digest)] = LAYER
    for _ in range(2):
        assert mirror.resolver.link_blob(UP, OTHER, digest) == len(LAYER)
    assert mirror.catalogue.link(f"{UP}/{OTHER}", digest) is not None
    assert [record.method for record in world.server.requests()] == ["HEAD"]


def test_knowing_a_blobs_digest_opens_nothing(mirror: Bench, world: World) -> None:
    digest = mirror.blob(KEY, LAYER)
    for _ in range(2):
        with pytest.raises(BlobUnknown):
            mirror.resolver.link_blob(UP, OTHER, digest)
    assert world.count() == 1
    world.server.refuse()
    mirror.clock.pass_s(11.0)
    with pytest.raises(UpstreamUnavailable):
        mirror.resolver.link_blob(UP, OTHER, digest)
    assert mirror.catalogue.link(f"{UP}/{OTHER}", digest) is None


def test_a_manifest_that_names_another_repositorys_private_blob_is_not_believed(mirror: Bench, world: World) -> None:
    digest = mirror.blob("team/private", LAYER, pushed=True)
    mirror.resolver.manifest(UP, REPO, LATEST)
    with pytest.raises(BlobUnknown):
        mirror.resolver.link_blob(UP, REPO, digest)
    assert world.count("HEAD", containing="blobs") == 1


def test_a_list_is_kept_with_its_headers_and_goes_stale(mirror: Bench, world: World) -> None:
    link = '</v2/library/x/tags/list?n=1&last=a>; rel="next"'
    world.documents[REPO, "tags/list?n=1"] = (b'{"tags":["a"]}', {"Content-Type": "application/json", "Link": link})
    for _ in range(2):
        listed = mirror.resolver.document(UP, REPO, "tags/list?n=1")
        assert (listed.body, listed.link_header, listed.stale) == (b'{"tags":["a"]}', link, False)
    assert world.count() == 1
    world.server.refuse()
    mirror.clock.pass_s(1000.0)
    listed = mirror.resolver.document(UP, REPO, "tags/list?n=1")
    assert (listed.link_header, listed.stale, listed.age_s) == (link, True, 1000.0)


def test_a_list_that_is_gone_is_not_served_stale(mirror: Bench, world: World) -> None:
    world.documents[REPO, "tags/list"] = (b'{"tags":[]}', {})
    mirror.resolver.document(UP, REPO, "tags/list")
    world.documents.clear()
    mirror.clock.pass_s(1000.0)
    with pytest.raises(ManifestUnknown):
        mirror.resolver.document(UP, REPO, "tags/list")
    world.server.refuse()
    mirror.clock.pass_s(11.0)
    with pytest.raises(UpstreamUnavailable):
        mirror.resolver.document(UP, REPO, "tags/list")


def test_referrers_fall_back_to_the_tag_schema_and_then_to_nothing(mirror: Bench, world: World) -> None:
    subject, signature = Digest.of(b"subject"), Digest.of(b"signature")
    empty = mirror.resolver.document(UP, REPO, f"referrers/{subject}")
    assert json.loads(empty.body)["manifests"] == []
    world.put(REPO, f"sha256-{subject.hex}", index((signature, None)))
    mirror.clock.pass_s(1000.0)
    found = mirror.resolver.document(UP, REPO, f"referrers/{subject}")
    assert json.loads(found.body)["manifests"][0]["digest"] == str(signature)


def test_a_relay_is_asked_first_and_its_failure_falls_through(tmp_path: Path, world: World) -> None:
    relay = World()
    with relay.server:
        sources = (source(relay.server.url, SourceKind.RELAY), source(world.server.url))
        with bench(tmp_path / "r", *sources) as mirror:
            mirror.resolver.manifest(UP, REPO, LATEST)
            assert (relay.count(), world.count()) == (1, 1)
            relay.put(f"{UP}/{REPO}", "v2", image("two"))
            mirror.resolver.manifest(UP, REPO, Tag("v2"))
            assert (relay.count(), world.count()) == (2, 1)
            assert relay.server.requests()[0].headers["hunqi-hop"] == "node-a"


def test_where_only_the_relay_can_be_reached_its_answer_counts(tmp_path: Path, world: World) -> None:
    world.server.refuse()
    relay = World()
    with relay.server:
        sources = (source(relay.server.url, SourceKind.RELAY), source(world.server.url))
        with bench(tmp_path / "r", *sources) as mirror, pytest.raises(ManifestUnknown):
            mirror.resolver.manifest(UP, REPO, LATEST)


def test_a_question_that_comes_round_is_refused_before_anyone_is_asked(mirror: Bench, world: World) -> None:
    for hops in (("node-a",), ("node-b", "node-a"), tuple(f"n{number}" for number in range(16))):
        with pytest.raises(RelayLoop):
            mirror.resolver.manifest(UP, REPO, LATEST, hops=hops)
        with pytest.raises(RelayLoop):
            mirror.resolver.visibility(UP, REPO, LATEST, hops=hops)
    assert world.count() == 0


def test_a_loop_behind_a_relay_is_an_error_that_says_so(tmp_path: Path, world: World) -> None:
    relay = World()
    relay.fail(508)
    with relay.server:
        sources = (source(relay.server.url, SourceKind.RELAY), source(world.server.url))
        with bench(tmp_path / "r", *sources) as mirror, pytest.raises(RelayLoop) as caught:
            mirror.resolver.manifest(UP, REPO, LATEST)
    assert "loop" in str(caught.value)
    assert world.count() == 0
