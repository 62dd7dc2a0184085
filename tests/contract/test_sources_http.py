"""What a source promises, against real local servers: blobs, manifests, redirects, pools, proxies, TLS."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from hunqi.mirror.names import Target
from hunqi.mirror.settings import Deadlines
from hunqi.mirror.sources.errors import (
    NotFound,
    RangeNotSatisfiable,
    SourceBusy,
    SourceChanged,
    SourceCut,
    SourceMisbehaves,
    SourceUnreachable,
    TooManyRequests,
)
from hunqi.mirror.sources.model import SourceKind
from hunqi.mirror.sources.proxies import ProxyRules
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_MANIFEST
from hunqi.oci.reference import Tag
from support_sources import Answer, Authority, Seen, blob, blob_answer, read, serving, source_of

REFUSED = r"refuses our TLS|closed the connection"
"""TLS 1.3 tells of a refused certificate after the handshake: sometimes the cut is seen first."""

DATA = bytes(range(256)) * 4096
THING = Target("up.test", "library/thing")
MANIFEST = b'{"schemaVersion":2}'


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("ca"))


def ranged(seen: Seen) -> Answer:
    return blob_answer(seen, DATA)


# Blobs


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 1), (1, None), (100, 70_000), (len(DATA) - 1, None), (5, 10**9)]
)
def test_a_blob_arrives_whole_or_in_ranges(start: int, end: int | None) -> None:
    with serving(ranged) as server, source_of(server.url) as source:
        with source.open_blob(blob(DATA), start=start, end=end) as stream:
            assert read(stream) == DATA[start:end]
        assert stream.start == start
        assert stream.total_size == len(DATA)
        assert stream.length == len(DATA[start:end])
        assert stream.status_partial == (start > 0 or end is not None)
        assert server.seen[0].path == f"/v2/library/thing/blobs/{Digest.of(DATA)}"
        assert source.connections_in_use == 0


def test_a_source_without_ranges_says_so() -> None:
    with (
        serving(lambda _: Answer(200, DATA)) as server,
        source_of(server.url) as source,
        source.open_blob(blob(DATA), start=1000) as stream,
    ):
        assert (stream.start, stream.status_partial) == (0, False)
        assert read(stream) == DATA


def test_bytes_are_delivered_as_soon_as_they_arrive() -> None:
    release = threading.Event()

    def respond(_: Seen) -> Answer:
        return Answer(200, b"", {"Content-Length": "100000"})

    with serving(respond) as server, source_of(server.url, deadlines=Deadlines(stall_s=5)) as source:
        original = server._serve

        def serve(handler: BaseHTTPRequestHandler, number: int) -> None:
            original(handler, number)
            handler.wfile.write(b"a" * 1000)
            release.wait(5)
            handler.wfile.write(b"b" * 99_000)

        server._serve = serve
        with source.open_blob(blob(DATA)) as stream:
            buffer = memoryview(bytearray(1 << 20))
            assert stream.readinto(buffer) == 1000
            release.set()
            assert len(read(stream)) == 99_000


def test_chunked_bodies_and_bodies_until_close_are_read() -> None:
    def respond(seen: Seen) -> Answer:
        if "one" in seen.path:
            chunks = b"".join(
                b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (DATA[:10], DATA[10:70_000], DATA[70_000:])
            )
            return Answer(200, chunks + b"0\r\n\r\n", {"Transfer-Encoding": "chunked"})
        return Answer(200, DATA, raw_body=True)

    with serving(respond) as server, source_of(server.url) as source:
        for repository in ("one", "one", "two"):
            with source.open_blob(blob(DATA, repository)) as stream:
                assert stream.total_size is None
                assert read(stream) == DATA
        assert [seen.connection for seen in server.seen] == [1, 1, 1], "a chunked body's connection is used again"


def test_a_range_beyond_the_end_is_told_with_the_size() -> None:
    with serving(ranged) as server, source_of(server.url) as source:
        with pytest.raises(RangeNotSatisfiable) as caught:
            source.open_blob(blob(DATA), start=len(DATA))
        assert caught.value.total_size == len(DATA)


@pytest.mark.parametrize(
    "content_range",
    [
        "",
        "bytes 0-99/1000",
        "bytes 101-199/1000",
        "bytes 100-99/1000",
        "bytes 100-300/1000",
        "bytes 100-199/150",
        "lines 100-199/1000",
    ],
)
def test_a_wrong_range_is_refused(content_range: str) -> None:
    def respond(_: Seen) -> Answer:
        return Answer(206, b"x" * 100, {"Content-Range": content_range})

    with serving(respond) as server, source_of(server.url) as source:
        with pytest.raises(SourceMisbehaves):
            source.open_blob(blob(DATA), start=100, end=200)
        assert source.connections_in_use == 0


def test_an_unasked_206_is_refused() -> None:
    with (
        serving(lambda _: Answer(206, b"x", {"Content-Range": "bytes 0-0/9"})) as server,
        source_of(server.url) as source,
        pytest.raises(SourceMisbehaves),
    ):
        source.open_blob(blob(DATA))


def test_a_changed_etag_is_noticed() -> None:
    with serving(lambda seen: blob_answer(seen, DATA, ETag='"two"')) as server, source_of(server.url) as source:
        with pytest.raises(SourceChanged):
            source.open_blob(blob(DATA), start=5, if_match_etag='"one"')
        assert server.seen[0].headers["if-range"] == '"one"'
        with source.open_blob(blob(DATA), start=5, if_match_etag='W/"two"') as stream:
            assert read(stream) == DATA[5:]
        assert "if-range" not in server.seen[1].headers


def test_head_tells_the_size_and_downloads_nothing() -> None:
    with serving(ranged) as server, source_of(server.url) as source:
        assert source.head_blob(blob(DATA)) == len(DATA)
        assert [seen.method for seen in server.seen] == ["HEAD"]
    with serving(lambda _: Answer(404)) as server, source_of(server.url) as source, pytest.raises(NotFound):
        source.head_blob(blob(DATA))


def test_connections_are_kept_and_used_again() -> None:
    with serving(ranged) as server, source_of(server.url) as source:
        for _ in range(3):
            with source.open_blob(blob(DATA)) as stream:
                read(stream)
            source.head_manifest(THING, Tag("latest"))
        assert {seen.connection for seen in server.seen} == {1}
        stream = source.open_blob(blob(DATA))
        stream.close()
        with source.open_blob(blob(DATA)) as stream:
            read(stream)
        assert server.seen[-1].connection == 2, "a half-read connection is not used again"


def test_a_connection_that_died_while_idle_costs_nothing() -> None:
    with serving(lambda _: Answer(200, b"x", {"Connection": "close"})) as server, source_of(server.url) as source:
        source.head_manifest(THING, Tag("a"))
        source.head_manifest(THING, Tag("b"))
        assert [seen.connection for seen in server.seen] == [1, 2]


# Manifests and documents


def manifest(seen: Seen) -> Answer:
    headers = {"Content-Type": f"{OCI_MANIFEST}; charset=utf-8", "Docker-Content-Digest": str(Digest.of(MANIFEST))}
    return Answer(200, MANIFEST, {**headers, "RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "9;w=21600"})


def test_manifests_are_described_and_fetched() -> None:
    with serving(manifest) as server, source_of(server.url) as source:
        head = source.head_manifest(THING, Tag("latest"))
        assert (head.digest, head.media_type, head.size) == (Digest.of(MANIFEST), OCI_MANIFEST, len(MANIFEST))
        assert head.rate is not None
        assert head.rate.remaining == 9
        body = source.get_manifest(THING, Digest.of(MANIFEST, "sha512"))
        assert (body.data, body.media_type, body.digest) == (MANIFEST, OCI_MANIFEST, Digest.of(MANIFEST, "sha512"))
        assert source.quota.rate == head.rate
        assert OCI_MANIFEST in server.seen[0].headers["accept"]
        assert server.paths() == [
            "/v2/library/thing/manifests/latest",
            f"/v2/library/thing/manifests/{Digest.of(MANIFEST, 'sha512')}",
        ]


def test_a_manifest_without_headers_gets_its_sha256() -> None:
    with serving(lambda _: Answer(200, MANIFEST)) as server, source_of(server.url) as source:
        assert source.get_manifest(THING, Tag("latest")).digest == Digest.of(MANIFEST)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, MANIFEST, {"Docker-Content-Digest": str(Digest.of(b"other"))}),
        Answer(200, b"<html>", {"Content-Type": "text/html; charset=utf-8"}),
        Answer(200, b"x" * (4 * 1024 * 1024 + 1)),
        Answer(200, b"x" * (4 * 1024 * 1024 + 1), raw_body=True),
        Answer(302, b"", {"Location": "ftp://elsewhere/"}),
        Answer(304),
        Answer(400),
    ],
)
def test_wrong_manifests_are_refused(answer: Answer) -> None:
    with serving(lambda _: answer) as server, source_of(server.url) as source, pytest.raises(SourceMisbehaves):
        source.get_manifest(THING, Tag("latest"))


def test_a_manifest_of_another_digest_is_refused() -> None:
    with (
        serving(lambda _: Answer(200, MANIFEST)) as server,
        source_of(server.url) as source,
        pytest.raises(SourceMisbehaves),
    ):
        source.get_manifest(THING, Digest.of(b"other"))


def test_documents_pass_with_their_links() -> None:
    headers = {"Content-Type": "application/json", "Link": '</v2/x>; rel="next"', "OCI-Filters-Applied": "artifactType"}
    with serving(lambda _: Answer(200, b"{}", headers)) as server, source_of(server.url) as source:
        document = source.get_document(THING, "tags/list?n=5&last=a")
        assert (document.status, document.data, document.link_header) == (200, b"{}", headers["Link"])
        assert document.filters_applied == "artifactType"
        assert server.seen[0].path == "/v2/library/thing/tags/list"
        assert server.seen[0].query == {"n": ["5"], "last": ["a"]}


def test_a_limit_is_told_and_remembered() -> None:
    with serving(lambda _: Answer(429, b"", {"Retry-After": "7"})) as server, source_of(server.url) as source:
        with pytest.raises(TooManyRequests) as caught:
            source.get_manifest(THING, Tag("latest"))
        assert caught.value.retry_after_s == 7
        limited_until_s = source.quota.limited_until_s
        assert limited_until_s is not None
        assert limited_until_s - time.monotonic() == pytest.approx(7, abs=1)


@pytest.mark.parametrize("status", [200, 401, 429])
def test_a_probe_measures_signs_of_life(status: int) -> None:
    with serving(lambda _: Answer(status)) as server, source_of(server.url) as source:
        assert 0 < source.probe() < 1
        assert server.paths() == ["/v2/"]


# Kinds, prefixes, hops


def test_relays_and_peers_are_asked_by_upstream_and_marked_with_hops() -> None:
    with serving(ranged) as server, source_of(f"{server.url}/pre/", SourceKind.RELAY) as source:
        with source.open_blob(blob(DATA), hops=("a1", "b2")) as stream:
            read(stream)
        assert server.seen[0].path == f"/pre/v2/up.test/library/thing/blobs/{Digest.of(DATA)}"
        assert server.seen[0].headers["hunqi-hop"] == "a1,b2"
        assert source.id == f"relay:{server.netloc}/pre"
    with serving(ranged) as server, source_of(server.url, SourceKind.PEER) as source:
        source.head_manifest(Target(None, "team/app"), Tag("latest"))
        assert server.paths() == ["/v2/team/app/manifests/latest"]
        assert "hunqi-hop" not in server.seen[0].headers


def test_the_id_of_an_upstream_is_its_name() -> None:
    with source_of("https://registry-1.docker.io", name="docker.io") as source:
        assert source.id == "upstream:docker.io"


# Redirects


def test_a_redirect_is_followed_without_secrets_and_remembered() -> None:
    with serving(ranged) as cdn:

        def redirect(_: Seen) -> Answer:
            return Answer(307, b"moved", {"Location": f"{cdn.url}/signed?sig=1"})

        with serving(redirect) as server, source_of(server.url) as source:
            for start in (0, 7, 9):
                with source.open_blob(blob(DATA), start=start, hops=("a1",)) as stream:
                    assert read(stream) == DATA[start:]
            assert len(server.seen) == 1, "later ranges skip the redirect"
            assert [seen.headers.get("range") for seen in cdn.seen] == [None, "bytes=7-", "bytes=9-"]
            assert all("hunqi-hop" not in seen.headers for seen in cdn.seen)
            source.forget_landing(blob(DATA))
            with source.open_blob(blob(DATA)) as stream:
                read(stream)
            assert len(server.seen) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 400])
def test_an_expired_landing_is_asked_from_the_front(status: int) -> None:
    expired: list[str] = []

    def store(seen: Seen) -> Answer:
        return Answer(status) if seen.path in expired else blob_answer(seen, DATA)

    with serving(store) as cdn:

        def redirect(_: Seen) -> Answer:
            return Answer(302, b"", {"Location": f"{cdn.url}/signed{len(expired)}"})

        with serving(redirect) as server, source_of(server.url) as source:
            for start in (0, 1):
                with source.open_blob(blob(DATA), start=start) as stream:
                    assert read(stream) == DATA[start:]
                expired.append("/signed0")
            assert cdn.paths() == ["/signed0", "/signed0", "/signed1"]
            assert len(server.seen) == 2


def test_redirects_end() -> None:
    with serving(lambda seen: Answer(302, b"", {"Location": seen.path})) as server, source_of(server.url) as source:
        with pytest.raises(SourceMisbehaves):
            source.open_blob(blob(DATA))
        assert len(server.seen) == 6
        assert source.connections_in_use == 0


# Limits


def test_bandwidth_is_shared_by_streams() -> None:
    with serving(ranged) as server, source_of(server.url, bandwidth_limit=2 * len(DATA)) as source:

        def pull() -> None:
            with source.open_blob(blob(DATA)) as stream:
                assert read(stream) == DATA

        threads = [threading.Thread(target=pull) for _ in range(2)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Two blobs at two blobs a second, less the burst of a quarter of a second.
        assert 0.7 <= time.monotonic() - began <= 1.6


def test_connections_are_bounded_and_manifests_get_through() -> None:
    with serving(ranged) as server, source_of(server.url, max_connections=2) as source:
        with source.open_blob(blob(DATA)) as stream:
            assert source.head_manifest(THING, Tag("latest")).size == len(DATA)
            with pytest.raises(SourceBusy):
                source.open_blob(blob(DATA))
            read(stream)
        source.open_blob(blob(DATA)).close()


# Networks as they are


def test_ipv6_literals_work() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with serving(ranged, host="::1") as server, source_of(server.url) as source:
        assert source.head_blob(blob(DATA)) == len(DATA)
        assert server.seen[0].headers["host"] == server.netloc


def test_a_name_is_tried_at_each_of_its_addresses() -> None:
    with serving(ranged) as server, source_of(f"http://localhost:{server.port}") as source:
        assert source.head_blob(blob(DATA)) == len(DATA), "localhost is ::1 too, where nothing listens"


def test_plain_requests_go_through_the_proxy_whole() -> None:
    with serving(ranged) as proxy:
        rules = ProxyRules.from_environment({"http_proxy": f"http://me:hush@{proxy.netloc}"})
        with source_of("http://registry.invalid:81", proxies=rules) as source:
            assert source.head_blob(blob(DATA)) == len(DATA)
        seen = proxy.seen[0]
        assert seen.path == f"http://registry.invalid:81/v2/library/thing/blobs/{Digest.of(DATA)}"
        assert seen.headers["host"] == "registry.invalid:81"
        assert seen.headers["proxy-authorization"] == "Basic bWU6aHVzaA=="


class Tunnel:
    """A CONNECT proxy that leads every name to one port."""

    def __init__(self, port: int, reply: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> None:
        self._port, self._reply = port, reply
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://me:hush@127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += client.recv(1)
            self.asked.append(request)
            client.sendall(self._reply)
            if b" 200 " not in self._reply:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._copy, args=(client, server), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            sink.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def secure(authority: Authority) -> Iterator[tuple[str, int, Path]]:
    with serving(ranged, context=authority.server_context(["registry.test", "127.0.0.1"])) as server:
        yield server.url, server.port, authority.ca_file


def test_https_goes_through_a_tunnel(secure: tuple[str, int, Path]) -> None:
    _, port, ca_file = secure
    tunnel = Tunnel(port)
    try:
        rules = ProxyRules.from_environment({"https_proxy": tunnel.url})
        with (
            source_of("https://registry.test", ca_file=ca_file, proxies=rules) as source,
            source.open_blob(blob(DATA), start=3) as stream,
        ):
            assert read(stream) == DATA[3:]
        assert tunnel.asked[0].startswith(b"CONNECT registry.test:443 HTTP/1.1\r\n")
        assert b"Proxy-Authorization: Basic bWU6aHVzaA==\r\n" in tunnel.asked[0]
    finally:
        tunnel.close()


def test_a_proxy_that_refuses_is_named() -> None:
    tunnel = Tunnel(0, b"HTTP/1.1 407 Who are you\r\n\r\n")
    try:
        rules = ProxyRules.from_environment({"https_proxy": tunnel.url})
        with source_of("https://registry.test", proxies=rules) as source:
            with pytest.raises(SourceUnreachable, match="proxy refused") as caught:
                source.head_blob(blob(DATA))
            assert "hush" not in str(caught.value)
    finally:
        tunnel.close()


def test_tls_trusts_the_ca_file_and_nothing_else(secure: tuple[str, int, Path]) -> None:
    url, port, ca_file = secure
    with source_of(url, ca_file=ca_file) as source, source.open_blob(blob(DATA)) as stream:
        assert read(stream) == DATA
    with source_of(url) as source, pytest.raises(SourceUnreachable, match="certificate"):
        source.head_blob(blob(DATA))
    with (
        source_of(f"https://localhost:{port}", ca_file=ca_file) as source,
        pytest.raises(SourceUnreachable, match="certificate"),
    ):
        source.head_blob(blob(DATA))


def test_peers_are_shown_a_client_certificate_and_no_other_host_is(authority: Authority) -> None:
    cert_file, key_file = authority.issue("node-1")
    files = {"ca_file": authority.ca_file, "client_cert_file": cert_file, "client_key_file": key_file}
    with serving(ranged, context=authority.server_context(mutual=True)) as peer:
        with source_of(peer.url, SourceKind.PEER, **files) as source, source.open_blob(blob(DATA)) as stream:
            assert read(stream) == DATA
        with (
            source_of(peer.url, SourceKind.PEER, ca_file=authority.ca_file) as source,
            pytest.raises((SourceUnreachable, SourceCut), match=REFUSED),
        ):
            source.head_blob(blob(DATA))
        moved = Answer(307, b"", {"Location": f"{peer.url}/elsewhere"})
        with serving(lambda _: moved, context=authority.server_context(mutual=True)) as front:
            count = len(peer.seen)
            with (
                source_of(front.url, SourceKind.PEER, **files) as source,
                pytest.raises((SourceUnreachable, SourceCut), match=REFUSED),
            ):
                source.open_blob(blob(DATA))
            assert len(peer.seen) == count


def test_missing_tls_files_are_told_at_once(tmp_path: Path) -> None:
    with (
        pytest.raises(SourceUnreachable, match="TLS files"),
        source_of("https://a.test", ca_file=tmp_path / "none.pem"),
    ):
        pass
