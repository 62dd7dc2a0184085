"""A warm blob of 256 MiB: 1 and 8 connections, in the clear and over TLS, against docker-registry and nginx."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tools.bench.clients import curl
from tools.bench.model import Bench, Row, in_turns
from tools.bench.rivals import BLOB_BYTES, big_blob, big_world, check_blob, mirror_of, nginx, ours, theirs

from testbed.authority import Authority
from testbed.mirror import RunningMirror
from testbed.registry import real_registry

_TIMES: Final = {1: 4, 8: 1}
"""Downloads in a row of each connection: one alone is over in a tenth of a second."""
_REGISTRY_SHARE: Final = 1.0
_NGINX_SHARE: Final = 0.9
_TLS_SHARE: Final = 0.8


def measure(bench: Bench) -> Iterator[Row]:
    """Yield the rows of warm blobs."""
    folder = bench.base / "blobs"
    authority = Authority(folder / "tls")
    credential = authority.issue("bench")
    with ExitStack() as stack:
        bench.say("blobs: seeding the upstream")
        world = stack.enter_context(big_world(folder / "world"))
        mirror = stack.enter_context(mirror_of(folder / "ours", world.direct_url))
        secure = stack.enter_context(mirror_of(folder / "secure", world.direct_url, authority=authority))
        rival = stack.enter_context(real_registry(folder / "rival", mirror_of=world.direct_url))
        for url, ca_file in (
            (ours(mirror.base_url), None),
            (ours(secure.base_url), authority.ca_file),
            (theirs(rival.direct_url), None),
        ):
            check_blob(url, ca_file=ca_file)
        static = stack.enter_context(nginx(folder / "nginx", mirror.data / "content"))
        static_tls = stack.enter_context(nginx(folder / "nginx-tls", secure.data / "content", tls=credential))
        clear = {
            "ours": f"{ours(mirror.base_url)}/blobs/{big_blob()}",
            "docker-registry": f"{theirs(rival.direct_url)}/blobs/{big_blob()}",
            "nginx": _file_url(static, mirror),
        }
        tls = {"ours": f"{ours(secure.base_url)}/blobs/{big_blob()}", "nginx": _file_url(static_tls, secure)}
        for connections in (1, 8):
            yield from _rows(bench, connections, clear)
            yield from _rows(bench, connections, tls, ca_file=authority.ca_file)


def _file_url(static: str, mirror: RunningMirror) -> str:
    """Return where nginx serves the very file that the mirror serves."""
    hexadecimal = big_blob().partition(":")[2]
    path = f"sha256/{hexadecimal[:2]}/{hexadecimal}"
    if not (mirror.data / "content" / path).is_file():
        raise FileNotFoundError(path)
    return f"{static}/{path}"


def _rows(bench: Bench, connections: int, urls: dict[str, str], *, ca_file: Path | None = None) -> Iterator[Row]:
    def read(url: str) -> Callable[[], float]:
        return lambda: curl(url, BLOB_BYTES, connections=connections, times=_TIMES[connections], ca_file=ca_file)

    way = " over TLS" if ca_file else ""
    title = f"warm 256 MiB blob{way}, {connections} connection{'s' * (connections > 1)}"
    found = in_turns(bench, title, {name: read(url) for name, url in urls.items()})
    for rival in list(urls)[1:]:
        bar = _REGISTRY_SHARE if rival == "docker-registry" else _TLS_SHARE if ca_file else _NGINX_SHARE
        yield Row(
            name=f"{title} / {rival}{way}",
            value=found.ratio("ours", rival),
            bar=bar,
            at_least=True,
            figures=f"{found.text('ours', scale=1e-9)} against {found.text(rival, scale=1e-9)} GB/s",
        )
