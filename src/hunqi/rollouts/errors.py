"""What can go wrong with asking something of a rollout, by who can do something about it."""

from __future__ import annotations

from typing import ClassVar

from hunqi.errors import DependencyError, UserError


class RolloutNotFoundError(UserError):
    """The app has no rollout: a deploy of a file with ``x-hunqi.rollout``, or with ``--rollout``, begins one."""

    code: ClassVar[str] = "rollout.not-found"


class RolloutRefusedError(UserError):
    """The rollout cannot do that where it is; the message says what it can."""

    code: ClassVar[str] = "rollout.refused"


class RolloutOvertakenError(DependencyError):
    """The rollout has moved on meanwhile: look again."""

    code: ClassVar[str] = "rollout.overtaken"
    retry_after_s: ClassVar[float] = 1.0
