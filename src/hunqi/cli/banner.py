"""The one screen that ``serve`` begins with: where it listens, what it mirrors, what to type next."""

from __future__ import annotations

import os
import shutil
import sys
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
        named = len(settings.peers.urls)
        table.add_row("peers", f"listens on {settings.peers.listen}; {named} address{'' if named == 1 else 'es'} given")
    if settings.access_log:
        table.add_row("access log", _short(settings.access_log))
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


def _next_steps(settings: MirrorSettings, address: Address) -> Group:
    here, program = reachable(address), _program()
    data = "" if settings.data_dir == Path("/var/lib/hunqi/mirror") else f" --data {_short(settings.data_dir)}"
    examples = {
        "docker.io": f"docker pull {here}/docker.io/library/nginx",
        "ghcr.io": f"docker pull {here}/ghcr.io/OWNER/IMAGE",
    }
    first = settings.upstreams[0].name if settings.upstreams else "docker.io"
    pull = examples.get(settings.default_upstream) or f"docker pull {here}/{first}/REPOSITORY"
    table = _grid()
    table.add_row("one pull", Text(pull, style="bold"))
    table.add_row("every pull", Text(f"{program} mirror setup docker{data}", style="bold"))
    table.add_row("figures", Text(f"{program} mirror stat{data}", style="bold"))
    table.add_row("stop", "Ctrl-C, here")
    return Group(Text("Type next, in another terminal:", style="dim"), table)


def _program() -> str:
    """Return what to type for this program: its name where the shell finds it, else its path."""
    beside = Path(sys.executable).with_name("hunqi")
    return "hunqi" if shutil.which("hunqi") or not beside.exists() else _short(beside)


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=10)
    return table


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
