"""What each process imports: the agent and the supervisor stay light, since their memory is there on every machine."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hunqi.cli.cluster.supervised import SHARED

_HEAVY = {"sqlalchemy", "fastapi", "pydantic", "uvicorn", "rich", "typer", "yaml", "acme"}
_SELDOM = {"acme", "requests", "josepy", "OpenSSL", "alembic", "rich", "typer"}


def _imported(*modules: str) -> set[str]:
    code = f"import importlib, json, sys; [importlib.import_module(m) for m in {modules!r}]; "
    code += "print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "modules",
    [
        ("hunqi.cli.cluster.supervised", *SHARED),
        ("hunqi.app", "hunqi.agent.main", "hunqi.gateway.node", "hunqi.platform.membership"),
    ],
    ids=["supervisor", "agent"],
)
def test_a_process_of_every_machine_imports_no_heavy_library(modules: tuple[str, ...]) -> None:
    assert _imported(*modules) & _HEAVY == set()


def test_control_imports_nothing_that_it_seldom_needs() -> None:
    assert _imported("hunqi.app", "hunqi.control.process", "hunqi.platform.founding") & _SELDOM == set()
