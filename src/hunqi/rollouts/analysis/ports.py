"""What the analysis asks of other rooms, besides ``hunqi.telemetry.model.Telemetry``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a task answered to a check."""

    status: int
    body: bytes = b""
    """At most the first 64 KiB."""


class Checks(Protocol):
    """Requests of the platform's own to tasks of one revision."""

    async def get(self, app: str, service: str, revision: int, path: str) -> Answer:
        """Return the answer of one task of ``shop_web-r8`` to GET ``path``, redirects not followed, within ten seconds.

        Raises a ``DependencyError`` if no task could be asked or none answered in time.
        """
        ...


class Queries(Protocol):
    """Servers that answer PromQL."""

    async def value(self, source: str, query: str, *, at: float) -> float | None:
        """Return the one value of an instant query at ``source``; None if its result is empty.

        Raises a ``DependencyError`` if it could not be asked, a ``UserError`` if the query is wrong or has several
        values.
        """
        ...


class Endings(Protocol):
    """Tasks that ended."""

    async def ended(self, app: str, service: str, revision: int, *, since: float) -> int:
        """Return how many tasks of ``shop_web-r8`` ended by themselves since: not scaled away, moved or replaced.

        Raises a ``DependencyError`` if that cannot be known.
        """
        ...
