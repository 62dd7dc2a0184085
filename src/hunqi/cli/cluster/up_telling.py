"""What ``hunqi up`` says at its end: where everything is, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hunqi.cli.cluster.options import data_dir
from hunqi.cli.cluster.starting import program_name
from hunqi.cli.show import out, print_json
from hunqi.platform.settings import PlatformSettings
from hunqi.platform.status import PlatformStatus

if TYPE_CHECKING:
    from hunqi.platform.up import Prepared


def tell_member(chosen: PlatformSettings, *, as_json: bool) -> None:
    """Say what runs on a machine that founds nothing."""
    if as_json:
        print_json({**_facts(chosen), "started": True})
        return
    where = "" if chosen.has_control else "; control is on other machines"
    out().print(Text(f"Hunqi runs here{where}.", style="bold green"))
    _print_addresses(out(), chosen)


def print_setup_token(token: str) -> None:
    """Print the setup token, and what it is for."""
    out().print(Text.assemble("The setup token, shown this once: ", (token, "bold")))
    out().print(f"It makes the first user: {program_name()} login --setup")


def tell_started(prepared: Prepared, *, as_json: bool) -> None:
    """Say where everything is, and what to do next."""
    chosen, token = prepared.settings, prepared.setup_token
    if as_json:
        print_json({**_facts(chosen), "cluster": prepared.membership.cluster, "setup_token": token, "started": True})
        return
    console = out()
    console.print(Text("Hunqi runs.", style="bold green"))
    _print_addresses(console, chosen)
    if token is not None:
        console.print()
        print_setup_token(token)
    program = program_name()
    first = f"{program} login --setup, then " if token is not None else ""
    stop = f"{program} down" if chosen.data_dir == data_dir(None) else f"{program} down --data {chosen.data_dir}"
    console.print(Text(f"\nNext: {first}{program} app deploy -f compose.yaml · stop: {stop}"))


def tell_running(chosen: PlatformSettings, status: PlatformStatus, *, as_json: bool) -> None:
    """Say that there was nothing to do."""
    if as_json:
        print_json({**_facts(chosen), "started": False, "pid": status.pid})
        return
    console = out()
    console.print(Text(f"Hunqi runs already (process {status.pid}); nothing was done.", style="bold"))
    _print_addresses(console, chosen)


def _facts(chosen: PlatformSettings) -> dict[str, object]:
    return {
        "data": str(chosen.data_dir),
        "control": chosen.control_url if chosen.has_control else None,
        "mirror": str(chosen.mirror),
        "agent": str(chosen.agent),
        "http_port": chosen.http_port,
        "https_port": chosen.https_port,
    }


def _print_addresses(console: Console, chosen: PlatformSettings) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    if chosen.has_control:
        table.add_row("API", chosen.control_url)
    table.add_row("apps", f"http://HOST:{chosen.http_port} and https://HOST:{chosen.https_port}")
    table.add_row("images", f"{chosen.mirror} (docker pull {chosen.mirror}/docker.io/library/nginx)")
    table.add_row("data", str(chosen.data_dir))
    console.print(table)
