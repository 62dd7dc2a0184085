"""The arguments and options that many commands on the API have."""

from __future__ import annotations

from typing import Annotated

import typer

AppArgument = Annotated[str, typer.Argument(metavar="APP")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; stands in the events.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DetachOption = Annotated[bool, typer.Option("--detach", "-d", help="Do not wait for the end.")]
TaskOption = Annotated[
    str, typer.Option("--task", metavar="ID", help="This task, by the beginning of its id; else any healthy one.")
]
ServicesOption = Annotated[
    list[str] | None, typer.Option("--service", "-s", metavar="SERVICE", help="Only of this service. Repeatable.")
]
