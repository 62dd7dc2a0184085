"""The one screen that ``serve`` begins with: where it listens, what it mirrors, what to type next."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hunqi.kit.units import format_size
from hunqi.mirror.settings import WELL_KNOWN_UPSTREAMS, Address, MirrorSettings, Origin


def render_banner(settings: MirrorSettings, address: Address) -> RenderableType:
    """Return the screen for a mirror that listens on ``address`` (the real one, where port 0 was asked for)."""
    return Panel(
        Group(_facts(settings, address), Text(), _upstreams(settings), Text(), _next_steps(settings, address)),
        title="[bold]Hunqi mirror[/bold]",
        title_align="left",
        border_style="cyan",
        padding=(1, 2),
        expand=False,
    )


def reachable(address: Address) -> str:
    """Return the address as a client on this machine types it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return str(Address(host, address.port))


def _facts(settings: MirrorSettings, address: Address) -> Table:
    table = _grid()
    scheme = "https" if settings.tls else "http"
    table.add_row("listens on", Text(f"{scheme}://{address}", style="bold green"))
    table.add_row("keeps in", f"{_short(settings.data_dir)}, up to {format_size(settings.space.cache_max)}")
    if settings.peers.listen:
        others = len(settings.peers.urls)
        table.add_row("peers", f"listens on {settings.peers.listen}, {others} other{'' if others == 1 else 's'} named")
    if settings.access.allow_anonymous_push:
        table.add_row("pushing", Text("open to anyone who can connect", style="yellow"))
    return table


def _upstreams(settings: MirrorSettings) -> Table:
    table = _grid()
    for number, origin in enumerate(settings.upstreams):
        is_default = origin.name == settings.default_upstream
        name = Text.assemble(origin.name, (" (default)", "dim") if is_default else "")
        table.add_row("mirrors" if number == 0 else "", name, _pointing(origin))
    for number, relay in enumerate(settings.relays):
        table.add_row("by relay" if number == 0 else "", relay.name, relay.url)
    return table


def _pointing(origin: Origin) -> Text:
    usual = WELL_KNOWN_UPSTREAMS.get(origin.name) == origin.url
    return Text(origin.url, style="dim" if usual else "yellow")


def _next_steps(settings: MirrorSettings, address: Address) -> RenderableType:
    here = reachable(address)
    data = "" if settings.data_dir == Path("/var/lib/hunqi/mirror") else f" --data {_short(settings.data_dir)}"
    examples = {
        "docker.io": f"docker pull {here}/docker.io/library/nginx",
        "ghcr.io": f"docker pull {here}/ghcr.io/OWNER/IMAGE",
    }
    first = settings.upstreams[0].name if settings.upstreams else "docker.io"
    pull = examples.get(settings.default_upstream) or f"docker pull {here}/{first}/REPOSITORY"
    first_step = _grid()  # of its own: with a column of notes it would not fit into 80 columns
    first_step.add_row("type next", Text(pull, style="bold"))
    others = _grid()
    others.add_row("", Text(f"hunqi mirror setup docker{data}", style="bold"), Text("brings every pull", style="dim"))
    others.add_row("", Text(f"hunqi mirror stat{data}", style="bold"), Text("what it saved", style="dim"))
    others.add_row("", "Ctrl-C", Text("stop", style="dim"))
    return Group(first_step, others)


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=10)
    return table


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
