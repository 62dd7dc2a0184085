"""Write docs/commands.md: every command with the first sentence of its help."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import typer

from hunqi.cli.main import build_app

TARGET = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
_HEAD = """# Commands

Written by `.venv/bin/python tools/command_table.py`; do not edit. Each has `--help` with examples; what prints tables
prints JSON with `--json`.

Exit codes: 0 well, 1 failed (of `hunqi status` and `hunqi doctor`: something is wrong), 2 used wrongly, 130
interrupted. `hunqi app exec` and `hunqi app run` end with the code of what they ran.

Passwords and tokens are typed, piped in, or in the environment, never arguments: `HUNQI_PASSWORD`,
`HUNQI_SETUP_TOKEN`, `HUNQI_TOKEN` with `HUNQI_URL`. (A join token may be one: it is good once.) `HUNQI_DATA` stands for
`--data`. Questions are asked on a terminal only; elsewhere `--yes` answers.
"""
_SECTIONS = {
    "This machine": ("up", "down", "status", "doctor", "join", "upgrade", "recover", "service"),
    "You": ("login", "logout", "whoami", "context"),
    "Apps": ("app", "secret", "env", "route", "hook", "metrics", "rollout"),
    "The cluster": ("node", "cert", "ca", "user", "team", "token", "backup"),
    "The accelerator": ("mirror",),
}
_MIRROR = """\
Those that speak to a running mirror find it by `--data DIR` or `--config FILE`; the platform's is in `DIR/mirror`."""


def render() -> str:
    """Return the whole page."""
    rows = dict(_leaves(typer.main.get_command(build_app()), ("hunqi",)))
    lines = [_HEAD]
    for title, groups in _SECTIONS.items():
        lines += [f"## {title}", ""]
        lines += [_MIRROR, ""] if title == "The accelerator" else []
        lines += ["| command | does |", "|---|---|"]
        lines += [f"| `{name}` | {_first(command)} |" for name, command in rows.items() if name.split()[1] in groups]
        lines.append("")
    return "\n".join(lines)


def _leaves(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    children: dict[str, click.Command] | None = getattr(command, "commands", None)
    if children is None:
        yield " ".join(words), command
        return
    for name, child in children.items():
        if not child.hidden:
            yield from _leaves(child, (*words, name))


def _first(command: click.Command) -> str:
    """Return the first paragraph of the help, in one line."""
    text = (command.help or "").partition("[bold]")[0].strip()
    return " ".join(text.split("\n\n", 1)[0].split())


def main() -> int:
    """Write the page."""
    TARGET.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
