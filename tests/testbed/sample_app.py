"""The program inside the sample image: a small HTTP server that behaves as a test asks it to. Standard library only.

Environment: ``PORT`` (8080), ``TCP_PORT`` (an echo server beside), ``START_S`` (before it listens), ``STOP_S`` (from
SIGTERM to the end; no new connections meanwhile), ``EXIT`` (end with this code at once), ``VERSION``, ``NAME``.

=========================  ==================================================================
GET /                      JSON: id (host name), version, name, method, path, headers, client
GET /health                200, or 503 after POST /health?ok=0
GET /wait?s=1.5            the same as / after that time
GET /bytes?n=1000          so many bytes
GET /status?code=418       an answer with that status
GET /count                 JSON: requests so far, WebSockets open
GET /signals               JSON: names of signals that came
GET /env?name=X            the value, 404 without one
GET /file?path=/x          the file's bytes, 404 without one
GET /resolve?host=web      JSON: addresses, [] for none
GET /fetch?url=http://…    JSON: status, headers, body of a GET from inside; status 0 and the error if it fails
POST /echo                 the body
POST /log?text=x&err=1     writes a line to standard output (or error)
POST /exit?code=3          ends at once
GET /ws                    a WebSocket that echoes; at the end it gets a close frame 1001
=========================  ==================================================================

It writes a line for its start, each signal (with what was open then) and its end.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal
import socket
import sys
from urllib.parse import parse_qsl, urlsplit

_ID = socket.gethostname()
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGURG")


class App:
    """All that the server knows."""

    def __init__(self) -> None:
        self.healthy = True
        self.count = 0
        self.active = 0
        self.signals: list[str] = []
        self.sockets: set[asyncio.StreamWriter] = set()
        self.stopping = asyncio.Event()
        self.servers: list[asyncio.Server] = []

    async def run(self) -> None:
        """Serve until told to stop."""
        for name in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(getattr(signal, name), self.on_signal, name)
        await asyncio.sleep(float(os.environ.get("START_S", "0")))
        port = int(os.environ.get("PORT", "8080"))
        self.servers.append(await asyncio.start_server(self.serve, "0.0.0.0", port, backlog=1024))
        if tcp_port := int(os.environ.get("TCP_PORT", "0")):
            self.servers.append(await asyncio.start_server(self.serve_tcp, "0.0.0.0", tcp_port))
        say(f"started {_ID}")
        await self.stopping.wait()
        for server in self.servers:
            server.close()
        await asyncio.sleep(float(os.environ.get("STOP_S", "0")))
        for writer in list(self.sockets):
            writer.write(frame(0x8, (1001).to_bytes(2, "big")))
        await asyncio.sleep(0.05)
        say(f"stopped {_ID}")

    def on_signal(self, name: str) -> None:
        """Note a signal; three of them end the program."""
        self.signals.append(name)
        say(f"signal {name} sockets={len(self.sockets)} active={self.active}")
        if name in {"SIGTERM", "SIGINT", "SIGQUIT"}:
            self.stopping.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while request := await read_request(reader):
                method, target, headers, body = request
                url = urlsplit(target)
                query = dict(parse_qsl(url.query))
                if url.path == "/ws" and headers.get("upgrade", "").lower() == "websocket":
                    await self.hold(reader, writer, headers["sec-websocket-key"])
                    return
                self.count += 1
                self.active += 1
                try:
                    status, answer = await self.answer(method, url.path, query, headers, body, writer)
                finally:
                    self.active -= 1
                closing = self.stopping.is_set() or headers.get("connection", "").lower() == "close"
                writer.write(head(status, len(answer), closing=closing) + (b"" if method == "HEAD" else answer))
                await writer.drain()
                if closing:
                    return
        except (OSError, ValueError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def answer(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        headers: dict[str, str],
        body: bytes,
        writer: asyncio.StreamWriter,
    ) -> tuple[int, bytes]:
        """Return the status and the body of the answer to one request."""
        if method == "POST":
            return self.command(path, query, body)
        if path == "/health":
            return (200, b"ok") if self.healthy else (503, b"told to be ill")
        if path == "/count":
            return 200, json.dumps({"count": self.count, "sockets": len(self.sockets)}).encode()
        if path == "/signals":
            return 200, json.dumps(self.signals).encode()
        if path == "/bytes":
            return 200, b"x" * int(query["n"])
        if path == "/status":
            return int(query["code"]), b"as asked"
        if path in {"/env", "/file"}:
            return found(path, query)
        if path == "/resolve":
            return 200, json.dumps(await resolve(query["host"])).encode()
        if path == "/fetch":
            return 200, json.dumps(await fetch(query["url"])).encode()
        if path == "/wait":
            await asyncio.sleep(float(query.get("s", "1")))
        peer = writer.get_extra_info("peername")
        told = {"id": _ID, "version": os.environ.get("VERSION", ""), "name": os.environ.get("NAME", "")}
        return 200, json.dumps({**told, "method": method, "path": path, "headers": headers, "client": peer[0]}).encode()

    def command(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Do what a POST asks."""
        if path == "/health":
            self.healthy = query.get("ok") != "0"
        elif path == "/log":
            print(query["text"], file=sys.stderr if "err" in query else sys.stdout, flush=True)
        elif path == "/exit":
            os._exit(int(query["code"]))
        return 200, body

    async def hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        """Echo over a WebSocket until it is closed."""
        accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.sockets.add(writer)
        try:
            while True:
                kind, data = await read_frame(reader)
                if kind == 0x8:
                    writer.write(frame(0x8, data))
                    await writer.drain()
                    return
                writer.write(frame({0x9: 0xA}.get(kind, kind), data))
                await writer.drain()
        finally:
            self.sockets.discard(writer)

    async def serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Greet, then echo lines."""
        try:
            writer.write(f"{_ID}\n".encode())
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        except OSError:
            return
        finally:
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes] | None:
    """Return method, target, headers and body; None at the end of the connection."""
    try:
        block = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = block[:-4].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return method, target, headers, await read_chunks(reader)
    return method, target, headers, await reader.readexactly(int(headers.get("content-length", "0")))


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Return a chunked body."""
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return kind and payload of a client's frame (RFC 6455, 5.2)."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    mask = await reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
    data = await reader.readexactly(size)
    return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def frame(kind: int, data: bytes) -> bytes:
    """Return a server's frame."""
    size = len(data)
    if size < 126:
        return bytes([0x80 | kind, size]) + data
    return bytes([0x80 | kind, 126]) + size.to_bytes(2, "big") + data


def head(status: int, size: int, *, closing: bool) -> bytes:
    """Return the head of an answer."""
    connection = "close" if closing else "keep-alive"
    lines = [f"HTTP/1.1 {status} Sample", f"Content-Length: {size}", f"Connection: {connection}", f"X-Sample-Id: {_ID}"]
    return ("\r\n".join([*lines, "Content-Type: text/plain"]) + "\r\n\r\n").encode()


def found(path: str, query: dict[str, str]) -> tuple[int, bytes]:
    """Return an environment variable or a file."""
    if path == "/env":
        value = os.environ.get(query["name"])
        return (404, b"") if value is None else (200, value.encode())
    try:
        with open(query["path"], "rb") as file:
            return 200, file.read()
    except OSError as error:
        return 404, str(error).encode()


async def resolve(host: str) -> list[str]:
    """Return the addresses of a name."""
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(host, 0, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(info[4][0]) for info in infos})


async def fetch(url: str) -> dict[str, object]:
    """GET a URL over plain HTTP."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
            try:
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                writer.write(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines if line}
                chunked = headers.get("transfer-encoding") == "chunked"
                body = await (read_chunks(reader) if chunked else reader.read())
            finally:
                writer.close()
        return {"status": int(first.split()[1]), "headers": headers, "body": body.decode(errors="replace")}
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        return {"status": 0, "headers": {}, "body": repr(error)}


def say(text: str) -> None:
    """Write a line that tests read in the log."""
    print(text, flush=True)


if __name__ == "__main__":
    if "EXIT" in os.environ:
        print("about to fail", flush=True)
        print("fatal: told to fail", file=sys.stderr, flush=True)
        sys.exit(int(os.environ["EXIT"]))
    asyncio.run(App().run())
