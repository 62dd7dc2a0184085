"""``hunqi app autoscale``, and what ``hunqi app scale --explain`` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final

import typer
from rich.text import Text

from hunqi.cli.cluster.calls import Api, call_api, path_of
from hunqi.cli.cluster.given import AppArgument, ReasonOption
from hunqi.cli.options import JsonOption
from hunqi.cli.show import out, print_facts, print_json, print_rows
from hunqi.errors import UserError

JSON = Mapping[str, Any]
_SHOWN: Final = 12


class AutoscaleArgumentError(UserError):
    """Options of an autoscaling contradict each other."""

    code: ClassVar[str] = "cli.autoscale"


def autoscale(
    app: AppArgument,
    service: Annotated[str, typer.Argument(metavar="SERVICE")],
    *,
    low: Annotated[int | None, typer.Option("--min", metavar="N", help="The fewest tasks; 0 allows zero.")] = None,
    high: Annotated[int | None, typer.Option("--max", metavar="N", help="The most tasks.")] = None,
    cpu: Annotated[
        str | None, typer.Option("--cpu", metavar="70%|0.5", help="Of each task: part of its reservation, or cores.")
    ] = None,
    memory: Annotated[str | None, typer.Option("--memory", metavar="80%|400m", help="Of each task.")] = None,
    rps: Annotated[float | None, typer.Option("--rps", metavar="N", help="Requests a second for each task.")] = None,
    concurrency: Annotated[
        float | None, typer.Option("--concurrency", metavar="N", help="Requests open at a time for each task.")
    ] = None,
    p95: Annotated[
        float | None, typer.Option("--p95", metavar="MS", help="More tasks above this; never fewer by it.")
    ] = None,
    zero: Annotated[bool, typer.Option("--zero", help="No task while there is nothing to do.")] = False,
    predict: Annotated[bool, typer.Option("--predict", help="Ahead of load, where history foretells it.")] = False,
    off: Annotated[bool, typer.Option("--off", help="Load does not move it, whatever the file says.")] = False,
    by_file: Annotated[bool, typer.Option("--file", help="As the file says, again.")] = False,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Have load move the number of a service's tasks, in place of what the file says; without options: show how.

    Queues, schedules and how fast it goes are written in the file: x-hunqi.scale.

    [bold]Examples[/bold]

      [cyan]hunqi app autoscale shop web --min 2 --max 20 --cpu 70% --rps 50[/cyan]
      [cyan]hunqi app autoscale shop admin --min 0 --max 3 --concurrency 10[/cyan]
          Nobody there: no task. The first request waits until one is ready.
      [cyan]hunqi app autoscale shop web --off[/cyan]
    """
    named = {"min": low, "max": high, "cpu": cpu, "memory": memory, "rps": rps, "concurrency": concurrency}
    scale: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    scale |= {} if p95 is None else {"p95_ms": p95}
    scale |= ({"zero": True} if zero else {}) | ({"predict": True} if predict else {})
    if sum((off, by_file, bool(scale))) > 1:
        raise AutoscaleArgumentError("--off and --file stand alone: leave the other options out")
    path = path_of("apps", app, "services", service, "autoscale")

    async def work(api: Api) -> Any:
        if off:
            return await api.put(path, {"off": True, "reason": reason})
        if by_file:
            return await api.delete(path)
        if scale:
            return await api.put(path, {"scale": scale, "reason": reason})
        return await api.get(path)

    found = call_api(work)
    if as_json:
        print_json(found)
    elif off or by_file:
        out().print(Text(f"{app}: {service} is moved {'by load no more' if off else 'as its file says'}"))
    else:
        _show(found)


def explain(app: str, services: Sequence[str], *, as_json: bool) -> None:
    """Show the last decisions with the numbers behind each."""

    async def read(api: Api) -> tuple[list[Any], list[Any]]:
        scaled = await api.items(path_of("apps", app, "scaling"))
        found: list[Any] = []
        for each in scaled:
            if not services or each["service"] in services:
                kept = await api.get(
                    path_of("apps", app, "scaling", "decisions"), service=each["service"], limit=_SHOWN
                )
                found += kept
        return [each for each in scaled if not services or each["service"] in services], found

    scaled, decisions = call_api(read)
    if as_json:
        print_json({"services": scaled, "decisions": decisions})
        return
    if not scaled:
        out().print(Text(f"load moves no service of {app}: hunqi app autoscale {app} SERVICE --max 5 --cpu 70%"))
    for each in scaled:
        _show(each)
        rows = [row for one in decisions if one["service"] == each["service"] for row in _rows(one)]
        print_rows(rows, title=f"\nlast decisions of {each['service']}", empty="none yet")


def _show(found: JSON) -> None:
    spec, last = found["spec"], found["last"]
    facts: dict[str, Any] = {
        "service": f"{found['app']}/{found['service']}",
        "tasks": f"{found['ready']} of {found['current']} ready",
        "bounds": f"{last['low'] if last else spec['min']} to {last['high'] if last else spec['max']}",
        "set": "by a user, in place of the file's" if found["origin"] == "set" else "in the file",
        "now": found["sentence"],
    }
    print_facts(facts)
    if last:
        print_rows([_measure(each) for each in last["proposals"]], title="\nmeasures", empty="none")
        for sentence in last["because"]:
            out().print(Text(f"  · {sentence}"))
        if last["foreseen"]:
            out().print(Text(f"  · foresight: {last['foreseen']['sentence']}"))
    for sentence in found["foretold"]:
        out().print(Text(f"  · history, {sentence}"))


def _measure(proposal: JSON) -> dict[str, Any]:
    average = proposal["average"]
    return {
        "measure": proposal["measure"],
        "is": "-" if average is None else f"{average:.4g}",
        "target": f"{proposal['target']:.4g}",
        "of": proposal["counted"],
        "missing": proposal["missing"],
        "not ready": proposal["unready"],
        "asks for": "-" if proposal["replicas"] is None else proposal["replicas"],
        "": proposal["error"] or proposal["sentence"],
    }


def _rows(decision: JSON) -> list[dict[str, Any]]:
    at = datetime.fromtimestamp(decision["at"], UTC).astimezone()
    measures = ", ".join(
        f"{each['measure']} {each['average']:.3g}/{each['target']:.3g}"
        for each in decision["proposals"]
        if each["average"] is not None
    )
    changes = decision["wanted"] != decision["current"]
    return [
        {
            "at": at.strftime("%H:%M:%S"),
            "tasks": f"{decision['current']} → {decision['wanted']}" if changes else decision["current"],
            "asked": "-" if decision["asked"] is None else decision["asked"],
            "stable": "-" if decision["stable"] is None else decision["stable"],
            "allowed": "-" if decision["allowed"] is None else decision["allowed"],
            "measures": measures,
            "": "; ".join([decision["sentence"], *decision["because"]]),
        }
    ]
