"""What the interface says in its files is what it is: the description, the client's types, statuses of all codes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from hunqi.api.errors import NotLeaderError, RequestInvalidError
from hunqi.api.problems import STATUS, problem_of, status_of
from hunqi.errors import DependencyError, HunqiError, InvariantError, UserError
from hunqi.identity.attempts import ADDRESS_LIMIT, NAME_LIMIT, PAIR_LIMIT, WINDOW_S, Attempts
from hunqi.identity.errors import TooManyAttemptsError

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_description_and_the_clients_types_are_those_of_the_code() -> None:
    writer = tool("openapi")
    description = writer.describe()
    said = "run: .venv/bin/python tools/openapi.py"
    assert writer.DESCRIPTION.read_text() == writer.render(description), said
    assert writer.TYPES.read_text() == writer.render_types(description), said


def test_every_code_has_a_status_and_no_status_is_of_a_code_that_is_gone() -> None:
    errors = tool("error_table")._errors()
    for error in errors:
        assert 400 <= status_of(error) <= 599
        if issubclass(error, UserError) and not error.code.startswith("state."):
            assert status_of(error) < 500, error
        if issubclass(error, (DependencyError, InvariantError)):
            assert status_of(error) >= 500 or status_of(error) == 409, error  # a conflict is for the caller to see
    assert set(STATUS) <= {error.code for error in errors}


@pytest.mark.parametrize(
    "error", [RequestInvalidError([{"where": "body.x", "message": "is wrong"}]), NotLeaderError("u")]
)
def test_a_problem_has_what_a_client_acts_on(error: HunqiError) -> None:
    body = problem_of(error)
    assert body["code"] == error.code
    assert body["status"] == status_of(error)
    assert body.get("problems") or body.get("leader")


def test_faults_of_ours_say_nothing_of_the_inside() -> None:
    assert "hidden-value" not in str(problem_of(InvariantError("hidden-value")))


def test_failures_are_forgotten_in_time_and_by_success() -> None:
    now = 0.0
    attempts = Attempts(clock=lambda: now)
    for _ in range(PAIR_LIMIT):
        attempts.check("ann", "1")
        attempts.failed("ann", "1")
    with pytest.raises(TooManyAttemptsError) as raised:
        attempts.check("ann", "1")
    assert raised.value.retry_after_s == WINDOW_S
    attempts.check("ann", "2")
    attempts.check("bob", "1")
    now = WINDOW_S + 1
    attempts.check("ann", "1")
    for number in range(ADDRESS_LIMIT):
        attempts.failed(f"user{number}", "3")
    with pytest.raises(TooManyAttemptsError):
        attempts.check("eve", "3")
    for number in range(NAME_LIMIT):
        attempts.failed("carol", str(number))
    with pytest.raises(TooManyAttemptsError):
        attempts.check("carol", "new")
