"""What control and agents say to each other, as values (JSON by ``kit.codec``), and the frames of their streams.

A stream (exec, forward) is a WebSocket. Binary frames of exec begin with a byte that names the channel; text frames are
JSON objects: ``{"resize": [columns, rows]}`` and ``{"eof": true}`` towards the task, ``{"exit": code}`` and
``{"error": {"code", "message"}}`` from it. Binary frames of forward are the bytes themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hunqi.gateway.model import GatewayReport

PROBLEM_HEADER: Final = "Hunqi-Problem"
"""``code message``, quoted as in a URL: a client sees no body of a refused WebSocket."""
STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2

MAX_WAIT_S: Final = 60.0
"""Longest long-poll of a report."""
MAX_DRAIN_S: Final = 3600.0
"""Longest wait for a drain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenTable:
    """The answer to a table: the version that the agent works by now."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a gateway has, and the token with which to ask for the next change."""

    seq: str
    report: GatewayReport


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainOrder:
    """Take these tasks (ids in the Swarm) out of the gateway, and wait until they have no request open."""

    tasks: tuple[str, ...]
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainAnswer:
    """``busy`` are the tasks that still had requests open when the time was over."""

    busy: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequests:
    """Requests, PEM, for new keys of a node's agent and of its mirror (empty where it keeps none)."""

    agent: str
    mirror: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenCertificates:
    """What was signed for them, PEM."""

    agent: str
    mirror: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """A command in a running container of ours."""

    container: str
    command: tuple[str, ...]
    tty: bool = False
    stdin: bool = False
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    user: str = ""
    workdir: str = ""
    columns: int = 80
    rows: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSaid:
    """What a container's healthcheck wrote last, empty if it has none or has not run yet."""

    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedVolumes:
    """Names of the volumes that are gone, and of those that are still in use."""

    removed: tuple[str, ...] = ()
    in_use: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PinOrder:
    """Images whose content the node's mirror keeps whatever happens: reference → why. Replaces the last order."""

    pins: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageList:
    """References, as services have them (``127.0.0.1:5000/…@sha256:…``)."""

    images: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAnswer:
    """``done`` are references for which it holds, ``failures`` says of the others why not."""

    done: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeTarget:
    """A task of the node that counts by itself, and where it tells: at ``port`` of its own, in the form of Prometheus.

    ``names`` are patterns (``jobs_*``) of which a metric's name must fit one; without any all fit.
    """

    task: str
    port: int
    path: str = "/metrics"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeOrder:
    """What to ask tasks for, for this sample."""

    targets: tuple[ScrapeTarget, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestQuery:
    """Which lines of a gateway's access log: of ``app``, the last ``limit`` of those written after ``after``.

    ``status`` is one (``404``) or a class (``5xx``); what is empty or None leaves all through.
    """

    app: str
    service: str = ""
    revision: int | None = None
    status: str = ""
    limit: int = 100
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLine:
    """A request that a gateway answered. ``path`` has no values of its query that look secret."""

    written: str
    """When the line was written, RFC 3339 with nanoseconds: in this order a gateway's lines come."""
    at: str
    """When the request came."""
    node: str
    app: str
    service: str
    revision: int | None = None
    task: str = ""
    kind: str = ""
    """``public``, or ``internal`` for requests inside the app."""
    client: str = ""
    method: str = ""
    host: str = ""
    path: str = ""
    protocol: str = ""
    status: int = 0
    flags: str = ""
    """Envoy's, on what went wrong."""
    detail: str = ""
    duration_ms: int = 0
    task_ms: int | None = None
    """Until the task's answer began."""
    attempts: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    request_id: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLines:
    """Lines in the order in which they were written; ``until`` is the ``after`` of the next question."""

    lines: tuple[RequestLine, ...] = ()
    until: str = ""
    incomplete: bool = False
    """Whether older lines were not looked at that could have been meant."""
