"""What can be asked of apps: the values that go in and come out, and the ports that the API calls.

Every change names who makes it and why (``Change``). Nothing here waits for the cluster: a change is persisted, the
app's controller is told, and what comes of it is read from the views and the events. All methods raise
``AppNotFoundError`` for an app that is not there, and ``DependencyError`` when the database or Docker is away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from hunqi.apps.model import DeployState, Note, Revision, RouteSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Who changes something, and why."""

    actor: str
    reason: str = ""


class Replacing(StrEnum):
    """How a whole deploy replaces, when its services' own order does not fit the room there is."""

    STOP_FIRST = "stop-first"
    BATCHES = "batches"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A Compose project as a client sends it. ``absent_*`` are what the client has looked for and does not have."""

    files: Mapping[str, str | bytes]
    """Path, as the entry files refer to it → text, or bytes of what is no text."""
    entry: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    absent_files: tuple[str, ...] = ()
    absent_variables: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict[str, str])
    """Service → the image to run in place of the file's."""
    strict: bool = False
    """Whether a key that is not honoured is an error."""
    replacing: Replacing | None = None
    team: str | None = None
    """The id of the team that a new app belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceChange:
    """What a deploy does to a service: ``kind`` is added, changed, kept or removed; ``why`` is a sentence."""

    service: str
    kind: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a deploy would do. ``problems`` are sentences that would make it fail."""

    app: str
    notes: tuple[Note, ...]
    changes: tuple[ServiceChange, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a deploy or a run failed, so that the reader can act on it."""

    code: str
    message: str
    remedy: str = ""
    service: str = ""
    task: str = ""
    exit_code: int | None = None
    log: tuple[str, ...] = ()
    """The last lines of the failing task."""
    health: str = ""
    """What its healthcheck, or the gateway's check, said last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceProgress:
    """A service within a deploy: ``state`` is waiting, starting, healthy, serving, kept, done or failed."""

    service: str
    state: str
    ready: int
    wanted: int
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """A deploy. One of nothing to do is SUCCEEDED at once and its ``sentence`` says so."""

    id: str
    app: str
    revision: int
    from_revision: int | None
    state: DeployState
    sentence: str
    services: tuple[ServiceProgress, ...]
    problem: Problem | None
    actor: str
    reason: str
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionSummary:
    """A revision in a list. ``retained`` ones can be rolled back to."""

    number: int
    live: bool
    retained: bool
    images: Mapping[str, str]
    created_at: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place in which two revisions differ; ``path`` like ``services.web.image``; None means it is not there."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """A task of an app. ``healthy`` is the gateways' word, None for one that they do not route to."""

    id: str
    service: str
    revision: int
    slot: int | None
    node: str
    state: str
    desired: str
    healthy: bool | None
    message: str
    exit_code: int | None
    image: str
    since: str
    container: str | None = None
    address: str | None = None
    node_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """A service of an app as it runs."""

    name: str
    revision: int
    image: str
    mode: str
    wanted: int
    running: int
    healthy: int | None
    routes: tuple[RouteSpec, ...]
    sentence: str = ""
    schedule: str | None = None
    next_run: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppView:
    """An app. ``state`` is running, deploying, degraded, stopped or removing; ``sentence`` says what it waits for."""

    name: str
    team: str
    state: str
    sentence: str
    revision: int | None
    services: tuple[ServiceView, ...]
    maintenance: str | None
    deploy: Deploy | None
    """The one under way, else the last."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line that a task wrote."""

    service: str
    revision: int
    task: str
    node: str
    stream: str
    at: str
    """RFC 3339 with nanoseconds, as Docker has it."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which lines: of all services if none is named; ``tail`` of each task; ``since`` is RFC 3339."""

    services: tuple[str, ...] = ()
    follow: bool = False
    tail: int | None = 100
    since: str | None = None
    removed: bool = False
    """Whether lines kept of services that are gone come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A one-off command in a service's image, with its environment, networks, secrets and volumes."""

    service: str
    command: tuple[str, ...] | None = None
    """None runs what the service runs."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    timeout_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run: ``kind`` is run or cron; ``state`` is pending, running, succeeded, failed, cancelled or skipped."""

    id: str
    app: str
    service: str
    kind: str
    state: str
    exit_code: int | None
    due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretView:
    """A kept secret, without its value; ``version`` counts its rotations."""

    name: str
    version: int
    updated_at: datetime
    services: tuple[str, ...]
    """Who uses it in the live revision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvView:
    """A variable kept for an app: in the environment of each service, and for interpolation in its files."""

    name: str
    value: str
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteView:
    """A route in force. ``origin`` is ``file`` or ``kept`` (added by ``hunqi route``; only these can be removed)."""

    id: str
    service: str
    spec: RouteSpec
    origin: str


class Deploys(Protocol):
    """Deploys of Compose projects, and the way back."""

    async def check(self, app: str, submission: Submission) -> Checked:
        """Say what a deploy would do, without doing anything. Raises what ``deploy`` raises for the files."""
        ...

    async def deploy(self, app: str, submission: Submission, change: Change) -> Deploy:
        """Make a revision and start to deploy it, creating the app if need be; supersedes one in flight.

        Raises the compiler's errors, ``ImageError``, ``RoomError``, ``QuotaError``, ``RouteTakenError`` and
        ``AppNameError``; nothing is changed then.
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

    async def rollback(self, app: str, revision: int, change: Change) -> Deploy:
        """Deploy the spec of a retained revision again. Raises ``RevisionNotFoundError``."""
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
        """Keep a route. Raises ``RouteTakenError`` if another app has it, ``ServiceNotFoundError``."""
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
