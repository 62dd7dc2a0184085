"""What can be asked of apps: the ports that the API calls; the values that go in and come out are those of ``asked``.

Every change names who makes it and why (``Change``). Nothing here waits for the cluster: a change is persisted, the
app's controller is told, and what comes of it is read from the views and the events. All methods raise
``AppNotFoundError`` for an app that is not there, and ``DependencyError`` when the database or Docker is away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from hunqi.apps.asked import (
    AppView,
    Change,
    Checked,
    Deploy,
    Difference,
    EnvView,
    LogLine,
    LogQuery,
    Problem,
    Replacing,
    RevisionSummary,
    RouteView,
    Run,
    RunRequest,
    SecretView,
    ServiceChange,
    ServiceProgress,
    ServiceView,
    Submission,
    TaskView,
)
from hunqi.apps.model import Revision, RouteSpec

__all__ = [
    "AppOperations",
    "AppView",
    "Change",
    "Checked",
    "Deploy",
    "Deploys",
    "Difference",
    "EnvView",
    "Environment",
    "Lifecycle",
    "LogLine",
    "LogQuery",
    "Logs",
    "Problem",
    "Replacing",
    "RevisionSummary",
    "Revisions",
    "RouteView",
    "Routes",
    "Run",
    "RunRequest",
    "Runs",
    "SecretView",
    "Secrets",
    "ServiceChange",
    "ServiceProgress",
    "ServiceView",
    "Submission",
    "TaskView",
    "Views",
]


class Deploys(Protocol):
    """Deploys of Compose projects, and the way back."""

    async def check(self, app: str, submission: Submission) -> Checked:
        """Say what a deploy would do, without doing anything. Raises what ``deploy`` raises for the files."""
        ...

    async def deploy(self, app: str, submission: Submission, change: Change) -> Deploy:
        """Make a revision and start to deploy it, creating the app if need be; supersedes one in flight.

        Raises the compiler's errors, ``ImageError``, ``RoomError``, ``QuotaError``, ``RouteFaultError``,
        ``RouteTakenError`` and ``AppNameError``; nothing is changed then.
        """
        ...

    async def deploys(self, app: str, *, limit: int = 50, before: str | None = None) -> Sequence[Deploy]:
        """Return deploys, newest first; ``before`` is the id of the last one of the page before."""
        ...

    async def find(self, app: str, deploy: str) -> Deploy:
        """Return one. Raises ``DeployNotFoundError``."""
        ...

    async def cancel(self, app: str, deploy: str, change: Change) -> Deploy:
        """Have the old revision go on. Raises ``DeployEndedError`` if it has switched already."""
        ...

    async def rollback(self, app: str, revision: int, change: Change, *, direct: bool = False) -> Deploy:
        """Deploy the spec of a retained revision again, ``direct`` without its rollout.

        Raises ``RevisionNotFoundError``.
        """
        ...


class Revisions(Protocol):
    """What was deployed."""

    async def history(self, app: str) -> Sequence[RevisionSummary]:
        """Return all revisions, newest first."""
        ...

    async def find(self, app: str, number: int) -> Revision:
        """Return one whole. Raises ``RevisionNotFoundError``."""
        ...

    async def diff(self, app: str, before: int, after: int) -> Sequence[Difference]:
        """Return where two revisions differ. Raises ``RevisionNotFoundError``."""
        ...


class Lifecycle(Protocol):
    """Changes of a running app that make no revision."""

    async def scale(self, app: str, replicas: Mapping[str, int], change: Change) -> AppView:
        """Set replicas of services, until a file says another number. Raises ``ScaleError``, ``QuotaError``."""
        ...

    async def restart(self, app: str, services: Sequence[str], change: Change) -> AppView:
        """Replace every task of ``services`` (all if empty), without losing a request where they may overlap."""
        ...

    async def stop(self, app: str, change: Change) -> AppView:
        """Drain and stop all tasks; the app, its volumes and revisions stay."""
        ...

    async def start(self, app: str, change: Change) -> AppView:
        """Start a stopped app again. Starting one that runs changes nothing."""
        ...

    async def remove(self, app: str, change: Change, *, volumes: bool = False) -> None:
        """Drain and remove everything of the app, with ``volumes`` its data too."""
        ...

    async def maintenance(self, app: str, text: str | None, change: Change) -> AppView:
        """Answer every route with ``text`` (HTTP 503), or with the app again if None."""
        ...


class Views(Protocol):
    """What is there."""

    async def list(self, *, teams: Sequence[str] | None = None) -> Sequence[AppView]:
        """Return all apps by name, or those of these teams (ids)."""
        ...

    async def show(self, app: str) -> AppView:
        """Return one app."""
        ...

    async def tasks(self, app: str) -> Sequence[TaskView]:
        """Return the app's tasks, those that run first."""
        ...

    async def team_of(self, app: str) -> str:
        """Return the id of the team that owns the app; what an authoriser asks first."""
        ...


class Logs(Protocol):
    """What tasks wrote."""

    def open(self, app: str, query: LogQuery) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """Open a stream of lines, merged by time where they are old and as they come where they are new.

        Without ``follow`` it ends. Leaving the context closes every stream behind it.
        """
        ...


class Runs(Protocol):
    """One-off commands and jobs."""

    async def run(self, app: str, request: RunRequest, change: Change) -> Run:
        """Start a command. Raises ``ServiceNotFoundError``."""
        ...

    async def runs(self, app: str, *, limit: int = 50) -> Sequence[Run]:
        """Return runs, newest first, scheduled ones too."""
        ...

    async def find(self, app: str, run: str) -> Run:
        """Return one. Raises ``RunNotFoundError``."""
        ...

    async def stop(self, app: str, run: str, change: Change) -> Run:
        """Stop one that runs."""
        ...

    def logs(self, app: str, run: str, *, follow: bool) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """Open what it wrote."""
        ...


class Secrets(Protocol):
    """Secrets kept for an app, by name; a file refers to one as ``external: true``."""

    async def secrets(self, app: str) -> Sequence[SecretView]:
        """Return them without values."""
        ...

    async def put(self, app: str, name: str, value: bytes, change: Change) -> Deploy | None:
        """Keep a value (up to 500 KiB); a running app that uses it is deployed anew: that is a rotation."""
        ...

    async def remove(self, app: str, name: str, change: Change) -> None:
        """Forget it. Raises ``SecretInUseError`` while the live revision uses it."""
        ...


class Environment(Protocol):
    """Variables kept for an app."""

    async def variables(self, app: str) -> Sequence[EnvView]:
        """Return them, values included."""
        ...

    async def put(self, app: str, values: Mapping[str, str | None], change: Change) -> Deploy | None:
        """Set variables, and forget those that are None; a running app is deployed anew."""
        ...


class Routes(Protocol):
    """Routes of an app."""

    async def routes(self, app: str) -> Sequence[RouteView]:
        """Return the routes in force, those of the file too."""
        ...

    async def add(self, app: str, service: str, spec: RouteSpec, change: Change) -> RouteView:
        """Keep a route. Raises ``RouteFaultError``, ``RouteTakenError``, ``ServiceNotFoundError``."""
        ...

    async def remove(self, app: str, route: str, change: Change) -> None:
        """Forget a kept one. Raises ``RouteNotFoundError``, ``RouteOfFileError``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOperations:
    """Everything that can be asked of apps, by subject."""

    deploys: Deploys
    revisions: Revisions
    lifecycle: Lifecycle
    views: Views
    logs: Logs
    runs: Runs
    secrets: Secrets
    environment: Environment
    routes: Routes
