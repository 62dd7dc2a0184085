"""The interface's JSON objects, as types. Written by `.venv/bin/python tools/openapi.py`; do not edit."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

ActorKind = Literal[
    "anonymous",
    "user",
    "machine",
]


class AppView(TypedDict):
    """An app. `state` is running, deploying, degraded, stopped or removing; `sentence` says what it waits for."""

    name: str
    team: str
    state: str
    sentence: str
    revision: int | None
    services: list[ServiceView]
    maintenance: str | None
    deploy: Deploy | None
    created_at: str
    updated_at: str
    problems: list[str]


class Authority(TypedDict):
    """The local authority's certificate, for browsers to trust."""

    certificate_pem: str


class BackupMade(TypedDict):
    """A copy of the database on the machine that leads."""

    path: str
    size_bytes: int
    at: str


class Behavior(TypedDict):
    """Both directions; the defaults are the HPA's."""

    up: Rules
    down: Rules


class CertificateView(TypedDict):
    """A certificate of the gateways, without its key. `source` is given, acme or local."""

    id: str
    hosts: list[str]
    source: str
    expires_at: str
    problem: str | None


class Checked(TypedDict):
    """What a deploy would do. `problems` are sentences that would make it fail."""

    app: str
    notes: list[Note]
    changes: list[ServiceChange]
    problems: list[str]


class Cors(TypedDict):
    """What a route answers to preflights; times in seconds."""

    origins: list[str]
    methods: list[str]
    headers: list[str]
    credentials: bool
    max_age_s: int


class Decision(TypedDict):
    """What came of one look at a service, with every number behind it."""

    app: str
    service: str
    at: float
    current: int
    ready: int
    wanted: int
    low: int
    high: int
    proposals: list[Proposal]
    asked: int | None
    stable: int | None
    allowed: int | None
    panic: bool
    foreseen: Foreseen | None
    room: int | None
    short: int
    sentence: str
    because: list[str]


class Deploy(TypedDict):
    """A deploy. One of nothing to do is SUCCEEDED at once and its `sentence` says so."""

    id: str
    app: str
    revision: int
    from_revision: int | None
    state: DeployState
    sentence: str
    services: list[ServiceProgress]
    problem: Problem | None
    actor: str
    reason: str
    created_at: str
    updated_at: str
    finished_at: str | None
    notes: list[Note]


DeployState = Literal[
    "pending",
    "starting",
    "shifting",
    "switching",
    "draining",
    "succeeded",
    "failed",
    "cancelled",
    "superseded",
]


class Difference(TypedDict):
    """One place in which two revisions differ; `path` like `services.web.image`; None means it is not there."""

    path: str
    before: str | None
    after: str | None


class EnvView(TypedDict):
    """A variable kept for an app: in the environment of each service, and for interpolation in its files."""

    name: str
    value: str
    updated_at: str


class Finding(TypedDict):
    """What one measure says of one service. `sentence` is for people, `numbers` is what it rests on."""

    measure: str
    service: str
    outcome: Outcome
    sentence: str
    numbers: dict[str, float]
    samples_new: int
    samples_old: int


class Foreseen(TypedDict):
    """What history foretells, as far as it is used. `on` is the back-test's word, `held` that of the last hours."""

    on: bool
    replicas: int | None
    for_at: float
    sentence: str


class Health(TypedDict):
    """That the process answers."""

    healthy: bool


class Hook(TypedDict):
    """A webhook. Without `app` it is told of everything; `kinds` are patterns (`rollout.*`), none is all."""

    id: str
    app: str | None
    url: str
    kinds: list[str]
    trusted: bool
    told: int
    created_at: str
    problem: str | None
    secret: str


class HookDelivery(TypedDict):
    """An attempt to tell of an event. `status` is the answer's, None if there was none."""

    event: int
    at: str
    attempt: int
    status: int | None
    problem: str | None


class JoinAnswer(TypedDict):
    """What it gets."""

    cluster: str
    role: str
    ca: str
    agent_certificate: str
    mirror_certificate: str
    swarm_token: str
    managers: list[str]
    roster: Roster
    settings: dict[str, Any]


class JoinTokenView(TypedDict):
    """A token by which one machine joins; `text` is shown once, when it is made."""

    id: str
    role: str
    expires_at: str
    text: str


class Look(TypedDict):
    """A look that was kept, for plots and for those who ask later."""

    seq: int
    at: float
    state: State
    step: int
    weight: int
    mirror: int
    findings: list[Finding]
    problem: str


class Match(TypedDict):
    """A condition on a header: `kind` is exact, prefix, regex or present."""

    name: str
    kind: str
    value: str


class Me(TypedDict):
    """Who the caller is, and what they may. `csrf` is there for sessions only."""

    kind: ActorKind
    name: str
    admin: bool
    teams: dict[str, Role]
    grants: dict[str, Role]
    scopes: list[str]
    csrf: str | None


class Member(TypedDict):
    """A node with an agent."""

    node: str
    name: str
    address: str
    agent: str


class MemberView(TypedDict):
    """A user's role in a team or on an app."""

    user: str
    role: Role


class MetricAnswer(TypedDict):
    """Values of a measure. No `lines` means that nothing was measured in that time."""

    app: str
    measure: str
    unit: str
    since: float
    until: float
    step_s: int
    lines: list[MetricLine]
    measured_until: float | None


class MetricLine(TypedDict):
    """A group's values at the beginnings of steps; what was not measured is left out."""

    name: str
    points: list[Point]


class NewToken(TypedDict):
    """A token that was just made; its secret is shown only now."""

    token: TokenView
    secret: str


class NodeView(TypedDict):
    """A machine. `sentence` says what is happening to it, or why something does not fit there."""

    id: str
    name: str
    role: str
    state: str
    availability: str
    intent: str
    sentence: str
    address: str
    leader: bool
    agent: str
    gateway: bool
    labels: dict[str, str]
    cpus: float
    memory_bytes: int
    reserved_cpus: float
    reserved_memory_bytes: int
    tasks: dict[str, int]
    engine_version: str
    platform: str


class Note(TypedDict):
    """A key of the file that is not honoured as written, and what happens instead."""

    file: str
    line: int
    path: str
    instead: str
    severity: str


Outcome = Literal[
    "success",
    "failure",
    "inconclusive",
    "error",
    "waiting",
]


class PartStatus(TypedDict):
    """A part of the platform: `state` is up, down or degraded."""

    name: str
    state: str
    sentence: str


class PlatformStatus(TypedDict):
    """The platform as this process sees it."""

    cluster: str
    version: str
    leader: str | None
    leading: bool
    nodes: int
    nodes_ready: int
    apps: int
    parts: list[PartStatus]
    problems: list[str]


class Point(TypedDict):
    """A number at a moment."""

    at: float
    value: float


class Policy(TypedDict):
    """So many tasks, or percent of those there were, may change within any `period_s` seconds."""

    kind: PolicyKind
    value: int
    period_s: float


PolicyKind = Literal[
    "tasks",
    "percent",
]


class Problem(TypedDict):
    """Why a deploy or a run failed, so that the reader can act on it."""

    code: str
    message: str
    remedy: str
    service: str
    task: str
    exit_code: int | None
    log: list[str]
    health: str


class Proposal(TypedDict):
    """What one measure asks for. `average` is without those set aside, as the HPA reports it."""

    measure: str
    replicas: int | None
    target: float
    average: float | None
    ratio: float | None
    counted: int
    missing: int
    unready: int
    error: str
    sentence: str


Protocol = Literal[
    "http1",
    "http2",
    "tcp",
    "udp",
]


class Queue(TypedDict):
    """Work that waits: `per_replica` of what `query` counts is one task's."""

    query: str
    per_replica: float
    source: str


class RateLimit(TypedDict):
    """A token bucket per gateway: `requests` in each `per_s` seconds, `burst` at once."""

    requests: int
    per_s: float
    burst: int | None


class RegistryLogin(TypedDict):
    """A name and a password for `docker login`; `grants` as the accelerator reads them (`shop:pull,push`)."""

    username: str
    password: str
    grants: list[str]
    expires_at: str | None


class RevisionSummary(TypedDict):
    """A revision in a list. `retained` ones can be rolled back to."""

    number: int
    live: bool
    retained: bool
    images: dict[str, str]
    created_at: str
    actor: str
    reason: str


Role = Literal[
    "viewer",
    "developer",
    "owner",
]


class RolloutView(TypedDict):
    """A rollout. `next` says what happens next, `verbs` what can be said to it now; weights are percent."""

    id: str
    app: str
    deploy: str
    revision: int
    stable: int
    state: str
    strategy: str
    sentence: str
    next: str
    weight: float
    mirror: float
    in_force: bool
    decided_at: float | None
    step: int
    steps: list[StepView]
    replicas: dict[str, int]
    findings: list[Finding]
    looked_at: float | None
    paused: str | None
    problem: Problem | None
    verbs: list[str]
    actor: str
    created_at: str
    updated_at: str
    finished_at: str | None


class Roster(TypedDict):
    """All members; `version` grows with each change."""

    version: int
    members: list[Member]


class RouteSpec(TypedDict):
    """One way from the outside to a port of a service (`x-hunqi.routes`)."""

    port: int
    hosts: list[str]
    path: str
    headers: list[Match]
    protocol: Protocol
    strip_prefix: bool
    replace_prefix: str | None
    host_rewrite: str | None
    redirect: str | None
    redirect_code: int
    cors: Cors | None
    body_limit_bytes: int | None
    rate_limit: RateLimit | None
    basic_auth: list[str]
    allow: list[str]
    request_headers: dict[str, str]
    response_headers: dict[str, str]
    timeout_s: float
    idle_timeout_s: float
    retries: int
    hold_s: float
    tcp_port: int | None
    tls: str


class RouteView(TypedDict):
    """A route in force. `origin` is `file` or `kept` (added by `hunqi route`; only these can be removed)."""

    id: str
    service: str
    spec: RouteSpec
    origin: str


class Rules(TypedDict):
    """How fast one direction may go. `window_s` is the stabilisation window, `tolerance` a part of 1."""

    window_s: float
    policies: list[Policy]
    select: Select
    tolerance: float


class Run(TypedDict):
    """A run: `kind` is run or cron; `state` is pending, running, succeeded, failed, cancelled or skipped."""

    id: str
    app: str
    service: str
    kind: str
    state: str
    exit_code: int | None
    due_at: str | None
    started_at: str | None
    finished_at: str | None


class ScaleSpec(TypedDict):
    """Bounds and targets of one service."""

    min: int
    max: int
    cpu: Target | None
    memory: Target | None
    rps: float | None
    concurrency: float | None
    p95_ms: float | None
    queue: Queue | None
    schedule: list[Slot]
    behavior: Behavior
    zero: Zero | None
    predict: bool


class Scaled(TypedDict):
    """A service that load moves. `origin` is `file` or `set` (by a user, in place of the file's)."""

    app: str
    service: str
    spec: ScaleSpec
    origin: str
    current: int
    ready: int
    sentence: str
    last: Decision | None
    foretold: list[str]


class SecretView(TypedDict):
    """A kept secret, without its value; `version` counts its rotations."""

    name: str
    version: int
    updated_at: str
    services: list[str]


Select = Literal[
    "max",
    "min",
    "disabled",
]


class ServiceChange(TypedDict):
    """What a deploy does to a service: `kind` is added, changed, kept or removed; `why` is a sentence."""

    service: str
    kind: str
    why: str


class ServiceProgress(TypedDict):
    """A service within a deploy: `state` is waiting, starting, healthy, serving, kept, done or failed."""

    service: str
    state: str
    ready: int
    wanted: int
    sentence: str


class ServiceView(TypedDict):
    """A service of an app as it runs."""

    name: str
    revision: int
    image: str
    mode: str
    wanted: int
    running: int
    healthy: int | None
    routes: list[RouteSpec]
    sentence: str
    schedule: str | None
    next_run: str | None


class Slot(TypedDict):
    """Bounds that hold from a moment on until that of another slot."""

    cron: str
    min: int | None
    max: int | None
    timezone: str


class SourceView(TypedDict):
    """A server that answers Prometheus queries; whether a token is sent to it, which nobody reads."""

    name: str
    url: str
    has_token: bool
    has_ca: bool
    updated_at: str


State = Literal[
    "starting",
    "stepping",
    "paused",
    "approving",
    "promoting",
    "aborting",
    "succeeded",
    "aborted",
    "failed",
    "superseded",
]


class StepView(TypedDict):
    """A step: `state` is done, now, to-do or skipped."""

    kind: str
    text: str
    state: str


class Target(TypedDict):
    """What a task is to use on average: a percentage of what it reserves, or an amount (cores, bytes)."""

    percent: float | None
    amount: float | None


class TaskView(TypedDict):
    """A task of an app. `healthy` is the gateways' word, None for one that they do not route to."""

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
    container: str | None
    address: str | None
    node_id: str


class TeamView(TypedDict):
    """A team; `quota` has limits by name, none means no limit."""

    id: str
    name: str
    quota: dict[str, float]
    images: list[str]
    members: list[MemberView]
    created_at: str


class TokenView(TypedDict):
    """A token, without its secret. `owner` is None for a machine's."""

    id: str
    kind: str
    owner: str | None
    name: str
    scopes: list[str]
    created_at: str
    expires_at: str | None
    last_used_at: str | None


class TopRow(TypedDict):
    """A service over the last `seconds`; None is what was not measured. Latencies in ms, memory in bytes."""

    app: str
    service: str
    revisions: list[int]
    seconds: float
    rps: float | None
    error_rate: float | None
    p99_ms: float | None
    active: float | None
    held: int
    cpu_cores: float | None
    memory_bytes: int | None
    tasks: int


class UserView(TypedDict):
    """A user, without the password."""

    id: str
    name: str
    is_admin: bool
    disabled: bool
    created_at: str


class Zero(TypedDict):
    """That a service without anything to do may have no task at all. Seconds; names and defaults are KEDA's."""

    cooldown_s: float
    initial_cooldown_s: float
