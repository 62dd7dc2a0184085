"""What can go wrong with Docker, by who can do something about it."""

from __future__ import annotations

from typing import ClassVar

from hunqi.errors import DependencyError, UserError


class EngineUnreachableError(DependencyError):
    """Docker's socket does not answer."""

    code: ClassVar[str] = "engine.unreachable"


class EngineFailedError(DependencyError):
    """Docker answered with an error of its own (5xx), or with what we cannot read."""

    code: ClassVar[str] = "engine.failed"


class NotManagerError(DependencyError):
    """This node is no manager of a Swarm, or the Swarm has lost its quorum."""

    code: ClassVar[str] = "engine.not-manager"


class EngineRefusedError(UserError):
    """Docker refused what was asked (400, 403)."""

    code: ClassVar[str] = "engine.refused"


class NotFoundError(UserError):
    """There is no such object (404)."""

    code: ClassVar[str] = "engine.not-found"


class ConflictError(DependencyError):
    """The object was changed meanwhile or exists already (409, "update out of sequence"): observe again."""

    code: ClassVar[str] = "engine.conflict"


class InUseError(DependencyError):
    """Something still uses the object, so it cannot be removed yet: wait, then ask again."""

    code: ClassVar[str] = "engine.in-use"


class UnsupportedError(UserError):
    """Docker is too old (or too new) to be spoken to; the message names the versions."""

    code: ClassVar[str] = "engine.unsupported"
