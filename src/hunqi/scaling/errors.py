"""What can go wrong with elastic scaling, by who can do something about it."""

from __future__ import annotations

from typing import ClassVar

from hunqi.errors import UserError


class AutoscaleError(UserError):
    """The service cannot be scaled as asked; ``faults`` has a sentence for each reason."""

    code: ClassVar[str] = "scaling.invalid"

    def __init__(self, service: str, faults: tuple[str, ...]) -> None:
        super().__init__(f"{service} cannot be scaled so: " + "; ".join(faults))
        self.faults = faults


class NotScaledError(UserError):
    """Load does not move the service: neither its file nor a user has said how."""

    code: ClassVar[str] = "scaling.not-found"
