"""What can go wrong on the client's side of the interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hunqi.errors import DependencyError, UserError


class RefusedError(UserError):
    """The interface refused; ``problem`` is its answer, with the stable ``problem_code`` and often a ``remedy``."""

    code: ClassVar[str] = "client.refused"

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or f"the interface answered {status}"))
        self.status = status
        self.problem = problem

    @property
    def problem_code(self) -> str:
        """The interface's code, such as ``app.not-found``."""
        return str(self.problem.get("code", ""))

    @property
    def remedy(self) -> str | None:
        """What to do, if the interface says so."""
        found = self.problem.get("remedy")
        return None if found is None else str(found)


class UnavailableError(DependencyError):
    """The interface answers that it cannot just now (5xx); ``problem`` is its answer."""

    code: ClassVar[str] = "client.unavailable"

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or f"the interface answered {status}"))
        self.status = status
        self.problem = problem

    @property
    def problem_code(self) -> str:
        """The interface's code, such as ``engine.unreachable``."""
        return str(self.problem.get("code", ""))

    @property
    def remedy(self) -> str | None:
        """What to do, if the interface says so."""
        found = self.problem.get("remedy")
        return None if found is None else str(found)


class UnreachableError(DependencyError):
    """No address of the interface answers, or the connection broke in the middle."""

    code: ClassVar[str] = "client.unreachable"


class ProjectFilesError(UserError):
    """Files of the project cannot be sent: outside of its directory, unreadable or too large."""

    code: ClassVar[str] = "client.project-files"
