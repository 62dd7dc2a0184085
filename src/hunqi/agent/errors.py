"""What the agent refuses or cannot do."""

from __future__ import annotations

from typing import ClassVar

from hunqi.errors import DependencyError, UserError


class NotAllowedError(UserError):
    """The caller's certificate is of no role that may ask this."""

    code: ClassVar[str] = "agent.not-allowed"


class BadRequestError(UserError):
    """A request that is not of the shape that it should have."""

    code: ClassVar[str] = "agent.bad-request"


class NotOursError(UserError):
    """A container that is not there, or does not carry this cluster's label."""

    code: ClassVar[str] = "agent.not-ours"

    def __init__(self, container: str) -> None:
        super().__init__(f"there is no container {container[:80]!r} of this cluster on this node: see `hunqi app show`")


class NoGatewayError(UserError):
    """This node keeps no gateway."""

    code: ClassVar[str] = "agent.no-gateway"

    def __init__(self) -> None:
        super().__init__("this node has no gateway: ask one that has")


class NoMirrorError(DependencyError):
    """The node's mirror does not answer at its operator's socket."""

    code: ClassVar[str] = "agent.no-mirror"


class GoneError(DependencyError):
    """A process that was to be signalled is no longer that of its container."""

    code: ClassVar[str] = "agent.gone"


class NoConnectionError(DependencyError):
    """A port inside a container took no connection."""

    code: ClassVar[str] = "agent.no-connection"


class NoControlError(DependencyError):
    """Control does not answer on this machine, or is not kept here."""

    code: ClassVar[str] = "agent.no-control"
