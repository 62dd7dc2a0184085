"""Write docs/errors.md: every error code of the code, who can act on it, and what it says."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import hunqi
from hunqi.api.problems import status_of
from hunqi.errors import DependencyError, HunqiError, InvariantError, UserError

TARGET = Path(__file__).resolve().parent.parent / "docs" / "errors.md"
_HEAD = """# Errors

Written by `.venv/bin/python tools/error_table.py`; do not edit. Codes are stable: one for each decision inside Hunqi.
Registry clients see the distribution specification's codes instead (`BLOB_UNKNOWN`, `DENIED`, ...). *HTTP* is the
status at the [REST interface](api.md), for codes that can come from there.

| code | who can act | HTTP | means |
|---|---|---|---|
"""
_ROOMS_OF_REST = (
    "api",
    "apps",
    "engine",
    "gateway",
    "hooks",
    "identity",
    "nodes",
    "rollouts",
    "scaling",
    "state",
    "telemetry",
)
_WHO: tuple[tuple[type[HunqiError], str], ...] = (
    (UserError, "the caller"),
    (DependencyError, "nobody: try again"),
    (InvariantError, "Hunqi: a bug"),
)


def render() -> str:
    """Return the whole page."""
    rows: dict[str, list[type[HunqiError]]] = {}
    for error in sorted(_errors(), key=lambda kind: (kind.__module__, kind.__qualname__)):
        rows.setdefault(error.code, []).append(error)
    return _HEAD + "".join(_row(code, rows[code]) for code in sorted(rows))


def _errors() -> set[type[HunqiError]]:
    for module in pkgutil.walk_packages(hunqi.__path__, "hunqi."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {HunqiError, *_below(HunqiError)}


def _below(kind: type[HunqiError]) -> Iterator[type[HunqiError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("hunqi."):  # a program may have errors of its own
            if "code" in vars(child):
                yield child
            yield from _below(child)


def _row(code: str, errors: list[type[HunqiError]]) -> str:
    who = dict.fromkeys(_who(error) for error in errors)
    what = dict.fromkeys(" ".join((error.__doc__ or "").strip().split("\n\n")[0].split()) for error in errors)
    status = dict.fromkeys(_status(error) for error in errors)
    return f"| `{code}` | {' / '.join(who)} | {' / '.join(status)} | {' / '.join(what)} |\n".replace("``", "`")


def _status(error: type[HunqiError]) -> str:
    room = (*error.__module__.split("."), "")[1]
    return str(status_of(error)) if room in _ROOMS_OF_REST else ""


def _who(error: type[HunqiError]) -> str:
    return next((who for kind, who in _WHO if issubclass(error, kind)), "depends on the kind below it")


def main() -> int:
    """Write the page."""
    TARGET.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
