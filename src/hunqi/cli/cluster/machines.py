"""``hunqi node``, ``cert`` and ``ca``: the machines, and the gateways' certificates."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from hunqi.cli.cluster import asking
from hunqi.cli.cluster.calls import Api, call_api, path_of
from hunqi.cli.cluster.given import DetachOption, ReasonOption, YesOption
from hunqi.cli.cluster.moments import ago
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_facts, print_json, print_rows
from hunqi.kit.units import show_size

node_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="The machines of the cluster.")
cert_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Certificates that the gateways show.")
ca_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="The local authority, for names inside.")
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Name or id.")]
_PEM_BYTES: Final = 200_000
_LOOK_S: Final = 1.0


@node_app.command("ls")
def node_ls(*, as_json: JsonOption = False) -> None:
    """List the machines: roles, state, room, what runs there.

    [bold]Examples[/bold]

      [cyan]hunqi node ls[/cyan]
    """
    found = call_api(lambda api: api.items(path_of("nodes")))
    if as_json:
        print_json({"nodes": found})
        return
    rows = [
        {
            "node": each["name"],
            "role": f"{each['role']}{' (leader)' if each['leader'] else ''}",
            "state": each["state"] if each["availability"] == "active" else f"{each['state']}, {each['availability']}",
            "agent": each["agent"],
            "cpus": f"{each['reserved_cpus']:g}/{each['cpus']:g}",
            "memory": f"{show_size(each['reserved_memory_bytes'])}/{show_size(each['memory_bytes'])}",
            "tasks": sum(each["tasks"].values()),
            "": each["sentence"],
        }
        for each in found
    ]
    print_rows(rows)


@node_app.command("show")
def node_show(node: NodeArgument, *, as_json: JsonOption = False) -> None:
    """Show a machine.

    [bold]Examples[/bold]

      [cyan]hunqi node show node2[/cyan]
    """
    found = call_api(lambda api: api.get(path_of("nodes", node)))
    if as_json:
        print_json(found)
        return
    print_facts(
        {
            **{key: found[key] for key in ("name", "id", "role", "state", "availability", "intent", "sentence")},
            **{key: found[key] for key in ("address", "agent", "gateway", "cpus", "reserved_cpus")},
            **{key: found[key] for key in ("memory_bytes", "reserved_memory_bytes", "engine_version", "platform")},
            "labels": [f"{key}={value}" for key, value in found["labels"].items()] or None,
            "tasks": [f"{app}: {count}" for app, count in found["tasks"].items()] or None,
        }
    )


@node_app.command("token")
def node_token(
    *,
    manager: Annotated[bool, typer.Option("--manager", help="The machine becomes a manager. Have 1, 3 or 5.")] = False,
    minutes: Annotated[int, typer.Option("--minutes", metavar="N", help="Until it expires.")] = 60,
    as_json: JsonOption = False,
) -> None:
    """Make a token by which one machine joins, once.

    [bold]Examples[/bold]

      [cyan]hunqi node token[/cyan]
          Then, on the other machine: hunqi join
    """
    body = {"role": "manager" if manager else "worker", "minutes": minutes}
    found = call_api(lambda api: api.post(path_of("join-tokens"), body))
    if as_json:
        print_json(found)
        return
    out().print(Text.assemble("The token, good once, shown this once: ", (found["text"], "bold")))
    out().print("On the other machine, as root: hunqi join, and paste it")


@node_app.command("drain")
def node_drain(
    node: NodeArgument, *, reason: ReasonOption = "", detach: DetachOption = False, as_json: JsonOption = False
) -> None:
    """Empty a machine without losing a request: first surge elsewhere, then drain, then stop.

    [bold]Examples[/bold]

      [cyan]hunqi node drain node2 --reason "new disk"[/cyan]
    """

    async def work(api: Api) -> Any:
        found = await api.post(path_of("nodes", node, "drain"), {"reason": reason})
        return found if detach else await _until_empty(api, node)

    found = call_api(work)
    if as_json:
        print_json(found)
    else:
        out().print(Text(f"{found['name']}: {found['sentence'] or ('is being emptied' if detach else 'is empty')}"))


@node_app.command("activate")
def node_activate(node: NodeArgument, *, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Let tasks be placed on a machine again.

    [bold]Examples[/bold]

      [cyan]hunqi node activate node2[/cyan]
    """
    found = call_api(lambda api: api.post(path_of("nodes", node, "activate"), {"reason": reason}))
    if as_json:
        print_json(found)
    else:
        out().print(Text(f"{found['name']} takes tasks again"))


@node_app.command("set")
def node_set(
    node: NodeArgument,
    *,
    role: Annotated[str | None, typer.Option("--role", metavar="ROLE", help="manager or worker.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="NAME= removes it. Repeatable.")
    ] = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Change a machine's role or labels.

    [bold]Examples[/bold]

      [cyan]hunqi node set node2 --role manager[/cyan]
      [cyan]hunqi node set node2 --label disk=ssd[/cyan]
    """
    labels: dict[str, str | None] = {}
    for text in label or []:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise asking.InputError(f"--label: {text!r} is not NAME=VALUE")
        labels[name] = value or None
    body: dict[str, Any] = {"labels": labels, "reason": reason, **({"role": role} if role else {})}
    found = call_api(lambda api: api.patch(path_of("nodes", node), body))
    if as_json:
        print_json(found)
    else:
        out().print(Text(f"{found['name']} is changed"))


@node_app.command("rm")
def node_rm(
    node: NodeArgument,
    *,
    force: Annotated[bool, typer.Option("--force", help="It is down and never comes back.")] = False,
    yes: YesOption = False,
) -> None:
    """Remove a machine that is drained or down from the cluster.

    [bold]Examples[/bold]

      [cyan]hunqi node rm node2[/cyan]
      [cyan]hunqi node rm node2 --force --yes[/cyan]
    """
    asking.confirm(f"Remove {node} from the cluster?", yes=yes)
    call_api(lambda api: api.delete(path_of("nodes", node), force=force))
    out().print(Text(f"{node} is removed"))


@cert_app.command("add")
def cert_add(
    chain: Annotated[str, typer.Argument(metavar="CHAIN", help="A file, PEM: the certificate, then its issuers.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="A file, PEM.")],
    *,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Have the gateways show a certificate of yours.

    [bold]Examples[/bold]

      [cyan]hunqi cert add fullchain.pem privkey.pem[/cyan]
    """
    body = {
        "chain_pem": asking.content(chain, limit_bytes=_PEM_BYTES).decode(errors="replace"),
        "key_pem": asking.content(key, limit_bytes=_PEM_BYTES).decode(errors="replace"),
        "reason": reason,
    }
    found = call_api(lambda api: api.post(path_of("certificates"), body))
    if as_json:
        print_json(found)
    else:
        out().print(Text(f"{', '.join(found['hosts'])}: in use, expires {ago(found['expires_at'])} ({found['id']})"))


@cert_app.command("ls")
def cert_ls(*, as_json: JsonOption = False) -> None:
    """List the certificates: given, by ACME, and by the local authority.

    [bold]Examples[/bold]

      [cyan]hunqi cert ls[/cyan]
    """
    found = call_api(lambda api: api.items(path_of("certificates")))
    if as_json:
        print_json({"certificates": found})
        return
    rows = [
        {
            "hosts": ", ".join(each["hosts"]),
            "from": each["source"],
            "expires": ago(each["expires_at"]),
            "id": each["id"],
            "": each["problem"] or "",
        }
        for each in found
    ]
    print_rows(rows, empty="none yet")


@cert_app.command("rm")
def cert_rm(certificate: Annotated[str, typer.Argument(metavar="ID", help="Of hunqi cert ls.")]) -> None:
    """Forget a certificate that was given.

    [bold]Examples[/bold]

      [cyan]hunqi cert rm c8d1[/cyan]
    """
    call_api(lambda api: api.delete(path_of("certificates", certificate)))
    out().print(Text(f"{certificate} is forgotten"))


@ca_app.command("show")
def ca_show() -> None:
    """Print the local authority's certificate, for browsers and machines to trust.

    [bold]Examples[/bold]

      [cyan]hunqi ca show > /usr/local/share/ca-certificates/hunqi.crt && update-ca-certificates[/cyan]
    """
    sys.stdout.write(call_api(lambda api: api.get(path_of("ca")))["certificate_pem"])


@ca_app.callback()
def _ca() -> None:
    """Group."""


async def _until_empty(api: Api, node: str) -> Any:
    console = Console(stderr=True, highlight=False)
    with console.status(f"{node}: …") as shown:
        while True:
            now = await api.get(path_of("nodes", node))
            if now["intent"] != "drain" or (now["availability"] == "drain" and not now["tasks"]):
                return now
            shown.update(Text(f"{node}: {now['sentence'] or 'is being emptied'}"))
            await asyncio.sleep(_LOOK_S)
