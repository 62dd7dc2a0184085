"""What the interface needs of the rooms below it, besides ``hunqi.apps.operations``; and the values that cross.

Each port is implemented where its subject lives and handed over by the wiring. Every change names its actor and reason.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from hunqi.apps.operations import AppOperations, Change
from hunqi.hooks.model import Hooks
from hunqi.nodes.join import JoinAnswer, JoinRequest
from hunqi.nodes.wire import RequestLine, RequestQuery
from hunqi.rollouts.operations import Rollouts
from hunqi.scaling.operations import Autoscaling
from hunqi.telemetry.operations import TelemetryOperations


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRef:
    """A running task of an app: by id (or a part of one that is clear), else any healthy one of ``service``."""

    service: str = ""
    task: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command in a running task. ``columns`` and ``rows`` are the terminal's when ``tty``."""

    command: tuple[str, ...]
    tty: bool = False
    stdin: bool = False
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    user: str = ""
    workdir: str = ""
    columns: int = 80
    rows: int = 24


class Channel(Protocol):
    """A duplex stream to a task; its frames are those of ``hunqi.nodes.wire``."""

    async def send(self, frame: bytes | str, /) -> None:
        """Send a frame; waits while the other end is slow."""
        ...

    async def receive(self) -> bytes | str | None:
        """Return the next frame, None once the other end has closed."""
        ...


class Entering(Protocol):
    """Ways into running tasks. Raise ``ServiceNotFoundError`` where there is no such task."""

    def execute(self, app: str, task: TaskRef, command: Command) -> AbstractAsyncContextManager[Channel]:
        """Run a command; the channel ends with ``{"exit": code}``."""
        ...

    def forward(self, app: str, task: TaskRef, port: int) -> AbstractAsyncContextManager[Channel]:
        """Connect to a TCP port of the task."""
        ...

    def get_files(self, app: str, task: TaskRef, path: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read a path as tar."""
        ...

    async def put_files(self, app: str, task: TaskRef, path: str, chunks: AsyncIterator[bytes]) -> None:
        """Unpack a tar stream into a directory."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A machine. ``sentence`` says what is happening to it, or why something does not fit there."""

    id: str
    name: str
    role: str
    """``manager`` or ``worker``."""
    state: str
    """``ready``, ``down``, ``unknown`` or ``disconnected``, as Docker says."""
    availability: str
    intent: str
    """``active``, ``drain`` or ``remove``: what it is meant to be."""
    sentence: str
    address: str
    leader: bool
    agent: str
    """``connected``, ``unreachable`` or ``missing``."""
    gateway: bool
    labels: Mapping[str, str]
    cpus: float
    memory_bytes: int
    reserved_cpus: float
    reserved_memory_bytes: int
    tasks: Mapping[str, int]
    """App → how many of its tasks run there."""
    engine_version: str
    platform: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChange:
    """What to change of a node; None leaves it. A label set to None is removed."""

    role: str | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict[str, str | None])


class Nodes(Protocol):
    """The machines. ``node`` is an id or a name; raise ``NodeNotFoundError`` and ``NodeRefusedError``."""

    async def nodes(self) -> Sequence[NodeView]:
        """Return all, by name."""
        ...

    async def find(self, node: str) -> NodeView:
        """Return one."""
        ...

    async def change(self, node: str, wanted: NodeChange, change: Change) -> NodeView:
        """Change role or labels."""
        ...

    async def drain(self, node: str, change: Change) -> NodeView:
        """Begin to empty it without losing a request."""
        ...

    async def activate(self, node: str, change: Change) -> NodeView:
        """Let tasks be placed there again; ends a drain."""
        ...

    async def remove(self, node: str, change: Change, *, force: bool) -> None:
        """Remove a node that is drained or down; ``force``: down, and never to come back."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinTokenView:
    """A token by which one machine joins; ``text`` is shown once, when it is made."""

    id: str
    role: str
    expires_at: datetime
    text: str = field(default="", repr=False)


class Joining(Protocol):
    """New machines."""

    async def new_token(self, role: str, *, valid_s: float, change: Change) -> JoinTokenView:
        """Make a token, good for one machine. Raises ``NodeRefusedError``."""
        ...

    async def tokens(self) -> Sequence[JoinTokenView]:
        """Return those that are neither used nor expired, without texts."""
        ...

    async def revoke(self, token: str, change: Change) -> None:
        """Make one (by id) useless. Raises ``JoinTokenError``."""
        ...

    async def answer(self, request: JoinRequest) -> JoinAnswer:
        """Answer a machine that joins. Raises ``JoinTokenError``, ``NodeRefusedError``, ``AuthorityError``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateView:
    """A certificate of the gateways, without its key. ``source`` is given, acme or local."""

    id: str
    hosts: tuple[str, ...]
    source: str
    expires_at: datetime
    problem: str | None = None


class Certificates(Protocol):
    """Certificates of the gateways."""

    async def certificates(self) -> Sequence[CertificateView]:
        """Return all."""
        ...

    async def add(self, chain_pem: str, key_pem: str, change: Change) -> CertificateView:
        """Take a chain and its key. Raises ``CertificateError`` for what does not fit together."""
        ...

    async def remove(self, certificate: str, change: Change) -> None:
        """Forget a given one. Raises ``CertificateNotFoundError``."""
        ...

    async def authority(self) -> str:
        """Return the certificate of the local authority, PEM."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """A part of the platform: ``state`` is up, down or degraded."""

    name: str
    state: str
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformStatus:
    """The platform as this process sees it."""

    cluster: str
    version: str
    leader: str | None
    leading: bool
    nodes: int
    nodes_ready: int
    apps: int
    parts: tuple[PartStatus, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupMade:
    """A copy of the database on the machine that leads."""

    path: str
    size_bytes: int
    at: datetime


class Platform(Protocol):
    """The platform itself."""

    async def status(self) -> PlatformStatus:
        """Return what is up."""
        ...

    async def is_ready(self) -> bool:
        """Whether this process can answer: the database, and Docker, are there."""
        ...

    async def back_up(self, change: Change) -> BackupMade:
        """Copy the database now. Raises ``BackupFailedError``."""
        ...

    def x_hunqi_schema(self) -> Mapping[str, Any]:
        """Return the JSON Schema of ``x-hunqi`` in Compose files."""
        ...


class Leader(Protocol):
    """Who leads."""

    @property
    def leading(self) -> bool:
        """Whether this process does."""
        ...

    @property
    def address(self) -> str | None:
        """The URL of the one that does; None while nobody does or it cannot be reached from other machines."""
        ...

    @property
    def machine(self) -> str | None:
        """The name of the machine on which it runs, None while nobody leads."""
        ...


class Requests(Protocol):
    """The access logs of all gateways."""

    def open(self, query: RequestQuery, *, follow: bool) -> AbstractAsyncContextManager[AsyncIterator[RequestLine]]:
        """Open the last lines that are meant, in order of time, and those that come if ``follow``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Everything that the interface stands on."""

    apps: AppOperations
    entering: Entering
    nodes: Nodes
    joining: Joining
    certificates: Certificates
    platform: Platform
    telemetry: TelemetryOperations
    scaling: Autoscaling
    leader: Leader
    hooks: Hooks
    rollouts: Rollouts
    requests: Requests
