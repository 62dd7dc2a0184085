"""The states of a rollout and every way between them, as a table; the diagram in docs/rollouts.md is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Final

from hunqi.errors import InvariantError


class State(StrEnum):
    """Where a rollout is; the last four are ends."""

    STARTING = "starting"
    """The new revision's first tasks come up; nobody is sent to them."""
    STEPPING = "stepping"
    """A step is being done."""
    PAUSED = "paused"
    """It stands where it is, by a step, by a user, or because nothing can be said; measures are looked at."""
    APPROVING = "approving"
    """A step asks for somebody's consent."""
    PROMOTING = "promoting"
    """Decided: the new revision takes over."""
    ABORTING = "aborting"
    """Decided: the old revision serves alone again."""
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"
    FAILED = "failed"
    """The new revision never came up."""
    SUPERSEDED = "superseded"
    """A newer deploy took the place of the new revision."""

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left to be done."""
        return self in ENDS

    @property
    def undecided(self) -> bool:
        """Whether it may still go either way."""
        return self in UNDECIDED


class Happening(StrEnum):
    """What moves a rollout."""

    READY = "its first tasks are ready"
    STEPPED = "the step is done"
    HALTED = "a step pauses"
    DOUBTED = "nothing can be said"
    ASKED = "a step asks for consent"
    CLEARED = "something can be said again"
    COMPLETED = "the last step is done"
    CONDEMNED = "a measure, a run or a deadline fails"
    STOPPED = "hunqi rollout pause"
    RESUMED = "hunqi rollout resume"
    SKIPPED = "hunqi rollout promote"
    APPROVED = "hunqi rollout approve"
    HURRIED = "hunqi rollout promote --full"
    FORCED = "hunqi rollout promote --full --force"
    REFUSED = "hunqi rollout abort"
    WITHDRAWN = "every gateway has left it"
    DEPLOYED = "its deploy has succeeded"
    FELL = "its deploy has failed"
    CANCELLED = "its deploy was cancelled"
    REPLACED = "a newer deploy"


class StateError(InvariantError):
    """A rollout was to move in a way that its table does not have."""

    code: ClassVar[str] = "rollout.state"


ENDS: Final = frozenset({State.SUCCEEDED, State.ABORTED, State.FAILED, State.SUPERSEDED})
UNDECIDED: Final = frozenset({State.STARTING, State.STEPPING, State.PAUSED, State.APPROVING})

_S, _H = State, Happening
TABLE: Final[Mapping[State, Mapping[Happening, State]]] = MappingProxyType(
    {
        _S.STARTING: {
            _H.READY: _S.STEPPING,
            _H.HURRIED: _S.STARTING,
            _H.FORCED: _S.PROMOTING,
            _H.REFUSED: _S.ABORTING,
            _H.FELL: _S.FAILED,
            _H.DEPLOYED: _S.SUCCEEDED,
            _H.CANCELLED: _S.ABORTED,
            _H.REPLACED: _S.SUPERSEDED,
        },
        _S.STEPPING: {
            _H.STEPPED: _S.STEPPING,
            _H.HALTED: _S.PAUSED,
            _H.DOUBTED: _S.PAUSED,
            _H.STOPPED: _S.PAUSED,
            _H.ASKED: _S.APPROVING,
            _H.COMPLETED: _S.PROMOTING,
            _H.SKIPPED: _S.STEPPING,
            _H.HURRIED: _S.STEPPING,
            _H.FORCED: _S.PROMOTING,
            _H.CONDEMNED: _S.ABORTING,
            _H.REFUSED: _S.ABORTING,
            _H.FELL: _S.ABORTED,
            _H.DEPLOYED: _S.SUCCEEDED,
            _H.CANCELLED: _S.ABORTED,
            _H.REPLACED: _S.SUPERSEDED,
        },
        _S.PAUSED: {
            _H.CLEARED: _S.STEPPING,
            _H.RESUMED: _S.STEPPING,
            _H.SKIPPED: _S.STEPPING,
            _H.HURRIED: _S.STEPPING,
            _H.FORCED: _S.PROMOTING,
            _H.CONDEMNED: _S.ABORTING,
            _H.REFUSED: _S.ABORTING,
            _H.FELL: _S.ABORTED,
            _H.DEPLOYED: _S.SUCCEEDED,
            _H.CANCELLED: _S.ABORTED,
            _H.REPLACED: _S.SUPERSEDED,
        },
        _S.APPROVING: {
            _H.APPROVED: _S.STEPPING,
            _H.SKIPPED: _S.STEPPING,
            _H.HURRIED: _S.STEPPING,
            _H.FORCED: _S.PROMOTING,
            _H.CONDEMNED: _S.ABORTING,
            _H.REFUSED: _S.ABORTING,
            _H.FELL: _S.ABORTED,
            _H.DEPLOYED: _S.SUCCEEDED,
            _H.CANCELLED: _S.ABORTED,
            _H.REPLACED: _S.SUPERSEDED,
        },
        _S.PROMOTING: {
            _H.DEPLOYED: _S.SUCCEEDED,
            _H.FELL: _S.ABORTED,
            _H.CANCELLED: _S.ABORTED,
            _H.REPLACED: _S.SUPERSEDED,
        },
        _S.ABORTING: {
            _H.WITHDRAWN: _S.ABORTED,
            _H.FELL: _S.ABORTED,
            _H.DEPLOYED: _S.SUCCEEDED,
            _H.CANCELLED: _S.ABORTED,
            _H.REPLACED: _S.SUPERSEDED,
        },
        **{end: {} for end in (_S.SUCCEEDED, _S.ABORTED, _S.FAILED, _S.SUPERSEDED)},
    }
)
"""State → what may happen there → the state after it."""


def after(state: State, happening: Happening) -> State:
    """Return the state that follows. Raises ``StateError`` where nothing of the kind may happen."""
    found = TABLE[state].get(happening)
    if found is None:
        raise StateError(f"a rollout that is {state} cannot move because {happening}")
    return found
