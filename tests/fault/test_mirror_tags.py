"""Tags and lists through the whole mirror: TTLs, staleness with its headers, what is never stale, limits and quotas."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_INDEX, OCI_MANIFEST
from support_resolve import World
from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.mirror import RunningMirror
from testbed.processes import wait_for

REPO: Final = "library/x"
SHORT: Final = ("--tag-ttl", "100ms", "--connect-timeout", "1s", "--first-byte-timeout", "1s")
NO_STALE: Final = (*SHORT, "--tag-stale", "0s")
QUOTA: Final = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600"}


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    with made.server:
        yield made


@contextmanager
def mirror_of(directory: Path, world: World, *args: str, config: str | None = None) -> Iterator[RunningMirror]:
    upstreams = {"docker.io": world.server.url}
    with RunningMirror(directory, upstreams=upstreams, args=args, workers=2, config=config) as running:
        yield running


def manifest(number: int) -> dict[str, Any]:
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(Digest.of(b"{}")), "size": 2}
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": empty,
        "layers": [],
        "annotations": {"number": str(number)},
    }


def ask(mirror: RunningMirror, rest: str = "manifests/latest", method: str = "GET", **headers: str) -> Answer:
    sent = {"Accept": MANIFEST_TYPES, **headers}
    return fetch(f"{mirror.base_url}/v2/docker.io/{REPO}/{rest}", method=method, headers=sent, timeout_s=20.0)


def error_code(answer: Answer) -> str:
    return json.loads(answer.body)["errors"][0]["code"]


def let_expire() -> None:
    time.sleep(0.25)


def is_stale(answer: Answer) -> bool:
    return answer.status == 200 and answer.headers.get("warning", "").startswith("110 ") and "age" in answer.headers


def test_within_the_ttl_nobody_is_asked_by_any_worker(tmp_path: Path, world: World) -> None:
    digest = world.put(REPO, "latest", manifest(1))
    with mirror_of(tmp_path, world, "--tag-ttl", "10m") as mirror:
        answers = [ask(mirror, method=method) for method in ("GET", "HEAD") * 6]
        assert {answer.headers["docker-content-digest"] for answer in answers} == {str(digest)}
        assert not any("warning" in answer.headers or "age" in answer.headers for answer in answers)
        assert world.count() == 1


def test_after_the_ttl_the_answer_comes_first_with_its_age_and_a_head_behind_it(tmp_path: Path, world: World) -> None:
    old = world.put(REPO, "latest", manifest(1))
    with mirror_of(tmp_path, world, *SHORT) as mirror:
        ask(mirror)
        new = world.put(REPO, "latest", manifest(2))
        let_expire()
        answer = ask(mirror)
        assert (answer.headers["docker-content-digest"], is_stale(answer)) == (str(old), True)
        wait_for(lambda: ask(mirror).headers["docker-content-digest"] == str(new), timeout_s=10.0, what="the moved tag")
        assert world.count("HEAD", containing="/manifests/latest") >= 1
        assert world.count("GET", containing="/manifests/") == 2


def test_patterns_of_tags_have_ttls_of_their_own(tmp_path: Path, world: World) -> None:
    for tag in ("latest", "1.2.3"):
        world.put(REPO, tag, manifest(1))
    args = (*NO_STALE, "--tag-ttl-for", "library/*:[0-9]*.[0-9]*.[0-9]*=1h")
    with mirror_of(tmp_path, world, *args) as mirror:
        for _ in range(3):
            for tag in ("latest", "1.2.3"):
                assert ask(mirror, f"manifests/{tag}").status == 200
            let_expire()
        assert world.count(containing="/manifests/1.2.3") == 1
        assert world.count(containing="/manifests/latest") == 3


def silence(world: World) -> None:
    world.gate.clear()


TROUBLES: Final = {
    "refused": lambda world: world.server.refuse(),
    "silent": silence,
    "500": lambda world: world.fail(500),
    "503": lambda world: world.fail(503),
    "429": lambda world: world.fail(429, {"Retry-After": "30"}),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_known_tag_is_served_stale_when_the_upstream_is_in_trouble(
    tmp_path: Path, world: World, trouble: str
) -> None:
    digest = world.put(REPO, "latest", manifest(1))
    with mirror_of(tmp_path, world, *NO_STALE) as mirror:
        ask(mirror)
        let_expire()
        try:
            TROUBLES[trouble](world)
            for method in ("GET", "HEAD", "GET"):
                answer = ask(mirror, method=method)
                assert (answer.headers["docker-content-digest"], is_stale(answer)) == (str(digest), True)
            assert answer.took_s < 0.5  # whoever is down is not waited for again
        finally:
            world.gate.set()


@pytest.mark.parametrize(("status", "told"), [(401, 403), (403, 403), (404, 404)])
def test_what_was_taken_away_is_never_served_stale(tmp_path: Path, world: World, status: int, told: int) -> None:
    world.put(REPO, "latest", manifest(1))
    with mirror_of(tmp_path, world, *NO_STALE) as mirror:
        ask(mirror)
        let_expire()
        world.fail(status)
        assert ask(mirror).status == told
        assert ask(mirror, method="HEAD").status == told


def test_what_does_not_exist_is_remembered_for_a_while(tmp_path: Path, world: World) -> None:
    config = '[mirror]\ntags.negative = "2s"\n'
    with mirror_of(tmp_path, world, config=config) as mirror:
        for _ in range(5):
            answer = ask(mirror, "manifests/none")
            assert (answer.status, error_code(answer)) == (404, "MANIFEST_UNKNOWN")
        assert world.count(containing="/manifests/none") == 1
        world.put(REPO, "none", manifest(3))
        wait_for(lambda: ask(mirror, "manifests/none").status == 200, timeout_s=10.0, what="the tag that was pushed")


def test_a_limit_stays_a_limit_with_its_time_and_is_kept_to(tmp_path: Path, world: World) -> None:
    world.fail(429, {"Retry-After": "30"})
    with mirror_of(tmp_path, world) as mirror:
        for _ in range(3):
            answer = ask(mirror)
            assert (answer.status, error_code(answer)) == (429, "TOOMANYREQUESTS")
            assert 1 <= int(answer.headers["retry-after"]) <= 30
        assert world.count() == 1


def test_a_limit_on_a_blob_is_told_as_one(tmp_path: Path, world: World) -> None:
    world.fail(429, {"Retry-After": "7"})
    with mirror_of(tmp_path, world) as mirror:
        for method in ("HEAD", "GET"):
            answer = ask(mirror, f"blobs/{Digest.of(b'blob')}", method)
            assert answer.status == 429, method
            assert 1 <= int(answer.headers["retry-after"]) <= 7


def test_the_quota_is_read_and_shown(tmp_path: Path, world: World) -> None:
    world.put(REPO, "latest", manifest(1))
    world.headers = QUOTA
    with mirror_of(tmp_path, world) as mirror:
        ask(mirror)
        quota = {name: value for name, value in mirror.metrics().items() if "quota" in name}
        assert [value for name, value in quota.items() if "docker.io" in name and "remaining" in name] == [76.0]
        assert [value for name, value in quota.items() if "docker.io" in name and "limit" in name] == [100.0]
        sources: Any = mirror.cli_json("stat")
        assert [(source["quota"], source["quota_limit"]) for source in sources["sources"]] == [(76, 100)]
        assert "76" in mirror.cli("stat")


def put_list(world: World, path: str, body: object, **headers: str) -> None:
    world.documents[REPO, path] = (json.dumps(body).encode(), {"Content-Type": "application/json", **headers})


def test_tag_lists_are_passed_through_with_their_pages_and_go_stale(tmp_path: Path, world: World) -> None:
    link = {"Link": f'</v2/{REPO}/tags/list?n=2&last=b>; rel="next"'}
    put_list(world, "tags/list?n=2", {"name": REPO, "tags": ["a", "b"]}, **link)
    put_list(world, "tags/list?n=2&last=b", {"name": REPO, "tags": ["c"]})
    with mirror_of(tmp_path, world, *NO_STALE) as mirror:
        first = ask(mirror, "tags/list?n=2")
        assert json.loads(first.body)["tags"] == ["a", "b"]
        assert first.headers["link"] == f'</v2/docker.io/{REPO}/tags/list?n=2&last=b>; rel="next"'
        assert json.loads(ask(mirror, "tags/list?n=2&last=b").body)["tags"] == ["c"]
        let_expire()
        world.fail(503)
        stale = ask(mirror, "tags/list?n=2")
        assert is_stale(stale)
        assert stale.headers["link"] == first.headers["link"]
        world.fail(404)
        assert ask(mirror, "tags/list?n=2").status == 404


def test_referrers_are_passed_through_and_go_stale(tmp_path: Path, world: World) -> None:
    subject = world.put(REPO, "latest", manifest(1))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    put_list(world, f"referrers/{subject}?artifactType=a%2Fb", index, **{"OCI-Filters-Applied": "artifactType"})
    with mirror_of(tmp_path, world, *NO_STALE) as mirror:
        path = f"referrers/{subject}?artifactType=a/b"
        answer = ask(mirror, path)
        assert (json.loads(answer.body), answer.headers["oci-filters-applied"]) == (index, "artifactType")
        let_expire()
        world.server.refuse()
        assert is_stale(ask(mirror, path))


def test_an_upstream_without_referrers_is_asked_for_the_fallback_tag(tmp_path: Path, world: World) -> None:
    subject = world.put(REPO, "latest", manifest(1))
    descriptor = {"mediaType": OCI_MANIFEST, "digest": str(subject), "size": 1, "artifactType": "a/b"}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]}
    fallback = f"{subject.algorithm}-{subject.hex}"
    digest = world.put(REPO, fallback, index)
    with mirror_of(tmp_path, world, *NO_STALE) as mirror:
        answer = ask(mirror, f"referrers/{subject}")
        assert (answer.status, answer.headers["content-type"]) == (200, OCI_INDEX)
        assert json.loads(answer.body) == index
        tag = ask(mirror, f"manifests/{fallback}")  # as cosign asks
        assert tag.headers["docker-content-digest"] == str(digest)
        assert ask(mirror, f"manifests/{fallback}.sig").status == 404
        other = ask(mirror, f"referrers/{Digest.of(b'none')}")
        assert (other.status, json.loads(other.body)["manifests"]) == (200, [])
        let_expire()
        world.fail(500)
        assert is_stale(ask(mirror, f"manifests/{fallback}"))
        assert is_stale(ask(mirror, f"referrers/{subject}"))
