"""Serving while the disk is full: blobs pass through the fetcher to a worker without being stored.

A worker connects to ``DIR/relay.sock``, sends one line of JSON (what it wants) and reads one (``{"size"}`` or
``{"error"}``), then the bytes. A connection that ends early means that the rest cannot be had. Where the client has got
the blob's beginning from a file already, that file's descriptor comes with the line (``SCM_RIGHTS``).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hunqi.errors import HunqiError
from hunqi.kit.rpc import Payload
from hunqi.mirror.fetch.ports import FetchPorts
from hunqi.mirror.fetch.relay import Prefix, RelayStream
from hunqi.mirror.process.progress import describe_error
from hunqi.mirror.sources.model import RemoteBlob
from hunqi.oci.digest import Digest

RELAY_SOCKET: Final = "relay.sock"
MAX_RELAYS: Final = 128
_WRITE_S: Final = 60.0
_MAX_LINE: Final = 64 * 1024
_log: Final = logging.getLogger(__name__)


class Relaying:
    """A listening socket and a thread per blob that passes through."""

    def __init__(self, path: Path, *, ports: FetchPorts, note_way: Callable[[Digest, Payload], None]) -> None:
        self._path = path
        self._ports = ports
        self._note_way = note_way
        self._slots = threading.Semaphore(MAX_RELAYS)
        self._listener = _listen(path)
        self._running: set[RelayStream] = set()
        self._thread = threading.Thread(target=self._accept, name="relays", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def stop(self) -> None:
        """Cut every relay and stop accepting."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for stream in list(self._running):
            stream.abort()
        self._thread.join(2.0)
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if not self._slots.acquire(timeout=1.0):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), name="relay", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_WRITE_S)
                self._relay(connection)
        except (HunqiError, OSError, ValueError, KeyError) as error:
            _log.info("a relay ended: %s", error)
        finally:
            self._slots.release()

    def _relay(self, connection: socket.socket) -> None:
        line, descriptors = _receive(connection)
        try:
            wanted: Payload = json.loads(line)
            prefix = Prefix(fd=descriptors[0], length=wanted["beginning"]) if descriptors else None
            digest = Digest.parse(wanted["digest"])
            self._note_way(digest, wanted)
            blob = RemoteBlob(upstream=wanted["upstream"], repository=wanted["repository"], digest=digest)
            stream = RelayStream(
                blob,
                ports=self._ports,
                size=wanted["size"],
                start=wanted["start"],
                end=wanted["end"],
                prefix=prefix,
                on_prefix_read=lambda: _close(descriptors),
            )
            self._stream_to(connection, stream)
        finally:
            _close(descriptors)

    def _stream_to(self, connection: socket.socket, stream: RelayStream) -> None:
        self._running.add(stream)
        try:
            try:
                size = stream.open()
            except HunqiError as error:
                connection.sendall(json.dumps({"error": describe_error(error)}).encode() + b"\n")
                return
            connection.sendall(json.dumps({"size": size}).encode() + b"\n")
            stream.send_to(connection)
        finally:
            self._running.discard(stream)
            stream.close()


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    line, descriptors, _, _ = socket.recv_fds(connection, _MAX_LINE, 1, socket.MSG_CMSG_CLOEXEC)
    try:
        while not line.endswith(b"\n") and len(line) < _MAX_LINE:
            more = connection.recv(_MAX_LINE)
            if not more:
                break
            line += more
    except BaseException:
        _close(descriptors)
        raise
    return line, descriptors


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    old = os.umask(0o177)
    try:
        sock.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.umask(old)
        os.close(folder)
    sock.listen(64)
    return sock
