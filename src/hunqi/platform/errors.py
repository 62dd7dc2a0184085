"""What can go wrong with the platform's own processes, by who can do something about it."""

from __future__ import annotations

from typing import ClassVar

from hunqi.errors import DependencyError, UserError


class SettingsError(UserError):
    """A setting of the platform is wrong, or its file cannot be read or written."""

    code: ClassVar[str] = "platform.settings"


class AlreadyRunningError(UserError):
    """A supervisor runs on this data directory; ``pid`` is its process."""

    code: ClassVar[str] = "platform.already-running"

    def __init__(self, message: str, *, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class NotRunningError(UserError):
    """No supervisor runs on this data directory."""

    code: ClassVar[str] = "platform.not-running"


class PortTakenError(UserError):
    """Somebody else listens on ports that Hunqi needs; the message names each, by whom, and what to do."""

    code: ClassVar[str] = "platform.port-taken"


class DockerMissingError(UserError):
    """There is no Docker here, or it does not run, and it could not be put right."""

    code: ClassVar[str] = "platform.docker"


class NotReadyError(DependencyError):
    """The platform was started but did not become ready in time; the message ends with what its parts logged."""

    code: ClassVar[str] = "platform.not-ready"


class StopError(DependencyError):
    """The platform did not stop in time."""

    code: ClassVar[str] = "platform.stop"


class RecoverError(UserError):
    """Control cannot be rebuilt here; the message says what is missing."""

    code: ClassVar[str] = "platform.recover"


class FurtherControlError(UserError):
    """Control cannot run on this machine beside that of another; the message says what it takes."""

    code: ClassVar[str] = "platform.further-control"
