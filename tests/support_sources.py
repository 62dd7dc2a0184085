"""Real local servers for the tests of ``hunqi.mirror.sources``: a scripted HTTP server and certificates."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hunqi.mirror.settings import Deadlines, Origin
from hunqi.mirror.sources.model import RemoteBlob, SourceKind
from hunqi.mirror.sources.proxies import ProxyRules
from hunqi.mirror.sources.source import Source
from hunqi.mirror.sources.stream import BlobStream
from hunqi.oci.digest import Digest

SHORT = Deadlines(connect_s=1.0, first_byte_s=0.5, stall_s=0.5)


@dataclass(frozen=True)
class Seen:
    """One request as the server saw it."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    connection: int
    """Counts the server's connections."""


@dataclass(frozen=True)
class Answer:
    """One answer; ``Content-Length`` is added unless the headers have it or ``raw_body`` is set."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw_body: bool = False
    """Send ``body`` as it stands, without a length, and close."""


Responder = Callable[[Seen], Answer]


class Server:
    """A threaded HTTP/1.1 server whose answers are decided by ``respond``; it records what it saw."""

    def __init__(self, respond: Responder, *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.seen: list[Seen] = []
        self.respond = respond
        self._connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20

            def setup(self) -> None:
                outer._connections += 1
                self.number = outer._connections
                super().setup()

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                outer._serve(self, self.number)

            do_HEAD = do_POST = do_CONNECT = do_GET  # noqa: N815 (names that http.server asks for)

        class Http(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def get_request(self) -> tuple[Any, Any]:
                sock, address = super().get_request()
                if context is not None:
                    sock.settimeout(5)
                    sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                return sock, address

            def handle_error(self, *_: Any) -> None:
                pass

        self._http = Http((host, 0), Handler)
        self.port: int = self._http.server_address[1]
        self.scheme = "https" if context else "http"
        self.netloc = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.netloc}"

    def paths(self, method: str | None = None) -> list[str]:
        return [seen.path for seen in self.seen if method in (None, seen.method)]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def _serve(self, handler: BaseHTTPRequestHandler, number: int) -> None:
        parts = urlsplit(handler.path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        path = handler.path if handler.command == "CONNECT" or "://" in handler.path else parts.path
        seen = Seen(handler.command, path, parse_qs(parts.query), headers, body, number)
        self.seen.append(seen)
        answer = self.respond(seen)
        handler.send_response(answer.status)
        sent = {name.lower() for name in answer.headers}
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        if answer.raw_body:
            handler.close_connection = True
        elif "content-length" not in sent and "transfer-encoding" not in sent:
            handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(answer.body)


@contextmanager
def serving(respond: Responder, **options: Any) -> Iterator[Server]:
    """Run a server for the length of a ``with``."""
    server = Server(respond, **options)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def raw_server(script: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server that hands every connection to ``script`` in a thread; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    open_sockets: list[socket.socket] = []

    def one(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            script(sock)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.settimeout(10)
            open_sockets.append(sock)
            thread = threading.Thread(target=one, args=(sock,), daemon=True)
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for sock in open_sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in [*threads, acceptor]:
            thread.join(5)


def read_request(sock: socket.socket) -> bytes:
    """Read a request's header."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(4096)
        if not piece:
            break
        data += piece
    return data


@contextmanager
def source_of(
    url: str,
    kind: SourceKind = SourceKind.UPSTREAM,
    *,
    deadlines: Deadlines = SHORT,
    proxies: ProxyRules | None = None,
    clock: Callable[[], float] = time.monotonic,
    **options: Any,
) -> Iterator[Source]:
    """Make a source for ``url`` with short deadlines; ``options`` go to its settings."""
    origin = Origin(name=options.pop("name", "up.test"), url=url, **options)
    source = Source(origin, kind, deadlines=deadlines, proxies=proxies or ProxyRules(), clock=clock)
    try:
        yield source
    finally:
        source.close()


@dataclass(frozen=True)
class Authority:
    """A certificate authority and what it issued, as files."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @classmethod
    def create(cls, folder: Path) -> Authority:
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate("Test CA", key.public_key(), issuer="Test CA", signer=key, ca=True)
        authority = cls(folder, certificate, key)
        authority.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return authority

    def issue(self, name: str, hosts: Sequence[str] = ()) -> tuple[Path, Path]:
        """Return the files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(name, key.public_key(), issuer="Test CA", signer=self.key, hosts=hosts)
        cert_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert_file, key_file

    def server_context(
        self, hosts: Sequence[str] = ("127.0.0.1", "localhost"), *, mutual: bool = False
    ) -> ssl.SSLContext:
        cert_file, key_file = self.issue("server", hosts)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert_file, key_file)
        if mutual:
            context.load_verify_locations(self.ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def blob(data: bytes, repository: str = "library/thing", upstream: str | None = "up.test") -> RemoteBlob:
    """Name ``data`` as a blob of a repository."""
    return RemoteBlob(upstream=upstream, repository=repository, digest=Digest.of(data))


def read(stream: BlobStream, size: int = 1 << 20) -> bytes:
    """Read a stream to its end."""
    buffer, data = memoryview(bytearray(size)), bytearray()
    while count := stream.readinto(buffer):
        data += buffer[:count]
    return bytes(data)


def blob_answer(seen: Seen, data: bytes, **headers: str) -> Answer:
    """Answer as a registry with ranges does."""
    sent = {"Content-Type": "application/octet-stream", "ETag": '"one"', **headers}
    asked = seen.headers.get("range")
    if asked is None:
        return Answer(200, data, sent)
    first, last = asked.removeprefix("bytes=").split("-")
    start, end = int(first), min(int(last) + 1 if last else len(data), len(data))
    if start >= len(data):
        return Answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
    return Answer(206, data[start:end], {**sent, "Content-Range": f"bytes {start}-{end - 1}/{len(data)}"})


def _certificate(
    name: str,
    public_key: Any,
    *,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str] = (),
    ca: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if hosts:
        names = [_alternative(host) for host in hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
