"""The table of a rollout's states: it has no dead end, and nothing that cannot be come to."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from hunqi.rollouts.commands import HAPPENINGS, Verb, possible
from hunqi.rollouts.states import ENDS, TABLE, UNDECIDED, Happening, State, StateError, after


def _reachable(first: State) -> set[State]:
    found, waiting = {first}, [first]
    while waiting:
        for state in TABLE[waiting.pop()].values():
            if state not in found:
                found.add(state)
                waiting.append(state)
    return found


def test_the_table_is_total() -> None:
    assert set(TABLE) == set(State)
    assert {happening for row in TABLE.values() for happening in row} == set(Happening)


def test_every_state_can_be_come_to() -> None:
    assert _reachable(State.STARTING) == set(State)


@pytest.mark.parametrize("state", [state for state in State if state not in ENDS])
def test_no_state_is_without_an_exit(state: State) -> None:
    assert {State.ABORTED, State.SUCCEEDED, State.SUPERSEDED} <= _reachable(state) | {state}
    assert set(TABLE[state].values()) - {state}


@pytest.mark.parametrize("state", sorted(ENDS))
def test_nothing_happens_after_an_end(state: State) -> None:
    assert not TABLE[state]
    with pytest.raises(StateError, match="cannot move"):
        after(state, Happening.REPLACED)


@pytest.mark.parametrize("state", sorted(UNDECIDED))
def test_what_is_undecided_can_be_ended_and_forced_by_a_user(state: State) -> None:
    assert {Verb.ABORT, Verb.PROMOTE_FULL, Verb.PROMOTE_FORCE} <= set(possible(state))


@pytest.mark.parametrize("state", [state for state in State if state not in ENDS])
def test_whatever_becomes_of_the_deploy_ends_the_rollout(state: State) -> None:
    for happening in (Happening.FELL, Happening.DEPLOYED, Happening.CANCELLED, Happening.REPLACED):
        assert after(state, happening).ended


def test_the_page_shows_the_table_as_it_is() -> None:
    root = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location("rollout_diagram", root / "tools/rollout_diagram.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    page = (root / "docs/rollouts.md").read_text(encoding="utf-8")
    assert tool.render(page) == page
    assert page.count(" --> ") > 20


def test_users_have_a_word_for_each_of_their_happenings() -> None:
    assert len(set(HAPPENINGS.values())) == len(Verb)
    assert {state: len(possible(state)) for state in ENDS} == dict.fromkeys(ENDS, 0)
