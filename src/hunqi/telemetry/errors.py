"""What can go wrong when something measured is asked for."""

from __future__ import annotations

from typing import ClassVar

from hunqi.errors import DependencyError


class NotMeasuredError(DependencyError):
    """The time asked for was not measured: no gateway or agent was heard then, or nothing of it runs."""

    code: ClassVar[str] = "telemetry.not-measured"
