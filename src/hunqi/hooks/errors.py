"""What can go wrong with a webhook."""

from __future__ import annotations

from typing import ClassVar

from hunqi.errors import UserError


class HookNotFoundError(UserError):
    """There is no such webhook."""

    code: ClassVar[str] = "hook.not-found"


class HookRefusedError(UserError):
    """The webhook cannot be as it is asked for; the message says what to change."""

    code: ClassVar[str] = "hook.refused"
