"""Each thing that a route can ask for, tried on the real Envoy."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hunqi.apps.model import Cors, HealthSpec, Match, Protocol, RateLimit
from hunqi.gateway.model import Certificate, Cluster, Edge, Endpoint, InternalRoute, Route, Target
from testbed.authority import Authority
from testbed.gateway import Backend, Gateway, backend, cluster, free_port, gateway, route, table

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("gateway")]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def seen(self) -> dict[str, Any]:
        """What the task says that it got."""
        return json.loads(self.text)


class World:
    """One Envoy and one task for all tests of this module: a table per test, applied to what runs."""

    def __init__(self, running: Gateway, task: Backend, client: aiohttp.ClientSession) -> None:
        self.gateway = running
        self.task = task
        self.client = client
        self.version = 1

    async def serve(self, *routes: Route, **rest: Any) -> None:
        self.version += 1
        await self.gateway.apply(table(cluster(self.task), routes=routes, version=self.version, **rest))
        await self.gateway.healthy(1)

    async def ask(self, path: str = "/", method: str = "GET", host: str = "shop.test", **more: Any) -> Answer:
        headers = {"host": host, **more.pop("headers", {})}
        url = more.pop("url", self.gateway.url(path))
        async with self.client.request(method, url, headers=headers, allow_redirects=False, **more) as answer:
            return Answer(answer.status, await answer.text(), {k.lower(): v for k, v in answer.headers.items()})


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    timeout = aiohttp.ClientTimeout(total=20)
    async with gateway(tmp_path) as running, backend() as task, aiohttp.ClientSession(timeout=timeout) as client:
        yield World(running, task, client)


async def test_hosts_exact_and_wildcard(world: World) -> None:
    other = replace(route("*.shop.test", response_headers={"x-by": "wildcard"}), service="wild")
    await world.serve(route("shop.test", response_headers={"x-by": "exact"}), other)
    assert (await world.ask(host="shop.test")).headers["x-by"] == "exact"
    assert (await world.ask(host="SHOP.test:8080")).headers["x-by"] == "exact"
    assert (await world.ask(host="a.b.shop.test")).headers["x-by"] == "wildcard"
    assert (await world.ask(host="shop.test.evil")).status == 404


async def test_paths_by_segments_and_exact(world: World) -> None:
    by = [route(path=path, response_headers={"x-by": path}) for path in ("/", "/api", "/api/v2", "=/api")]
    await world.serve(*by)
    asked = ["/", "/api", "/api/", "/api/v1", "/api/v2", "/api/v2/x", "/api/v20", "/apis"]
    found = [(await world.ask(path)).headers["x-by"] for path in asked]
    assert found == ["/", "=/api", "/api", "/api", "/api/v2", "/api/v2", "/api", "/"]


async def test_headers_decide(world: World) -> None:
    kinds = {
        "exact": Match(name="x-team", value="a"),
        "prefix": Match(name="x-team", kind="prefix", value="b-"),
        "regex": Match(name="x-team", kind="regex", value="c[0-9]+"),
        "present": Match(name="x-beta", kind="present"),
    }
    by = [
        replace(route(headers=(match,), response_headers={"x-by": kind}), service=kind) for kind, match in kinds.items()
    ]
    await world.serve(*by)
    asked: list[dict[str, str]] = [{"x-team": "a"}, {"x-team": "b-1"}, {"x-team": "c12"}, {"x-beta": ""}]
    assert [(await world.ask(headers=each)).headers["x-by"] for each in asked] == list(kinds)
    assert (await world.ask(headers={"x-team": "c"})).status == 404


@pytest.mark.parametrize(
    ("spec", "asked", "got"),
    [
        ({"path": "/api", "strip_prefix": True}, "/api/x?y=1", "/x?y=1"),
        ({"path": "/api", "strip_prefix": True}, "/api", "/"),
        ({"path": "/api", "replace_prefix": "/v2/core"}, "/api/x", "/v2/core/x"),
        ({"path": "/a.b", "replace_prefix": "/"}, "/a.b/c?d=e/f", "/c?d=e/f"),
        ({"path": "/", "replace_prefix": "/sub"}, "/x", "/sub/x"),
    ],
)
async def test_paths_are_rewritten(world: World, spec: dict[str, Any], asked: str, got: str) -> None:
    await world.serve(route(**spec))
    assert (await world.ask(asked)).seen["path"] == got


async def test_hosts_and_headers_are_rewritten(world: World) -> None:
    changes = {"x-env": "100% live", "x-set": "ours"}
    await world.serve(route(host_rewrite="inner.test", request_headers=changes, response_headers={"x-frame": "DENY"}))
    answer = await world.ask(headers={"x-set": "theirs", "x-hunqi-hold": "shop_web-r1:8080", "x-hunqi-held": "1"})
    seen = answer.seen["headers"]
    assert (seen["host"], seen["x-env"], seen["x-set"]) == ("inner.test", "100% live", "ours")
    assert answer.headers["x-frame"] == "DENY"
    assert not [name for name in seen if name.startswith(("x-hunqi", "x-envoy"))]
    assert not [name for name in answer.headers if name.startswith("x-envoy")]


async def test_redirects(world: World) -> None:
    await world.serve(
        route("old.test", redirect="https://new.test", redirect_code=301),
        route("page.test", redirect="https://new.test:8443/there?x=1", redirect_code=302),
        route("secure.test", redirect="https"),
    )
    old = await world.ask("/a?b=c", host="old.test")
    assert (old.status, old.headers["location"]) == (301, "https://new.test/a?b=c")
    page = await world.ask("/a", host="page.test")
    assert (page.status, page.headers["location"]) == (302, "https://new.test:8443/there?x=1")
    secure = await world.ask("/a", host="secure.test")
    assert (secure.status, secure.headers["location"]) == (308, "https://secure.test/a")


async def test_plain_http_is_sent_to_https_but_not_what_a_trusted_proxy_ended(tmp_path: Path) -> None:
    edge = Edge(trusted_proxies=("127.0.0.2",), https_port=8443)
    async with gateway(tmp_path, edge) as running, backend() as task, aiohttp.ClientSession() as client:
        world = World(running, task, client)
        await world.serve(route(tls="auto"), edge=edge)
        plain = await world.ask("/a", headers={"x-forwarded-proto": "https"})
        assert (plain.status, plain.headers["location"]) == (308, "https://shop.test:8443/a")
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        async with aiohttp.ClientSession(connector=connector) as proxy:
            world.client = proxy
            forwarded = {"x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9"}
            seen = (await world.ask("/a", headers=forwarded)).seen["headers"]
        assert (seen["x-forwarded-proto"], seen["x-forwarded-for"]) == ("https", "203.0.113.9,127.0.0.2")


async def test_cross_origin_requests(world: World) -> None:
    await world.serve(route(cors=Cors(origins=("https://a.test", "https://*.b.test"), headers=("x-y",))))
    asked = {"origin": "https://a.test", "access-control-request-method": "POST"}
    preflight = await world.ask(method="OPTIONS", headers=asked)
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-methods"] == "GET, HEAD, POST"
    assert preflight.headers["access-control-max-age"] == "600"
    name = "access-control-allow-origin"
    assert (await world.ask(headers={"origin": "https://x.b.test"})).headers[name] == "https://x.b.test"
    assert name not in (await world.ask(headers={"origin": "https://a.test.evil"})).headers
    assert name not in (await world.ask(headers={"origin": "https://xb.test"})).headers


async def chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 1000):
        yield b"x" * 1000


async def test_bodies_are_limited_whether_their_length_was_told_or_not(world: World) -> None:
    await world.serve(route(body_limit_bytes=100_000))
    assert (await world.ask(method="POST", data=io.BytesIO(b"x" * 100_000))).seen["body_bytes"] == 100_000
    assert (await world.ask(method="POST", data=io.BytesIO(b"x" * 100_001))).status == 413
    assert (await world.ask(method="POST", data=chunks(90_000))).seen["body_bytes"] == 90_000
    assert (await world.ask(method="POST", data=chunks(300_000))).status == 413
    assert (await world.ask(method="GET")).status == 200
    assert world.task.requests.count("POST /") == 2


async def test_rates_are_limited(world: World) -> None:
    await world.serve(route(rate_limit=RateLimit(requests=5, per_s=60.0)), route("free.test"))
    statuses = [(await world.ask()).status for _ in range(8)]
    assert statuses == [200] * 5 + [429] * 3
    assert {(await world.ask(host="free.test")).status for _ in range(8)} == {200}


def login(name: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


async def test_passwords(world: World) -> None:
    digest = base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
    await world.serve(route(basic_auth=(f"ada:{{SHA}}{digest}",)), route("free.test"))
    assert (await world.ask()).status == 401
    assert (await world.ask(headers=login("ada", "wrong"))).status == 401
    assert (await world.ask(headers=login("-", ""))).status == 401
    assert (await world.ask(headers=login("ada", "secret"))).status == 200
    assert (await world.ask(host="free.test")).status == 200


async def test_only_listed_networks_may_come(world: World) -> None:
    await world.serve(route(allow=("127.0.0.3", "10.0.0.0/8")))
    assert (await world.ask(headers={"x-forwarded-for": "10.1.2.3"})).status == 403
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=("127.0.0.3", 0))) as allowed:
        world.client = allowed
        assert (await world.ask()).status == 200


async def test_a_slow_answer_is_given_up(world: World) -> None:
    await world.serve(route(timeout_s=0.3))
    assert (await world.ask("/wait")).status == 504


async def test_maintenance(world: World) -> None:
    await world.serve(replace(route(), maintenance="Back at nine."))
    answer = await world.ask()
    assert (answer.status, answer.text, answer.headers["retry-after"]) == (503, "Back at nine.", "30")
    assert world.task.requests == []


async def test_weights_share_the_traffic(world: World) -> None:
    async with backend("t2") as second:
        both = (Target(cluster="shop_web-r1:8080", weight=80), Target(cluster="shop_web-r2:8080", weight=20))
        clusters = cluster(world.task), cluster(second, name="shop_web-r2:8080")
        await world.gateway.apply(table(*clusters, routes=(route("shop.test", *both),), version=9))
        await world.gateway.healthy(1, name="shop_web-r2:8080")
        for _ in range(300):
            await world.ask()
        assert 25 < len(second.requests) < 105


async def test_ready_is_for_load_balancers(world: World) -> None:
    url = f"http://127.0.0.1:{world.gateway.place.ready_port}"
    assert (await world.ask(url=url + "/ready")).status == 200
    assert (await world.ask(url=url + "/")).status == 404
    await world.gateway.admin.fail_ready()
    assert (await world.ask(url=url + "/ready")).status == 503


async def test_challenges_go_to_control(world: World) -> None:
    async with backend("control") as control:
        edge = Edge(acme_challenge=f"127.0.0.1:{control.port}")
        await world.serve(route(tls="auto"), edge=edge)
        for host in ("shop.test", "unknown.test"):
            answer = await world.ask("/.well-known/acme-challenge/token", host=host)
            assert answer.seen["task"] == "control"


def inside(port: int, subnet: str, *targets: Target, app: str = "shop", host: str = "web") -> InternalRoute:
    return InternalRoute(
        app=app,
        service=host,
        host=host,
        port=port,
        subnets=(subnet,),
        protocol=Protocol.HTTP1,
        targets=targets or (Target(cluster="shop_web-r1:8080"),),
    )


async def test_names_inside_an_app_are_reached_from_its_own_networks_only(world: World) -> None:
    """Two apps use the same name and port; neither sees the other, and nobody from outside sees either."""
    async with backend("b1") as other:
        port = free_port()
        routes = (
            inside(port, "127.1.1.0/24"),
            inside(port, "127.1.2.0/24", Target(cluster="blog_web-r1:80"), app="blog"),
        )
        clusters = cluster(world.task), cluster(other, name="blog_web-r1:80", app="blog")
        await world.gateway.apply(table(*clusters, internal=routes, version=7))
        await world.gateway.healthy(1)
        await world.gateway.healthy(1, name="blog_web-r1:80")
        assert await inner("127.1.1.9", "127.1.1.1", port) == "t1"
        assert await inner("127.1.2.9", "127.1.2.1", port) == "b1"
        assert await inner("127.1.1.9", "127.1.1.1", port, host="nobody") == "404"
        for source, destination in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.1.1.9", "127.0.0.1"),
            ("127.0.0.1", "127.1.1.1"),
            ("127.1.1.9", "127.1.2.1"),
        ]:
            assert await inner(source, destination, port) == "closed"


async def inner(source: str, destination: str, port: int, host: str = "web") -> str:
    connector = aiohttp.TCPConnector(local_addr=(source, 0))
    async with aiohttp.ClientSession(connector=connector) as client:
        url, headers = f"http://{destination}:{port}/", {"host": f"{host}:{port}"}
        try:
            async with client.get(url, headers=headers) as answer:
                return str((await answer.json())["task"]) if answer.status == 200 else str(answer.status)
        except aiohttp.ClientError:
            return "closed"


async def test_a_change_of_one_app_leaves_the_connections_of_others_alone(world: World) -> None:
    """WebSockets from outside and inside live through new apps, ports, certificates and subnets."""
    port, tcp = free_port(), free_port() + 1
    first = (inside(port, "127.1.1.0/24"),)
    await world.serve(route(), internal=first)
    connector = aiohttp.TCPConnector(local_addr=("127.1.1.9", 0))
    async with aiohttp.ClientSession(connector=connector) as near, contextlib.AsyncExitStack() as stack:
        outer = await stack.enter_async_context(
            world.client.ws_connect(world.gateway.url("/socket"), headers={"host": "shop.test"})
        )
        inner_socket = await stack.enter_async_context(
            near.ws_connect(f"http://127.1.1.1:{port}/socket", headers={"host": "web"})
        )
        async with backend("b1") as other:
            extra = cluster(other, name="blog_web-r1:80", app="blog")
            more = (*first, inside(port, "127.1.2.0/24", Target(cluster=extra.name), app="blog"))
            blog = replace(route("blog.test", Target(cluster=extra.name)), app="blog")
            raw = replace(
                route("", Target(cluster=extra.name), hosts=(), tcp_port=tcp, protocol=Protocol.TCP), app="blog"
            )
            for number in range(3):
                given = (certificate(Authority(world.gateway.folder / f"ca{number}"), "blog.test"),)
                changed = table(
                    cluster(world.task),
                    extra,
                    routes=(route(), blog, raw),
                    internal=more,
                    certificates=given,
                    version=20,
                )
                await world.gateway.apply(changed)
                await world.gateway.apply(table(cluster(world.task), routes=(route(),), internal=first, version=21))
            await asyncio.sleep(3.0)  # longer than Envoy's drain time
            for channel in (outer, inner_socket):
                await channel.send_str("still")
                assert await channel.receive_str() == "t1: still"


def certificate(authority: Authority, *hosts: str) -> Certificate:
    issued = authority.issue(hosts=hosts)
    return Certificate(hosts=hosts, chain_pem=issued.cert_file.read_text(), key_pem=issued.key_file.read_text())


async def test_each_name_gets_its_certificate_and_a_renewed_one_cuts_nothing(world: World, tmp_path: Path) -> None:
    first, second = Authority(tmp_path / "one"), Authority(tmp_path / "two")
    given = certificate(first, "shop.test"), certificate(first, "*.blog.test")
    await world.serve(route(tls="auto"), route("a.blog.test", tls="auto"), certificates=given)
    url = f"https://127.0.0.1:{world.gateway.place.https_port}/socket"
    async with world.client.ws_connect(
        url, headers={"host": "shop.test"}, ssl=first.client_context(), server_hostname="shop.test"
    ) as channel:
        assert await tls(world, "shop.test", first) == (200, "http/1.1")
        assert await tls(world, "a.blog.test", first, alpn="h2") == (0, "h2")
        with pytest.raises(ssl.SSLError):
            await tls(world, "shop.test", second)
        await world.serve(
            route(tls="auto"),
            route("a.blog.test", tls="auto"),
            certificates=(certificate(second, "shop.test"), given[1]),
        )
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(ssl.SSLError):
                    assert await tls(world, "shop.test", second) == (200, "http/1.1")
                    break
        await asyncio.sleep(2.5)
        await channel.send_str("still")
        assert await channel.receive_str() == "t1: still"


async def tls(world: World, name: str, trusted: Authority, alpn: str = "http/1.1") -> tuple[int, str]:
    """Return the status of a request (HTTP/1.1 only) and the protocol that was agreed upon."""
    context = trusted.client_context()
    context.set_alpn_protocols([alpn])
    port = world.gateway.place.https_port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        if agreed == "h2":
            return 0, agreed
        writer.write(f"GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n".encode())
        return int((await reader.readline()).split()[1]), agreed
    finally:
        writer.transport.abort()


async def test_bytes_are_carried_by_port_and_by_name(world: World, tmp_path: Path) -> None:
    """A TCP port of the range, and TLS that the app ends itself, found by SNI beside names that we end."""
    authority = Authority(tmp_path / "ca")
    context = authority.issue("raw", hosts=("raw.test",)).server_context()
    plain = await asyncio.start_server(echo, "127.0.0.1", 0)
    secure = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    async with plain, secure:
        port = free_port()
        clusters = raw("db_main-r1:1", plain), raw("tls_main-r1:1", secure)
        by_port = route("", Target(cluster="db_main-r1:1"), hosts=(), tcp_port=port, protocol=Protocol.TCP)
        by_name = route("raw.test", Target(cluster="tls_main-r1:1"), protocol=Protocol.TCP, tls="passthrough")
        wanted = table(
            *clusters,
            cluster(world.task),
            routes=(by_port, by_name, route(tls="auto")),
            certificates=(certificate(authority, "shop.test"),),
        )
        await world.gateway.apply(wanted)
        await world.gateway.healthy(1, name="db_main-r1:1")
        await world.gateway.healthy(1, name="tls_main-r1:1")
        assert await say("127.0.0.1", port) == b"hello"
        https = world.gateway.place.https_port
        trusting = authority.client_context()
        assert await say("127.0.0.1", https, ssl=trusting, server_hostname="raw.test") == b"hello"
        assert await tls(world, "shop.test", authority) == (200, "http/1.1")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(100):
            writer.write(data)
            await writer.drain()
    writer.close()


async def say(host: str, port: int, **settings: Any) -> bytes:
    reader, writer = await asyncio.open_connection(host, port, **settings)
    writer.write(b"hello")
    async with asyncio.timeout(5):
        got = await reader.read(100)
    writer.transport.abort()
    return got


def raw(name: str, server: asyncio.Server, protocol: Protocol = Protocol.TCP) -> Cluster:
    port = server.sockets[0].getsockname()[1]
    where = (Endpoint(address="127.0.0.1", port=port, task=name, node="n1"),)
    return Cluster(name=name, protocol=protocol, health=HealthSpec(interval_s=0.2), endpoints=where)


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(b"re: " + data, addr)  # type: ignore[attr-defined]


async def test_datagrams_are_carried(world: World) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
    task = Endpoint(address="127.0.0.1", port=transport.get_extra_info("sockname")[1], task="u1", node="n1")
    named = Cluster(name="dns_main-r1:53", protocol=Protocol.UDP, health=HealthSpec(), endpoints=(task,))
    port = free_port(kind=socket.SOCK_DGRAM)
    wanted = route("", Target(cluster=named.name), hosts=(), tcp_port=port, protocol=Protocol.UDP)
    await world.gateway.apply(table(named, routes=(wanted,)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        async with asyncio.timeout(10):
            got = b""
            while not got:
                await loop.sock_sendto(client, b"ping", ("127.0.0.1", port))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        got = await loop.sock_recv(client, 100)
    transport.close()
    assert got == b"re: ping"


async def test_the_proxy_protocol_tells_the_clients_address(tmp_path: Path) -> None:
    edge = Edge(proxy_protocol=True)
    async with gateway(tmp_path, edge) as running, backend() as task, aiohttp.ClientSession() as client:
        world = World(running, task, client)
        await world.serve(route(), edge=edge)
        reader, writer = await asyncio.open_connection("127.0.0.1", running.place.http_port)
        writer.write(b"PROXY TCP4 203.0.113.7 127.0.0.1 5555 80\r\n")
        writer.write(b"GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n")
        said = await reader.read()
        writer.close()
        assert b'"x-forwarded-for": "203.0.113.7"' in said
        with pytest.raises(aiohttp.ClientError):
            await world.ask()


class Grpc(asyncio.Protocol):
    """As much of an HTTP/2 server as answers each request with a message and a trailer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.held = b""
        self.preface = 24
        self.frame(4, 0, 0, b"")

    def frame(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        self.transport.write(len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body)

    def data_received(self, data: bytes) -> None:
        self.held += data
        if self.preface and len(self.held) >= self.preface:
            self.held, self.preface = self.held[self.preface :], 0
        while not self.preface and len(self.held) >= 9:
            size = int.from_bytes(self.held[:3], "big")
            if len(self.held) < 9 + size:
                return
            kind, flags, stream = self.held[3], self.held[4], int.from_bytes(self.held[5:9], "big")
            self.held = self.held[9 + size :]
            if kind == 4 and not flags & 1:
                self.frame(4, 1, 0, b"")
            if kind in {0, 1} and flags & 1:
                self.answer(stream)

    def answer(self, stream: int) -> None:
        content = literal(b"content-type", b"application/grpc")
        self.frame(1, 4, stream, b"\x88" + content)
        self.frame(0, 0, stream, b"\x00\x00\x00\x00\x02ok")
        self.frame(1, 5, stream, literal(b"grpc-status", b"0"))


def literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


async def test_grpc_with_its_trailers(world: World) -> None:
    server = await asyncio.get_running_loop().create_server(Grpc, "127.0.0.1", 0)
    async with server:
        named = raw("rpc_main-r1:1", server, Protocol.HTTP2)
        wanted = route("rpc.test", Target(cluster=named.name), protocol=Protocol.HTTP2)
        await world.gateway.apply(table(named, routes=(wanted,)))
        await world.gateway.healthy(1, name=named.name)
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "-D", "-", "--http2-prior-knowledge", "--max-time", "10", "-H", "host: rpc.test"),
            *("-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", "x"),
            world.gateway.url("/pkg.Service/Call"),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await curl.communicate()
    assert said.startswith(b"HTTP/2 200")
    assert b"grpc-status: 0" in said
    assert b"ok" in said


async def test_each_request_is_logged_with_whose_it_was(world: World) -> None:
    await world.serve(route())
    await world.ask("/a?b=c", headers={"user-agent": 'x"\n'.strip()})
    await world.ask("/nothing", host="unknown.test")
    async with asyncio.timeout(10):
        while len(world.gateway.log()) < 2:
            await asyncio.sleep(0.02)
    first, second = world.gateway.log()[:2]
    wanted = {
        "app": "shop",
        "service": "web",
        "revision": "1",
        "task": "t1",
        "node": "n1",
        "status": 200,
        "path": "/a?b=c",
    }
    assert {key: first[key] for key in wanted} == wanted
    assert second["status"] == 404
    assert "app" not in second


async def test_too_many_connections_are_refused(tmp_path: Path) -> None:
    edge = Edge(max_connections=5)
    async with gateway(tmp_path, edge) as running, backend() as task, aiohttp.ClientSession() as client:
        world = World(running, task, client)
        await world.serve(route(), edge=edge)
        await client.close()
        open_ones = [await asyncio.open_connection("127.0.0.1", running.place.http_port) for _ in range(9)]
        await asyncio.sleep(0.3)
        cut = [reader.at_eof() for reader, _ in open_ones]
        for _, writer in open_ones:
            writer.close()
        assert cut.count(False) <= 5


async def test_the_admin_interface_is_the_owners_only(world: World) -> None:
    assert (world.gateway.folder / "admin.sock").stat().st_mode & 0o077 == 0
