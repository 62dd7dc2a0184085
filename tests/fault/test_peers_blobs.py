"""Nodes that are peers: the world sends a blob once, a node that fails costs nobody an error, strangers get nothing."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hunqi.cli.authority import create_authority, issue_certificate
from testbed import images
from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.cluster import Cluster, cluster
from testbed.mirror import RunningMirror
from testbed.registry import RealRegistry, real_registry
from testbed.wire import Link, wait_until_counted

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("peers")]
REPOSITORY = "library/peers"
IMAGE = images.opaque([4 * images.MIB, 3 * images.MIB, 2 * images.MIB, 5 * images.MIB], seed="peers")
BIG = images.opaque([48 * images.MIB], seed="peers-big")
SEED = {f"{REPOSITORY}:latest": IMAGE, f"{REPOSITORY}:big": BIG}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("world"), seed=SEED, link=Link()) as running:
        yield running


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, world: RealRegistry) -> Iterator[Cluster]:
    upstreams = {"docker.io": world.url}
    with cluster(tmp_path_factory.mktemp("three"), count=3, upstreams=upstreams) as running:
        yield running


def blob_url(node: RunningMirror, digest: str) -> str:
    return f"{node.base_url}/v2/docker.io/{REPOSITORY}/blobs/{digest}"


def get_of_all(nodes: Sequence[RunningMirror], digest: str) -> list[Answer]:
    """GET a blob of every node at once."""
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda node=node: answers.append(fetch(blob_url(node, digest), timeout_s=60.0)))
        for node in nodes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def assert_right(answers: Sequence[Answer], digest: str, *, count: int) -> None:
    assert len(answers) == count
    for answer in answers:
        assert answer.status == 200
        assert answer.is_whole, answer
        assert answer.digest == digest


def from_upstream(node: RunningMirror) -> float:
    return node.metrics().get('hunqi_mirror_fetched_bytes_total{source="upstream:docker.io"}', 0.0)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_world_sends_a_cold_blob_once_for_all_nodes(three: Cluster, world: RealRegistry, layer: int) -> None:
    digest = IMAGE.layers[layer]
    assert_right(get_of_all(three.nodes, digest), digest, count=3)
    assert world.wire.sent_bytes(digest) <= len(IMAGE.blobs[digest]) * 1.02


def test_nodes_get_a_manifest_of_the_world_once_so_a_quota_lasts(three: Cluster, world: RealRegistry) -> None:
    image = images.layered([1000], seed="quota")
    world.push(image, "library/quota")
    for node in three.nodes:
        for reference in ("latest", image.digest):
            url = f"{node.base_url}/v2/docker.io/library/quota/manifests/{reference}"
            answer = fetch(url, headers={"Accept": MANIFEST_TYPES})
            assert (answer.status, answer.body) == (200, image.root.data)
    assert world.wire.count("GET", "library/quota/manifests/") == 1


def test_a_request_of_a_peer_is_never_passed_to_another_peer(three: Cluster, world: RealRegistry) -> None:
    digest = IMAGE.layers[3]
    owner, *_, last = three.by_rank(digest)
    port = three.peer_ports[three.nodes.index(last)]
    before = from_upstream(last)
    url = f"https://127.0.0.1:{port}/v2/docker.io/{REPOSITORY}/blobs/{digest}"
    answer = fetch(url, tls=node_context(three.certificates, three.certificates, "n0"))
    assert_right([answer], digest, count=1)
    assert from_upstream(last) - before == len(IMAGE.blobs[digest])
    assert not (owner.data / "content" / "sha256" / digest[7:9] / digest[7:]).exists()


def node_context(authority: Path, certificates: Path, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority / "ca.pem"))
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    return context


def test_who_has_no_certificate_of_the_cluster_gets_nothing_at_the_peers_port(three: Cluster, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    create_authority(tmp_path, name="another cluster", now=now)
    issue_certificate(tmp_path, node="n9", hosts=("127.0.0.1",), out=tmp_path, now=now)
    without = ssl.create_default_context(cafile=str(three.certificates / "ca.pem"))
    strange = node_context(three.certificates, tmp_path, "n9")
    url = f"https://127.0.0.1:{three.peer_ports[0]}/v2/"
    assert fetch(url, tls=node_context(three.certificates, three.certificates, "n1")).status == 200
    for context in (without, strange):
        with pytest.raises(OSError, match=r"(?i)alert|reset|closed|broken|eof"):
            raise_unless_answered(fetch(url, tls=context))


def raise_unless_answered(answer: Answer) -> None:
    if answer.status == 0:
        raise ConnectionResetError("the connection was closed")


@pytest.mark.parametrize("path", ["/hunqi/v1/node", "/hunqi/v1/news"])
def test_what_nodes_ask_each_other_is_not_answered_at_the_clients_port(three: Cluster, path: str) -> None:
    for method in ("GET", "POST"):
        assert fetch(f"{three.nodes[0].base_url}{path}", method=method, body=b"{}").status == 404


def test_news_that_are_none_are_refused_and_change_nothing(three: Cluster) -> None:
    context = node_context(three.certificates, three.certificates, "n1")
    for body in (b"", b"[]", b'{"tags": [["a", "b", "c", 1]], "namespaces": []}', b'{"tags": 1}', b"x" * 5_000_000):
        url = f"https://127.0.0.1:{three.peer_ports[0]}/hunqi/v1/news"
        assert fetch(url, method="POST", body=body, tls=context).status in (0, 400)
    assert fetch(f"{three.nodes[0].base_url}/readyz").status == 200


def test_the_owner_killed_in_the_middle_costs_no_client_an_error_and_little_traffic(
    tmp_path: Path, world: RealRegistry
) -> None:
    digest, size = BIG.layers[0], len(BIG.blobs[BIG.layers[0]])
    with cluster(tmp_path, count=4, upstreams={"docker.io": world.url}) as four:
        owner, *others = four.by_rank(digest)
        world.wire.set_link(pace_bytes_s=8 * images.MIB)
        try:
            answers: list[Answer] = []
            reading = threading.Thread(target=lambda: answers.extend(get_of_all(others, digest)))
            reading.start()
            wait_until_counted(world.wire, size // 3, containing=digest, timeout_s=30.0)
            owner.kill_all()
            reading.join(60.0)
        finally:
            world.wire.set_link()
        assert_right(answers, digest, count=3)
        assert world.wire.sent_bytes(digest) <= size * 1.3


def test_a_peer_that_is_away_is_passed_over_fast(tmp_path: Path, world: RealRegistry) -> None:
    image = images.opaque([images.MIB] * 6, seed="peers-away")
    world.push(image, "library/away")
    with cluster(tmp_path, count=2, upstreams={"docker.io": world.url}, tls=False) as two:
        two.nodes[1].kill_all()
        url = f"{two.nodes[0].base_url}/v2/docker.io/library/away"
        begun = time.monotonic()
        assert fetch(f"{url}/manifests/latest", headers={"Accept": MANIFEST_TYPES}).status == 200
        assert_right([fetch(f"{url}/blobs/{digest}") for digest in image.layers[:1]], image.layers[0], count=1)
        for digest in image.layers[1:]:
            assert_right([fetch(f"{url}/blobs/{digest}")], digest, count=1)
        assert time.monotonic() - begun < 10
        two.wait_for_peers(two.nodes[0], 0)
        two.nodes[1].start()
        two.wait_for_peers(two.nodes[0], 1)


def test_a_peer_whose_own_sources_fail_does_not_stop_a_node_that_reaches_the_world(
    tmp_path: Path, world: RealRegistry
) -> None:
    image = images.opaque([images.MIB] * 4, seed="peers-cut-off")
    world.push(image, "library/cut-off")
    with cluster(tmp_path, count=2, upstreams={"docker.io": world.url}, tls=False) as two:
        blind, seeing = two.nodes
        blind.stop()
        blind.upstreams = {"docker.io": "http://127.0.0.1:9"}
        blind.start()
        two.wait_for_peers(seeing, 1)
        for digest in image.layers:
            url = f"{seeing.base_url}/v2/docker.io/library/cut-off/blobs/{digest}"
            assert_right([fetch(url, timeout_s=20.0)], digest, count=1)
        two.wait_for_peers(seeing, 1)


def test_a_node_that_is_not_named_any_more_gets_nothing_at_the_peers_port(tmp_path: Path, world: RealRegistry) -> None:
    args, names = ("--peer-name", "known.mirror.test"), ("known.mirror.test",)
    with cluster(tmp_path, count=1, upstreams={"docker.io": world.url}, args=args, names=names) as alone:
        now = datetime.now(UTC)
        for name in ("known", "removed"):
            hosts = (f"{name}.mirror.test",)
            issue_certificate(alone.certificates, node=name, hosts=hosts, out=alone.certificates, now=now)
        url = f"https://127.0.0.1:{alone.peer_ports[0]}/v2/docker.io/{REPOSITORY}/blobs/{IMAGE.layers[0]}"
        for name, status in (("known", 200), ("removed", 403)):
            answer = fetch(url, tls=node_context(alone.certificates, alone.certificates, name))
            assert answer.status == status, name
