"""What operators and their tools see: metrics of all workers together, health, and one access line per request."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from testbed import images
from testbed.client import fetch
from testbed.images import MIB
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.registry import RealRegistry, real_registry
from testbed.trial import IMPATIENT, REPOSITORY, get_blob, get_manifest
from testbed.wire import Break, Fault

pytestmark = pytest.mark.real
IMAGE = images.opaque([300_000, 24 * MIB], seed="observe")
SMALL, LARGE = IMAGE.layers
KINDS = {
    "hunqi_mirror_requests": "counter",
    "hunqi_mirror_sent_bytes": "counter",
    "hunqi_mirror_saved_bytes": "counter",
    "hunqi_mirror_fetched_bytes": "counter",
    "hunqi_mirror_evicted_bytes": "counter",
    "hunqi_mirror_request_seconds": "histogram",
    "hunqi_mirror_fetches_in_flight": "gauge",
    "hunqi_mirror_source_up": "gauge",
    "hunqi_mirror_source_bytes_per_second": "gauge",
    "hunqi_mirror_quota_remaining": "gauge",
    "hunqi_mirror_quota_limit": "gauge",
    "hunqi_mirror_cached_bytes": "gauge",
    "hunqi_mirror_pushed_bytes": "gauge",
    "hunqi_mirror_part_bytes": "gauge",
    "hunqi_mirror_cache_max_bytes": "gauge",
    "hunqi_mirror_caching": "gauge",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("world"), seed={f"{REPOSITORY}:latest": IMAGE}) as registry:
        yield registry


@pytest.fixture
def mirror(tmp_path: Path, world: RealRegistry) -> Iterator[RunningMirror]:
    world.wire.heal()
    args = [*IMPATIENT, "--no-read-ahead", "--allow-anonymous-push", "--fetch-connections", "1"]
    with RunningMirror(tmp_path, upstreams={"docker.io": world.url}, args=args, workers=2) as running:
        yield running


def scrape(mirror: RunningMirror) -> dict[str, float]:
    """Parse as a monitoring system does, strictly."""
    answer = fetch(f"{mirror.base_url}/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = list(text_string_to_metric_families(answer.body.decode()))
    assert {family.name: family.type for family in families} == KINDS
    assert all(family.documentation for family in families)
    samples: dict[str, float] = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
        samples[f"{sample.name}{{{labels}}}"] = sample.value
    return samples


def blobs(samples: Mapping[str, float], outcome: str) -> float:
    return samples.get(f"hunqi_mirror_requests_total{{kind=blob,outcome={outcome},status=200}}", 0)


def fetched(samples: Mapping[str, float]) -> float:
    return samples.get("hunqi_mirror_fetched_bytes_total{source=upstream:docker.io}", 0)


def test_metrics_conform_and_add_up_over_all_workers_and_their_deaths(mirror: RunningMirror) -> None:
    get_manifest(mirror)
    get_blob(mirror, SMALL)
    wait_for(lambda: mirror.metrics()["hunqi_mirror_cached_bytes"] > 300_000, timeout_s=5.0, what="its commit")
    for _ in range(20):
        get_blob(mirror, SMALL)  # over connections of their own: both workers answer some
    wait_for(lambda: blobs(scrape(mirror), "hit") == 20, timeout_s=5.0, what="the counts of both workers")
    before = scrape(mirror)
    assert blobs(before, "miss") == 1
    assert before["hunqi_mirror_saved_bytes_total{}"] >= 20 * 300_000
    assert fetched(before) == 300_000
    assert before["hunqi_mirror_source_up{source=upstream:docker.io}"] == 1
    assert before["hunqi_mirror_request_seconds_count{kind=blob}"] == 21
    mirror.kill_one(1)
    wait_for(lambda: len(mirror.children()) == 3 and mirror.is_ready(), timeout_s=10.0, what="a new worker")
    after = scrape(mirror)
    assert blobs(after, "hit") == 20
    assert after["hunqi_mirror_request_seconds_count{kind=blob}"] == 21


def test_bytes_of_a_download_that_fails_are_counted_and_stay(mirror: RunningMirror, world: RealRegistry) -> None:
    get_manifest(mirror)
    world.wire.inject(Fault(kind=Break.CUT, pattern=LARGE, after_bytes=5 * MIB, times=1))
    world.wire.inject(Fault(kind=Break.STATUS, pattern=LARGE, status=404))
    assert not get_blob(mirror, LARGE).is_whole
    assert 4 * MIB < fetched(scrape(mirror)) <= 5 * MIB
    lines = access_lines(mirror, lambda line: line["kind"] == "blob")
    assert (lines[-1]["outcome"], lines[-1]["status"]) == ("cut", 200)
    assert 4 * MIB < lines[-1]["bytes"] <= 5 * MIB


def access_lines(mirror: RunningMirror, wanted: Any = lambda _line: True, *, count: int = 1) -> list[dict[str, Any]]:
    def read() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in mirror.log.read_text().splitlines() if line.startswith('{"at"')]
        return [line for line in lines if wanted(line)]

    wait_for(lambda: len(read()) >= count, timeout_s=5.0, what="an access line")
    return read()


def test_each_request_leaves_one_line_that_tells_it(mirror: RunningMirror) -> None:
    base = mirror.base_url
    agent = {"User-Agent": "the-test"}
    asked = [
        ("GET", f"/v2/docker.io/{REPOSITORY}/manifests/latest", 200),
        ("GET", f"/v2/docker.io/{REPOSITORY}/blobs/{SMALL}", 200),
        ("HEAD", f"/v2/docker.io/{REPOSITORY}/blobs/{SMALL}", 200),
        ("GET", f"/v2/docker.io/{REPOSITORY}/manifests/none", 404),
        ("GET", "/v2/nowhere.example/x/manifests/1", 404),
        ("POST", "/v2/team/app/blobs/uploads/", 202),
        ("PUT", "/v2/team/app/manifests/1", 400),
        ("POST", "/v2/library/app/blobs/uploads/", 403),
        ("OPTIONS", "/v2/team/app/tags/list", 405),
        ("GET", "/token?" + urlencode({"account": "somebody", "service": "hunqi"}), 200),
        ("GET", "/somewhere/else", 404),
    ]
    answers = [fetch(base + path, method=method, headers=agent) for method, path, _ in asked]
    assert [answer.status for answer in answers] == [status for _, _, status in asked]
    lines = access_lines(mirror, lambda line: line["agent"] == "the-test", count=len(asked))
    order = [(method, path.partition("?")[0]) for method, path, _ in asked]
    lines.sort(key=lambda line: order.index((line["method"], line["path"])))  # two workers write in one millisecond
    time.sleep(0.5)
    assert len(access_lines(mirror, lambda line: line["agent"] == "the-test")) == len(asked)
    for line, (method, path, status), answer in zip(lines, asked, answers, strict=True):
        assert (line["method"], line["path"], line["status"]) == (method, path.partition("?")[0], status)
        assert line["bytes"] >= len(answer.body)
        assert line["ms"] >= 0
    assert [line["outcome"] for line in lines[:2]] == ["miss", "miss"]
    assert lines[2]["outcome"] in ("hit", "miss"), "it may not be in the store yet"
    assert lines[0]["digest"] == IMAGE.digest
    assert lines[1]["repository"] == f"docker.io/{REPOSITORY}"


def test_a_client_that_leaves_is_told_apart_from_one_that_was_cut(mirror: RunningMirror) -> None:
    get_manifest(mirror)
    get_blob(mirror, LARGE)
    fetch(f"{mirror.base_url}/v2/docker.io/{REPOSITORY}/blobs/{LARGE}", stop_after_bytes=1000)
    line = access_lines(mirror, lambda line: line["status"] == 499)[0]
    assert line["outcome"] in ("hit", "miss"), "it may not be in the store yet"
    assert line["bytes"] < 24 * MIB


def test_health_tells_a_live_process_from_a_ready_mirror(mirror: RunningMirror) -> None:
    assert fetch(f"{mirror.base_url}/healthz").status == 200
    assert fetch(f"{mirror.base_url}/readyz").status == 200
    assert fetch(f"{mirror.base_url}/healthz", method="HEAD").status == 200
