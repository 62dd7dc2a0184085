"""The clients that measure: wrk, curl, and a plain one that sees first bytes."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tools.bench.model import BenchError

from testbed.client import MANIFEST_TYPES, fetch
from testbed.programs import find_program, run

CONNECTIONS: Final = 32
_DOWNLOAD_S: Final = 180.0
_PIECE: Final = 1024 * 1024
_UNITS_MS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
_SCRIPT: Final = """
local requests, turn = {}, 0
init = function()
  for path in io.lines("PATHS") do requests[#requests + 1] = wrk.format("GET", path) end
end
request = function()
  turn = turn % #requests + 1
  return requests[turn]
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What wrk measured."""

    requests_s: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One whole download as its client saw it."""

    size: int
    first_byte_s: float
    """From before the connection to the first byte of the body."""
    took_s: float


def write_script(folder: Path, name: str, paths: Sequence[str]) -> Path:
    """Write a wrk script that asks for ``paths`` in turn; return it."""
    (folder / f"{name}.paths").write_text("".join(f"{path}\n" for path in paths))
    script = folder / f"{name}.lua"
    script.write_text(_SCRIPT.replace("PATHS", str(folder / f"{name}.paths")))
    return script


def wrk(base_url: str, script: Path, *, seconds: int = 3) -> Load:
    """Ask over 32 connections for some seconds; raise :class:`BenchError` when an answer is not a success."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "--latency", "-s", str(script)]
    command += ["-H", f"Accept: {MANIFEST_TYPES}", base_url]
    done = run(command, timeout_s=seconds + 60.0).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done)
    late = re.search(r"^\s+99%\s+([\d.]+)(us|ms|s|m)$", done, re.MULTILINE)
    if rate is None or late is None or "Non-2xx" in done or "Socket errors" in done:
        raise BenchError(f"wrk at {base_url}: {done}")
    return Load(requests_s=float(rate[1]), p99_ms=float(late[1]) * _UNITS_MS[late[2]])


def curl_command(url: str, *, times: int = 1, ca_file: Path | None = None) -> list[str]:
    """Return a command that reads ``url`` so many times over one connection and prints each size."""
    command = [find_program("curl"), "-sS", "-f", "-w", "%{size_download}\n"]
    if ca_file is not None:
        command += ["--cacert", str(ca_file)]
    return command + ["-o", "/dev/null", url] * times


def curl(url: str, size: int, *, connections: int = 1, times: int = 1, ca_file: Path | None = None) -> float:
    """Return the bytes a second of whole downloads: ``connections`` side by side, each ``times`` in a row."""
    command = curl_command(url, times=times, ca_file=ca_file)
    begun = time.monotonic()
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(connections)]
    outputs = [process.communicate(timeout=_DOWNLOAD_S)[0].split() for process in running]
    took_s = time.monotonic() - begun
    sizes = [int(text) for output in outputs for text in output]
    if any(process.returncode for process in running) or sizes != [size] * (connections * times):
        raise BenchError(f"curl on {url}: {sizes} bytes, not {size} each")
    return sum(sizes) / took_s


@contextmanager
def curls(url: str, size: int, *, connections: int) -> Generator[None]:
    """Read ``url`` again and again over some connections while the block runs; every download must be whole."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def loop() -> None:
        try:
            while not stop.is_set():
                curl(url, size)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=loop) for _ in range(connections)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(_DOWNLOAD_S)
    if failures:
        raise BenchError("a download beside the load failed") from failures[0]


def get_whole(url: str, *, ca_file: Path | None = None) -> bytes:
    """Return a body; raise :class:`BenchError` unless it is a whole success."""
    tls = ssl.create_default_context(cafile=str(ca_file)) if ca_file else None
    answer = fetch(url, headers={"Accept": MANIFEST_TYPES}, timeout_s=60.0, tls=tls)
    if not answer.is_whole:
        raise BenchError(f"GET {url}: status {answer.status}, {len(answer.body)} of {answer.promised_bytes} bytes")
    return answer.body


def download(url: str, size: int) -> Download:
    """Read one body of ``size`` over a new connection and drop it, noting when its first byte came."""
    parts = urlsplit(url)
    begun = time.monotonic()
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=30.0) as sock:
        sock.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            piece = sock.recv(65536)
            if not piece:
                raise BenchError(f"GET {url}: closed before the body")
            head += piece
        head, _, body = head.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"GET {url}: {head[:200]!r}")
        first_s, got = (time.monotonic() - begun if body else 0.0), len(body)
        buffer = bytearray(_PIECE)
        while piece_bytes := sock.recv_into(buffer):
            first_s = first_s or time.monotonic() - begun
            got += piece_bytes
    if got != size:
        raise BenchError(f"GET {url}: {got} of {size} bytes")
    return Download(size=got, first_byte_s=first_s, took_s=time.monotonic() - begun)
