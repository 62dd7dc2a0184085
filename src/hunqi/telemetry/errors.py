"""What can go wrong when something measured is asked for."""

from __future__ import annotations

from typing import ClassVar

from hunqi.errors import DependencyError, UserError


class NotMeasuredError(DependencyError):
    """The time asked for was not measured: no gateway or agent was heard then, or nothing of it runs."""

    code: ClassVar[str] = "telemetry.not-measured"


class MeasureError(UserError):
    """There is no such measure, or it is not counted in that way."""

    code: ClassVar[str] = "telemetry.measure"


class HistoryError(DependencyError):
    """The history could not be read; what is in memory can."""

    code: ClassVar[str] = "telemetry.history"


class SourceNotFoundError(UserError):
    """There is no metric source of this name."""

    code: ClassVar[str] = "telemetry.source.not-found"


class SourceError(UserError):
    """A metric source cannot be added as it was given."""

    code: ClassVar[str] = "telemetry.source"


class PromQueryError(UserError):
    """The server that answers PromQL takes the query for wrong, or it has not one value as its answer."""

    code: ClassVar[str] = "telemetry.query"


class PromUnavailableError(DependencyError):
    """The server that answers PromQL could not be asked, or failed."""

    code: ClassVar[str] = "telemetry.source-unavailable"
