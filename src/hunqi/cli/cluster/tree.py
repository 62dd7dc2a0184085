"""Where each of the cluster's commands hangs in the tree of ``hunqi``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import typer

from hunqi.cli.cluster import (
    auth,
    autoscaling,
    copying,
    deploying,
    entering,
    hooks,
    keeping,
    lifecycle,
    logs,
    look,
    machines,
    metrics,
    operating,
    people,
    requests,
    rolling,
    service,
    up,
)

_MACHINE: Final = "This machine"
_APPS: Final = "Apps"
_CLUSTER: Final = "The cluster"
_YOU: Final = "You"


def add_cluster(app: typer.Typer) -> None:
    """Add the cluster's commands to the program."""
    app.command("up", help=up.HELP, rich_help_panel=_MACHINE)(up.up)
    for command in (up.down, look.status, look.doctor):
        app.command(rich_help_panel=_MACHINE)(command)
    for command in (lifecycle.join, lifecycle.upgrade, lifecycle.recover):
        app.command(rich_help_panel=_MACHINE)(command)
    app.add_typer(service.app, name="service", rich_help_panel=_MACHINE)
    app.add_typer(_app_commands(), name="app", rich_help_panel=_APPS)
    for name, part in (
        ("rollout", rolling.rollout_app),
        ("secret", keeping.secret_app),
        ("env", keeping.env_app),
        ("route", keeping.route_app),
        ("hook", hooks.hook_app),
    ):
        app.add_typer(part, name=name, rich_help_panel=_APPS)
    app.add_typer(metrics.metrics_app, name="metrics", rich_help_panel=_APPS)
    for name, part in (("node", machines.node_app), ("cert", machines.cert_app), ("ca", machines.ca_app)):
        app.add_typer(part, name=name, rich_help_panel=_CLUSTER)
    for name, part in (("user", people.user_app), ("team", people.team_app), ("token", people.token_app)):
        app.add_typer(part, name=name, rich_help_panel=_CLUSTER)
    app.command(rich_help_panel=_CLUSTER)(lifecycle.backup)
    for command in (auth.login, auth.logout, auth.whoami):
        app.command(rich_help_panel=_YOU)(command)
    app.add_typer(auth.context_app, name="context", rich_help_panel=_YOU)
    app.add_typer(_part("control", up.serve_control), name="control", hidden=True)
    app.add_typer(_part("agent", up.serve_agent), name="agent", hidden=True)


def _app_commands() -> typer.Typer:
    part = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Apps: one Compose file each.")
    for command in (deploying.deploy, deploying.check, operating.ls, operating.show):
        part.command()(command)
    for command in (deploying.history, deploying.diff, deploying.rollback, deploying.cancel):
        part.command(rich_help_panel="Revisions")(command)
    for command in (operating.scale, operating.restart, operating.stop, operating.start, operating.maintenance):
        part.command(rich_help_panel="Changes")(command)
    part.command(rich_help_panel="Changes")(autoscaling.autoscale)
    part.command(rich_help_panel="Changes")(operating.rm)
    for command in (logs.logs, requests.requests, operating.events):
        part.command(rich_help_panel="Looking in")(command)
    part.command("exec", rich_help_panel="Looking in")(entering.execute)
    for command in (entering.run, copying.cp, entering.port_forward):
        part.command(rich_help_panel="Looking in")(command)
    return part


def _part(name: str, serve: Callable[..., None]) -> typer.Typer:
    part = typer.Typer(no_args_is_help=True, help=f"The process {name}, which hunqi up keeps.")
    part.callback()(lambda: None)
    part.command("serve")(serve)
    return part
