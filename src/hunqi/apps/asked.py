"""The values that go in and come out of what can be asked of apps (``operations`` has the ports)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from hunqi.apps.model import DeployState, Note, RouteSpec
from hunqi.apps.rollout_spec import RolloutSpec


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
    """Path, as the entry files refer to it → text."""
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
    privileged: bool = False
    """Whether who asks answers for the machines, so that the app may have of them what it asks for."""
    rollout: RolloutSpec | None = None
    """How traffic is to move to this revision, in place of what the files say."""
    reads: tuple[str, ...] = ()
    """Prefixes of repositories that who asks may read at the accelerators, beside what the app's team may."""


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
    problems: tuple[str, ...] = ()
    """Sentences on routes that the gateways do not serve, and why; known to the control process that leads."""


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
    revision: int | None = None
    """Whose image and settings it has; the one that serves without it."""
    id: str = ""
    """The id that the run gets: asking again with the same one starts nothing, and returns the run that is there."""


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
