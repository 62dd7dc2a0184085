"""The screen that serve begins with says where, what and what next."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from hunqi.cli.banner import reachable, render_banner
from hunqi.mirror.settings import WELL_KNOWN_UPSTREAMS, AccessSettings, Address, MirrorSettings, Origin


def _screen(settings: MirrorSettings, address: Address) -> str:
    text = io.StringIO()
    Console(file=text, width=80).print(render_banner(settings, address))
    return text.getvalue()


def test_it_names_the_real_port_each_upstream_and_the_next_command() -> None:
    upstreams = tuple(Origin(name=name, url=url) for name, url in WELL_KNOWN_UPSTREAMS.items())
    settings = MirrorSettings(data_dir=Path("/srv/m"), listen=Address("127.0.0.1", 0), upstreams=upstreams)
    screen = _screen(settings, Address("127.0.0.1", 41234))
    for text in (*WELL_KNOWN_UPSTREAMS, *WELL_KNOWN_UPSTREAMS.values(), "/srv/m, up to 50GiB"):
        assert text in screen
    assert "docker pull 127.0.0.1:41234/docker.io/library/nginx" in screen
    assert "hunqi mirror setup docker --data /srv/m" in screen
    assert "open to anyone" not in screen
    assert len(screen.splitlines()) <= 24


def test_it_warns_of_open_pushing() -> None:
    settings = MirrorSettings(data_dir=Path("/m"), access=AccessSettings(allow_anonymous_push=True))
    assert "open to anyone who can connect" in _screen(settings, Address("::1", 5000))


def test_wildcard_addresses_are_typed_as_loopback() -> None:
    assert reachable(Address("0.0.0.0", 5000)) == "127.0.0.1:5000"
    assert reachable(Address("::", 5000)) == "[::1]:5000"
    assert reachable(Address("10.0.0.1", 5000)) == "10.0.0.1:5000"
