"""Networks as they are, through the whole mirror: proxies, authorities and client certificates per upstream, IPv6,
limits and patterns per upstream.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from testbed import images
from testbed.authority import Authority
from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.images import MIB
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.proxy import ForwardProxy
from testbed.server import Exchange, Server
from testbed.zoo import ZooRegistry

IMAGE = images.opaque([90_000, 60_000], seed="networks")
BLOB = IMAGE.layers[0]
IMPATIENT: Final = ("--connect-timeout", "1s", "--first-byte-timeout", "2s", "--stall-timeout", "2s")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def zoo() -> Iterator[ZooRegistry]:
    with ZooRegistry([IMAGE]) as registry:
        yield registry


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[ZooRegistry]:
    context = authority.issue("upstreams", hosts=("127.0.0.1", "registry.test", "direct.test")).server_context()
    with ZooRegistry([IMAGE], tls=context) as registry:
        yield registry


@contextmanager
def mirror_with(directory: Path, config: str, *args: str, **options: object) -> Iterator[RunningMirror]:
    running = RunningMirror(directory, config=config, args=[*IMPATIENT, *args], workers=1, **options)  # type: ignore
    with running:
        yield running


def ask(mirror: RunningMirror, path: str, method: str = "GET", *, timeout_s: float = 30.0, **headers: str) -> Answer:
    sent = {"Accept": MANIFEST_TYPES, **headers}
    return fetch(f"{mirror.base_url}/v2/{path}", method=method, headers=sent, timeout_s=timeout_s)


def pulls(mirror: RunningMirror, upstream: str) -> bool:
    manifest = ask(mirror, f"{upstream}/team/app/manifests/latest")
    blob = ask(mirror, f"{upstream}/team/app/blobs/{BLOB}")
    return (manifest.digest, blob.digest) == (IMAGE.digest, BLOB)


def upstream(name: str, **keys: object) -> str:
    """Return a table of ``hunqi.toml``."""
    lines = [f"{key.replace('_', '-')} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join([f'[mirror.upstreams."{name}"]', *lines, ""])


def test_https_goes_through_the_proxy_and_what_no_proxy_names_does_not(
    tmp_path: Path, authority: Authority, secure: ZooRegistry
) -> None:
    ca = str(authority.ca_file)
    config = upstream("registry.test", url="https://registry.test", ca_file=ca)
    config += upstream("direct.test", url="https://direct.test", ca_file=ca)
    there = ("127.0.0.1", secure.server.port)
    with ForwardProxy({"registry.test:443": there, "direct.test:443": there}, user="me", password="p@ss") as proxy:
        env = {"HTTPS_PROXY": f"http://me:p%40ss@127.0.0.1:{proxy.port}", "NO_PROXY": "other.test,.direct.test"}
        with mirror_with(tmp_path, config, env=env) as mirror:
            assert pulls(mirror, "registry.test")
            assert set(proxy.targets()) == {"registry.test:443"}
            assert {passed.method for passed in proxy.passed} == {"CONNECT"}
            assert ask(mirror, "direct.test/team/app/manifests/latest").status == 502
            assert set(proxy.targets()) == {"registry.test:443"}
            log = mirror.log.read_text()
        assert "p@ss" not in log
        assert "p%40ss" not in log


def test_plain_http_goes_through_the_http_proxy_and_loopback_never_does(tmp_path: Path, zoo: ZooRegistry) -> None:
    config = upstream("plain.test", url="http://plain.test") + upstream("near.test", url=zoo.url)
    with ForwardProxy({"plain.test:80": ("127.0.0.1", zoo.server.port)}) as proxy:
        env = {"http_proxy": proxy.url, "https_proxy": proxy.url}
        with mirror_with(tmp_path, config, "--no-read-ahead", env=env) as mirror:
            assert pulls(mirror, "plain.test")
            passed = len(proxy.passed)
            assert passed >= 2
            assert pulls(mirror, "near.test")
            assert len(proxy.passed) == passed
        assert all(target.startswith("http://plain.test/v2/team/app/") for target in proxy.targets())


def test_a_proxy_that_refuses_is_named_and_answered_fast(
    tmp_path: Path, authority: Authority, secure: ZooRegistry
) -> None:
    config = upstream("registry.test", url="https://registry.test", ca_file=str(authority.ca_file))
    with ForwardProxy({"registry.test:443": ("127.0.0.1", secure.server.port)}, user="me", password="right") as proxy:
        env = {"HTTPS_PROXY": f"http://me:wrong@127.0.0.1:{proxy.port}"}
        with mirror_with(tmp_path, config, env=env) as mirror:
            answer = ask(mirror, "registry.test/team/app/manifests/latest")
    assert answer.status == 502
    assert b"407" in answer.body
    assert b"wrong" not in answer.body


def test_an_authority_is_of_its_upstream_only(tmp_path: Path, authority: Authority, secure: ZooRegistry) -> None:
    config = upstream("trusted.test", url=secure.url, ca_file=str(authority.ca_file))
    config += upstream("other.test", url=secure.url)
    with mirror_with(tmp_path, config) as mirror:
        assert pulls(mirror, "trusted.test")
        answer = ask(mirror, "other.test/team/app/manifests/latest")
        assert (answer.status, b"certificate" in answer.body) == (502, True)


def test_a_client_certificate_is_of_its_upstream_only(tmp_path: Path, authority: Authority) -> None:
    ours = authority.issue("ours")
    context = authority.issue("mutual").server_context()
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    ca = str(authority.ca_file)
    files = {"client_cert_file": str(ours.cert_file), "client_key_file": str(ours.key_file)}
    with ZooRegistry([IMAGE], tls=context) as mutual:
        config = upstream("known.test", url=mutual.url, ca_file=ca, **files)
        config += upstream("unknown.test", url=mutual.url, ca_file=ca)
        with mirror_with(tmp_path, config) as mirror:
            assert pulls(mirror, "known.test")
            assert ask(mirror, "unknown.test/team/app/manifests/latest").status == 502


def test_ipv6_for_clients_and_towards_the_upstream(tmp_path: Path) -> None:
    with ZooRegistry([IMAGE], host="::1") as six:
        assert six.url.startswith("http://[::1]:")
        config = upstream("six.test", url=six.url)
        with mirror_with(tmp_path, config, listen="[::1]") as mirror:
            assert mirror.base_url.startswith("http://[::1]:")
            assert pulls(mirror, "six.test")
            assert ask(mirror, f"six.test/team/app/blobs/{BLOB}", Range="bytes=0-9").status == 206
            assert f"http://[::1]:{mirror.port}" in mirror.cli("status")


def test_a_mirror_on_every_address_is_reached_by_both_families(tmp_path: Path, zoo: ZooRegistry) -> None:
    with mirror_with(tmp_path, upstream("up.test", url=zoo.url), listen="[::]") as mirror:
        for host in ("[::1]", "127.0.0.1"):
            assert fetch(f"http://{host}:{mirror.port}/v2/").status == 200


def test_bandwidth_of_an_upstream_is_kept_to(tmp_path: Path) -> None:
    image = images.opaque([2 * MIB, 2 * MIB], seed="paced")
    with ZooRegistry([image]) as zoo:
        config = upstream("slow.test", url=zoo.url, bandwidth_limit="2MiB") + upstream("fast.test", url=zoo.url)
        with mirror_with(tmp_path, config, "--no-read-ahead") as mirror:
            begun = time.monotonic()
            with ThreadPoolExecutor(2) as pool:
                paths = [f"slow.test/a/b/blobs/{digest}" for digest in image.layers]
                answers = list(pool.map(lambda path: ask(mirror, path), paths))
            took_s = time.monotonic() - begun
            assert [answer.digest for answer in answers] == list(image.layers)
            assert (
                took_s >= 1.2
            )  # 4 MiB at 2 MiB/s for both, less what an idle bucket saves up and the last read of each


def test_connections_to_an_upstream_are_bounded_and_waiting_is_no_failure(tmp_path: Path) -> None:
    image = images.opaque([20_000 + number for number in range(5)], seed="bounded")
    lock, busy, most = threading.Lock(), 0, 0

    def slowly(exchange: Exchange) -> None:
        nonlocal busy, most
        if exchange.method == "GET" and "/blobs/" in exchange.path:
            with lock:
                busy += 1
                most = max(most, busy)
            time.sleep(0.8)
            with lock:
                busy -= 1
        zoo.answer(exchange)

    zoo = ZooRegistry([image])
    with Server(slowly) as server:
        config = upstream("bounded.test", url=server.url, max_connections=2)
        with mirror_with(tmp_path, config) as mirror, ThreadPoolExecutor(5) as pool:
            paths = [f"bounded.test/a/b/blobs/{digest}" for digest in image.layers]
            results = pool.map(lambda path: ask(mirror, path), paths)
            wait_for(lambda: busy > 0, timeout_s=10.0, what="a blob under way")
            begun = time.monotonic()
            assert ask(mirror, "bounded.test/a/b/manifests/latest").status == 200
            assert time.monotonic() - begun < 2.5  # one connection is kept for small questions
            assert [answer.digest for answer in results] == list(image.layers)
    assert most == 1


def test_patterns_close_repositories_in_every_form_of_their_name(tmp_path: Path, zoo: ZooRegistry) -> None:
    config = '[mirror]\ndefault-upstream = "docker.io"\n'
    config += upstream("docker.io", url=zoo.url, allow=["library/*", "team/*"], deny=["*/secret*"])
    config += upstream("ghcr.io", url=zoo.url)
    with mirror_with(tmp_path, config) as mirror:
        for name in ("docker.io/library/app", "docker.io/app", "app", "team/app", "ghcr.io/org/secret"):
            assert ask(mirror, f"{name}/manifests/latest").status == 200, name
        zoo.server.forget()
        closed = ["docker.io/org/app", "org/app", "docker.io/secret", "secret", "library/secrets", "team/secret"]
        for name in closed:
            for rest in ("manifests/latest", f"blobs/{BLOB}", "tags/list", f"referrers/{IMAGE.digest}"):
                answer = ask(mirror, f"{name}/{rest}")
                assert (answer.status, json.loads(answer.body)["errors"][0]["code"]) == (403, "DENIED"), (name, rest)
        assert ask(mirror, "org/app/manifests/latest?ns=docker.io").status == 403
        printed = mirror.cli("warm", "docker.io/org/app", check=False)
        assert printed == ""
        assert zoo.server.records == []


def test_what_is_denied_later_is_closed_with_its_cached_content(tmp_path: Path, zoo: ZooRegistry) -> None:
    with mirror_with(tmp_path, upstream("ghcr.io", url=zoo.url)) as mirror:
        assert pulls(mirror, "ghcr.io")
        (tmp_path / "hunqi.toml").write_text(upstream("ghcr.io", url=zoo.url, deny=["team/*"]))
        mirror.reload()
        for path in ("manifests/latest", f"manifests/{IMAGE.digest}", f"blobs/{BLOB}"):
            wait_for(
                lambda path=path: ask(mirror, f"ghcr.io/team/app/{path}").status == 403,
                timeout_s=10.0,
                what="a refusal",
            )
