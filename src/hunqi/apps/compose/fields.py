"""The fields of ``x-hunqi``, as data: what a file is checked by, and what the JSON Schema is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    TEXTS = "texts"
    """A text or a list of them."""
    INTEGER = "integer"
    NUMBER = "number"
    """0 or more, with decimals."""
    BOOLEAN = "boolean"
    DURATION = "duration"
    SIZE = "size"
    PAIRS = "pairs"
    """A mapping of texts."""
    OBJECT = "object"
    OBJECTS = "objects"
    MATCHES = "matches"
    """A mapping of names to a text, or to an object."""
    ENTRIES = "entries"
    """A list of words and objects."""
    MAPPING = "mapping"
    """A mapping that a later part reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field; ``short`` is the kind that may stand instead of the object."""

    name: str
    kind: Kind
    text: str
    choices: tuple[str, ...] = ()
    default: str | int | bool | None = None
    below: tuple[Field, ...] = ()
    short: Kind | None = None
    required: bool = False
    low: int = 0
    high: int = 2**31 - 1


def _field(name: str, kind: Kind, text: str, **more: object) -> Field:
    return Field(name=name, kind=kind, text=text, **more)  # pyright: ignore[reportArgumentType] - fields of Field


PORT_MAX: Final = 65535

CORS: Final = (
    _field("origins", Kind.TEXTS, "Origins that may ask: `https://shop.example.com`, or `*`.", required=True),
    _field("methods", Kind.TEXTS, "Methods that may be used; GET, HEAD and POST without it."),
    _field("headers", Kind.TEXTS, "Headers that may be sent."),
    _field("credentials", Kind.BOOLEAN, "Whether cookies may come along.", default=False),
    _field("max_age", Kind.DURATION, "How long browsers may remember the answer.", default="10m"),
)
RATE_LIMIT: Final = (
    _field("requests", Kind.INTEGER, "Requests in each `per`, for each gateway.", low=1, required=True),
    _field("per", Kind.DURATION, "The time in which they come.", default="1s"),
    _field("burst", Kind.INTEGER, "Requests at once; `requests` without it.", low=1),
)
MATCH: Final = (
    _field("exact", Kind.TEXT, "The value."),
    _field("prefix", Kind.TEXT, "What the value begins with."),
    _field("regex", Kind.TEXT, "A regular expression (RE2) for the whole value."),
    _field("present", Kind.BOOLEAN, "`true`: any value."),
)
ROUTE: Final = (
    _field("host", Kind.TEXTS, "Host names, exact or `*.example.com`."),
    _field("hosts", Kind.TEXTS, "The same as `host`."),
    _field(
        "port",
        Kind.INTEGER,
        "The port of the container; without it the only one exposed.",
        low=1,
        high=PORT_MAX,
    ),
    _field("path", Kind.TEXT, "A prefix by whole segments; `=/exact` is exactly this path.", default="/"),
    _field("headers", Kind.MATCHES, "Headers that requests must have: a value, or how it is compared.", below=MATCH),
    _field(
        "protocol",
        Kind.TEXT,
        "What the tasks speak; `grpc` is `http2`.",
        choices=("http1", "http2", "grpc", "tcp", "udp"),
        default="http1",
    ),
    _field("strip_prefix", Kind.BOOLEAN, "Whether `path` is taken off before the request goes on.", default=False),
    _field("replace_prefix", Kind.TEXT, "What stands in the place of `path`."),
    _field("host_rewrite", Kind.TEXT, "The host name that the tasks see."),
    _field("redirect", Kind.TEXT, "A URL, or `https`; nothing is forwarded."),
    _field("redirect_code", Kind.INTEGER, "301, 302, 303, 307 or 308.", default=308, low=301, high=308),
    _field("cors", Kind.OBJECT, "What preflights are answered.", below=CORS),
    _field("body_limit", Kind.SIZE, "The largest body of a request: `10m`."),
    _field("rate_limit", Kind.OBJECT, "A token bucket in each gateway.", below=RATE_LIMIT),
    _field("basic_auth", Kind.TEXTS, "Lines of htpasswd with SHA: `user:{SHA}...`."),
    _field("allow", Kind.TEXTS, "Networks that may come: `10.0.0.0/8`; all without it."),
    _field("request_headers", Kind.PAIRS, "Headers that requests are given."),
    _field("response_headers", Kind.PAIRS, "Headers that answers are given."),
    _field("timeout", Kind.DURATION, "From the request's end to that of the answer; `0` is none.", default="60s"),
    _field("idle_timeout", Kind.DURATION, "How long a stream may be silent.", default="5m"),
    _field("retries", Kind.INTEGER, "Of safe requests only; never a second POST.", default=2, high=10),
    _field("hold", Kind.DURATION, "How long a request waits while no task is healthy.", default="30s"),
    _field("tcp_port", Kind.INTEGER, "A published port, for TCP, UDP and TLS passthrough.", low=1, high=PORT_MAX),
    _field(
        "tls",
        Kind.TEXT,
        "Certificates given, ACME or local; none; or not ended here.",
        choices=("auto", "off", "passthrough"),
        default="auto",
    ),
)
HEALTH: Final = (
    _field("path", Kind.TEXT, "A path whose 2xx or 3xx is healthy; without it a connection is enough."),
    _field("port", Kind.INTEGER, "The port; that of the route without it.", low=1, high=PORT_MAX),
    _field("host", Kind.TEXT, "The host name that is sent."),
    _field("interval", Kind.DURATION, "Between two checks.", default="1s"),
    _field("timeout", Kind.DURATION, "Of a check.", default="2s"),
    _field("healthy_after", Kind.INTEGER, "Checks in a row that pass.", default=1, low=1, high=100),
    _field("unhealthy_after", Kind.INTEGER, "Checks in a row that fail.", default=3, low=1, high=100),
)
INTERNAL: Final = (
    _field("to", Kind.TEXT, "What the service's name leads to inside the app.", choices=("gateway", "tasks")),
    _field(
        "ports",
        Kind.TEXTS,
        "The HTTP ports there; without it those of `expose` and the routes.",
    ),
    _field("protocol", Kind.TEXT, "What it speaks there.", choices=("http1", "http2", "grpc"), default="http1"),
)
METRICS: Final = (
    _field("port", Kind.INTEGER, "The port of the container that answers.", low=1, high=PORT_MAX, required=True),
    _field("path", Kind.TEXT, "The path there.", default="/metrics"),
    _field("names", Kind.TEXTS, "Patterns for the names that are taken: `jobs_*`; all without it, up to a bound."),
)
LANE_MATCH: Final = (
    _field("headers", Kind.MATCHES, "Headers: a value, or how it is compared.", below=MATCH),
    _field("cookies", Kind.MATCHES, "Cookies, likewise.", below=MATCH),
    _field("query", Kind.MATCHES, "Parameters of the query, likewise.", below=MATCH),
    _field("source", Kind.TEXTS, "Networks that requests come from: `10.0.0.0/8`."),
    _field("users", Kind.TEXT, "A share of the users for whom the rest holds: `5%`."),
)
STEP: Final = (
    _field("weight", Kind.TEXT, "Percent of users that go to the new revision, with up to two decimals."),
    _field("pause", Kind.TEXT, "For so long; the word alone waits for `hunqi rollout resume`."),
    _field(
        "match",
        Kind.OBJECT,
        "Requests that go to the new revision whatever the weight, from here on; a list is any of them, `{}` none.",
        below=LANE_MATCH,
    ),
    _field("mirror", Kind.TEXT, "Percent of the old revision's requests that the new one gets too, answers discarded."),
    _field("scale", Kind.TEXT, "At least so many tasks of the new revision: `50%`, or a mapping of services."),
    _field("analysis", Kind.TEXT, "Go on only if measures are well: `30s`, or `{measures: [...], for: 30s}`."),
    _field("approve", Kind.TEXT, "The word alone: wait for `hunqi rollout approve`."),
    _field(
        "run", Kind.MAPPING, "A command in the new revision's image: `{service: web, command: [...], timeout: 10m}`."
    ),
)
MEASURE: Final = (
    _field("promql", Kind.TEXT, "A query for one number."),
    _field("metric", Kind.TEXT, "A metric that the app itself counts."),
    _field("http", Kind.TEXT, "A path of the new revision whose 2xx or 3xx is well."),
    _field("source", Kind.TEXT, "The server that answers `promql`."),
    _field("services", Kind.TEXTS, "All that changed without it."),
    _field("at_least", Kind.TEXT, "Below it the measure fails: `99%`, `500ms`, `512m`, by its kind."),
    _field("at_most", Kind.TEXT, "Above it the measure fails."),
    _field("compare", Kind.BOOLEAN, "With the old revision over the same time; on for all but `promql` and `http`."),
    _field("tolerance", Kind.TEXT, "How much worse than the old revision is no failure yet.", default="25%"),
    _field("confidence", Kind.TEXT, "How sure a comparison must be, over the whole rollout.", default="99.5%"),
    _field("min_samples", Kind.INTEGER, "Requests below which nothing is said.", default=100, low=1, high=10**9),
    _field("interval", Kind.DURATION, "How often it is looked at; that of the rollout without it."),
    _field("delay", Kind.DURATION, "How long it is not looked at in the beginning.", default="0s"),
    _field("failures", Kind.INTEGER, "So many failures are no failure of the rollout yet.", default=0, high=1000),
    _field(
        "inconclusive",
        Kind.INTEGER,
        "So many looks without a verdict are no reason to pause yet.",
        default=3,
        high=1000,
    ),
    _field("errors", Kind.INTEGER, "So many errors in a row are none of the analysis yet.", default=4, high=1000),
)
KEY: Final = (
    _field("cookie", Kind.TEXT, "A cookie, issued by the gateway to whoever has none."),
    _field("header", Kind.TEXT, "A header that clients send."),
)
ROLLOUT: Final = (
    _field(
        "strategy",
        Kind.TEXT,
        "By steps, all at once after a look, or at once.",
        choices=("gray", "blue-green", "direct"),
        default="gray",
    ),
    _field("steps", Kind.ENTRIES, "The way; those of the strategy without it.", below=STEP),
    _field("measures", Kind.MATCHES, "What is judged by, by name; those of the strategy without it.", below=MEASURE),
    _field("key", Kind.OBJECT, "By what a user is known again; a cookie `hunqi-user` without it.", below=KEY),
    _field("interval", Kind.DURATION, "How often measures are looked at.", default="5s"),
    _field("keep", Kind.DURATION, "How long tasks of an aborted revision stay for a look.", default="10m"),
    _field("undo_window", Kind.INTEGER, "So many revisions back one may return without steps.", default=3, high=100),
)
POLICY: Final = (
    _field("type", Kind.TEXT, "What is counted.", choices=("tasks", "percent"), required=True),
    _field("value", Kind.INTEGER, "So many tasks, or percent of those there were.", low=1, required=True),
    _field("period", Kind.DURATION, "Within any time of this length, up to `30m`.", default="15s"),
)
RULES: Final = (
    _field("window", Kind.DURATION, "Stabilisation: the safest of what was recommended within it holds, up to `1h`."),
    _field("policies", Kind.OBJECTS, "How much may change.", below=POLICY),
    _field(
        "select",
        Kind.TEXT,
        "Which of several policies holds; `disabled` turns the direction off.",
        choices=("max", "min", "disabled"),
        default="max",
    ),
    _field("tolerance", Kind.NUMBER, "A ratio this near to 1 changes nothing.", default="0.1"),
)
BEHAVIOR: Final = (
    _field("up", Kind.OBJECT, "On the way up; without it at most 100 % or 4 tasks in 15 s, no window.", below=RULES),
    _field("down", Kind.OBJECT, "On the way down; without it 100 % in 15 s, a window of `5m`.", below=RULES),
)
QUEUE: Final = (
    _field(
        "query",
        Kind.TEXT,
        "A metric that the service itself counts (`api/jobs` is one of the service `api`), or PromQL with `source`.",
        required=True,
    ),
    _field("per_replica", Kind.NUMBER, "How much of it is one task's.", required=True),
    _field("source", Kind.TEXT, "The Prometheus server (`hunqi metrics source`) that answers the query."),
)
SLOT: Final = (
    _field("cron", Kind.TEXT, "Five fields: the moment from which on it holds, until that of another.", required=True),
    _field("min", Kind.INTEGER, "The fewest tasks then.", high=1000),
    _field("max", Kind.INTEGER, "The most tasks then.", low=1, high=1000),
    _field("timezone", Kind.TEXT, "Of the five fields, such as `Europe/Berlin`.", default="UTC"),
)
ZERO: Final = (
    _field("cooldown", Kind.DURATION, "How long it has been idle before the last task goes.", default="5m"),
    _field("initial_cooldown", Kind.DURATION, "How long after it first had a task.", default="0s"),
)
SCALE: Final = (
    _field("min", Kind.INTEGER, "The fewest tasks; 0 allows zero.", default=1, high=1000),
    _field("max", Kind.INTEGER, "The most tasks.", low=1, high=1000, required=True),
    _field("cpu", Kind.TEXT, "Of each task on average: `70%` of what it reserves (or its limit), or `0.5` cores."),
    _field("memory", Kind.TEXT, "The same: `80%`, or `400m`."),
    _field("rps", Kind.NUMBER, "Requests a second for each task."),
    _field("concurrency", Kind.NUMBER, "Requests open at a time for each task."),
    _field("p95_ms", Kind.NUMBER, "Above it there are to be more tasks; another measure brings them down."),
    _field("queue", Kind.OBJECT, "Work that waits.", below=QUEUE),
    _field("schedule", Kind.OBJECTS, "Other bounds at times.", below=SLOT),
    _field("behavior", Kind.OBJECT, "How fast it goes.", below=BEHAVIOR),
    _field("zero", Kind.OBJECT, "`true`: no task while there is nothing to do.", below=ZERO, short=Kind.BOOLEAN),
    _field(
        "predict",
        Kind.BOOLEAN,
        "Whether tasks come ahead of load that history foretells, where it does.",
        default=False,
    ),
)
_ORDERS: Final = ("start-first", "stop-first")
_LATER: Final = (
    _field("binding", Kind.MAPPING, "Databases and credentials. Kept for dynamic binding."),
    _field("snapshot", Kind.MAPPING, "How data are saved. Kept for snapshots."),
)
_SHARED: Final = (
    _field(
        "health",
        Kind.OBJECT,
        "The gateway's check of each task; a text is its path.",
        below=HEALTH,
        short=Kind.TEXT,
    ),
    _field("drain", Kind.DURATION, "How long requests in flight are waited for before the stop signal.", default="15s"),
    _field(
        "internal",
        Kind.OBJECT,
        "What the name means inside the app: `gateway` (HTTP services, by default) or `tasks` (`direct` is the same).",
        below=INTERNAL,
        short=Kind.TEXT,
    ),
    _field("order", Kind.TEXT, "Both revisions side by side, or the old one stopped first.", choices=_ORDERS),
    _field("ready_timeout", Kind.DURATION, "How long a deploy waits for it to be healthy.", default="5m"),
)
SERVICE: Final = (
    _field("routes", Kind.OBJECTS, "Ways from outside to a port of the service.", below=ROUTE),
    *_SHARED,
    _field("schedule", Kind.TEXT, "Five fields of cron (UTC): the service is a job that runs then."),
    _field(
        "metrics",
        Kind.OBJECT,
        "Where each task tells what it counts itself, in the text format of Prometheus or OpenMetrics.",
        below=METRICS,
    ),
    _field("scale", Kind.OBJECT, "How many tasks load asks for.", below=SCALE),
    *_LATER,
)
TOP: Final = (
    _field(
        "routes",
        Kind.OBJECTS,
        "Ways from outside, each with its `service`.",
        below=(_field("service", Kind.TEXT, "The service.", required=True), *ROUTE),
    ),
    *_SHARED,
    _field("maintenance", Kind.TEXT, "A page with this text answers instead of the app."),
    _field(
        "rollout",
        Kind.OBJECT,
        "How traffic moves to a new revision: `gray`, `blue-green`, `direct`, or more than the word.",
        below=ROLLOUT,
        short=Kind.TEXT,
    ),
    *_LATER,
)
LATER: Final = tuple(field.name for field in _LATER)
