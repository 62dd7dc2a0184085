"""Whom the mirror is compared with, and the content that all of them serve."""

from __future__ import annotations

import functools
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tools.bench.clients import get_whole
from tools.bench.model import BenchError

from testbed import images
from testbed.authority import Authority, Credential
from testbed.mirror import RunningMirror
from testbed.programs import Daemon, accepts, free_port
from testbed.registry import RealRegistry, real_registry
from testbed.server import Link

REPOSITORY: Final = "library/bench"
TAG: Final = "latest"
BLOB_BYTES: Final = 256 * images.MIB
PACE_BYTES_S: Final = 32 * images.MIB


@functools.cache
def big_image() -> images.Image:
    """Return the image whose only layer is the blob of 256 MiB."""
    return images.opaque([BLOB_BYTES], seed="bench")


def big_blob() -> str:
    """Return the blob's digest."""
    return big_image().layers[0]


@contextmanager
def big_world(folder: Path) -> Generator[RealRegistry]:
    """Run the upstream that holds the big image, behind a wire in a process of its own."""
    with real_registry(folder, seed={f"{REPOSITORY}:{TAG}": big_image()}, own_process=True, link=Link()) as registry:
        yield registry


def ours(base_url: str) -> str:
    """Return the repository's URL at a mirror of ours."""
    return f"{base_url}/v2/docker.io/{REPOSITORY}"


def theirs(base_url: str) -> str:
    """Return the repository's URL at docker-registry."""
    return f"{base_url}/v2/{REPOSITORY}"


def mirror_of(folder: Path, upstream: str, *args: str, authority: Authority | None = None) -> RunningMirror:
    """Return a mirror of ``upstream``, not started, with two workers and otherwise as it comes; https if certified."""
    return RunningMirror(folder, upstreams={"docker.io": upstream}, args=args, workers=2, authority=authority)


def check_blob(repository_url: str, *, ca_file: Path | None = None) -> None:
    """Read the manifest and the big blob as a client does; raise :class:`BenchError` unless it is right."""
    get_whole(f"{repository_url}/manifests/{TAG}", ca_file=ca_file)
    data = get_whole(f"{repository_url}/blobs/{big_blob()}", ca_file=ca_file)
    if images.digest_of(data) != big_blob():
        raise BenchError(f"{repository_url} sent a wrong blob")


@contextmanager
def nginx(folder: Path, content: Path, *, tls: Credential | None = None) -> Generator[str]:
    """Serve the files below ``content`` by nginx with sendfile and two workers; yields its URL."""
    port = free_port()
    folder.mkdir(parents=True)
    secure = f"ssl_certificate {tls.cert_file}; ssl_certificate_key {tls.key_file};" if tls else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; user root; worker_processes 2;\n"
        "events { worker_connections 512; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on;\n"
        f"  server {{ listen 127.0.0.1:{port}{' ssl' if tls else ''}; root {content}; {secure} }} }}\n"
    )
    daemon = Daemon(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], log=folder / "nginx.log")
    try:
        daemon.wait_until(lambda: accepts("127.0.0.1", port), timeout_s=5.0)
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        daemon.stop()
