"""What can go wrong with a request as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from hunqi.errors import DependencyError, UserError


class RequestInvalidError(UserError):
    """The request is not what the interface's description says; ``problems`` names each place."""

    code: ClassVar[str] = "api.invalid"

    def __init__(self, problems: Sequence[Mapping[str, str]]) -> None:
        self.problems = tuple(problems)
        shown = "; ".join(f"{each['where'].removeprefix('body.')}: {each['message']}" for each in self.problems[:5])
        super().__init__(f"the request cannot be understood: {shown}")


class NoSuchPathError(UserError):
    """There is nothing at this path; /v1/openapi.json names all that there is."""

    code: ClassVar[str] = "api.no-such-path"


class MethodError(UserError):
    """The path is right, but not with this method."""

    code: ClassVar[str] = "api.method"


class BodyTooLargeError(UserError):
    """The body is larger than the interface takes here."""

    code: ClassVar[str] = "api.body-too-large"


class CursorError(UserError):
    """The cursor is none that a list gave out: begin without one."""

    code: ClassVar[str] = "api.cursor"


class IdempotencyError(UserError):
    """The Idempotency-Key was used for another request: take a new one for each wish."""

    code: ClassVar[str] = "api.idempotency-key"


class IdempotencyBusyError(UserError):
    """The first request with this Idempotency-Key has not ended yet: ask again later."""

    code: ClassVar[str] = "api.idempotency-busy"
    retry_after_s: ClassVar[float] = 1.0


class TeamNeededError(UserError):
    """A new app needs a team, and there is more than one that it could be, or none."""

    code: ClassVar[str] = "app.team"


class NotLeaderError(DependencyError):
    """Changes are made where control leads, which is elsewhere; ``leader`` is the URL if it is known."""

    code: ClassVar[str] = "api.not-leader"
    retry_after_s: ClassVar[float] = 2.0

    def __init__(self, leader: str | None, *, machine: str | None = None) -> None:
        if leader:
            where = f"ask {leader}"
        elif machine:
            where = f"ask on the machine {machine}, where control leads and listens on loopback only"
        else:
            where = "nobody leads at this moment: try again in a few seconds"
        super().__init__(f"this control process does not lead: {where}")
        self.leader = leader


class TooManyStreamsError(DependencyError):
    """As many streams are open as this process serves."""

    code: ClassVar[str] = "api.too-many-streams"
    retry_after_s: ClassVar[float] = 5.0
