"""``x-hunqi``: what Compose has no word for. Unknown fields are problems, since a typo here would lose requests."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cronsim import CronSim, CronSimError

from hunqi.apps.compose import fields
from hunqi.apps.compose.fields import Field, Kind
from hunqi.apps.compose.names import is_host
from hunqi.apps.compose.report import show, suggest
from hunqi.apps.compose.section import Section
from hunqi.apps.compose.tree import Node, plain
from hunqi.apps.metrics_spec import MetricsSpec
from hunqi.apps.model import Cors, HealthSpec, Match, Protocol, RateLimit, RouteSpec

_NANO: Final = 10**9
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_VALUE = re.compile(r"[\x20-\x7e\x80-\U0010ffff\t]{0,4096}")
_PATH = re.compile(r"/[\x21-\x22\x24-\x3e\x40-\x7e]{0,1023}")
_URL = re.compile(r"https?://[A-Za-z0-9.\-:\[\]]+(?:/[\x21-\x7e]*)?")
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]{1,20}://[A-Za-z0-9.*\-:\[\]]{1,253}")
_METHOD = re.compile(r"[A-Z]{1,20}|\*")
_METRIC = re.compile(r"[A-Za-z0-9_:*?]{1,200}")
_LOGIN = re.compile(r"[^:\s]{1,128}:\{SHA\}[A-Za-z0-9+/]{27}=")
_ROUTE: Final = RouteSpec(port=1)
_HEALTH: Final = HealthSpec()
_CODES: Final = (301, 302, 303, 307, 308)
PROTOCOLS: Final[Mapping[str, Protocol]] = {
    "http1": Protocol.HTTP1,
    "http2": Protocol.HTTP2,
    "grpc": Protocol.HTTP2,
    "tcp": Protocol.TCP,
    "udp": Protocol.UDP,
}


def hunqi_of(section: Section, known: tuple[Field, ...]) -> Section:
    """Return the ``x-hunqi`` of a service or of the file, checked by its fields."""
    found = section.section("x-hunqi")
    check_fields(found, known)
    return found


def check_fields(section: Section, known: tuple[Field, ...]) -> None:
    """Take in each field of a mapping that is unknown, missing, or plainly of the wrong kind."""
    by_name = {field.name: field for field in known}
    for name, node in section.entries.items():
        field = by_name.get(name)
        if field is None:
            section.problem(name, f"x-hunqi has no field {show(name)}{suggest(name, by_name)}")
        elif not node.null:
            _check_field(section, field, node)
    for field in known:
        if field.required and field.name not in section:
            section.problem(field.name, f"{field.name} is missing: {field.text}")


def _check_field(section: Section, field: Field, node: Node) -> None:
    match field.kind:
        case Kind.OBJECT if node.mapping is not None:
            check_fields(section.section(field.name), field.below)
        case Kind.OBJECTS:
            if node.sequence is None:
                section.problem(field.name, "a list is expected")
            for item in section.items(field.name):
                check_fields(item, field.below)
        case Kind.MATCHES:
            for name, held in section.section(field.name).entries.items():
                if held.mapping is not None:
                    check_fields(section.section(field.name).section(name), field.below)
        case Kind.MAPPING:
            section.section(field.name)
        case Kind.OBJECT if field.short is not None:
            section.text(field.name)
        case _ if node.mapping is not None and field.kind is not Kind.PAIRS:
            section.problem(field.name, "a mapping is not expected here")
        case _ if field.choices:
            section.choice(field.name, field.choices)
        case _:
            pass


def extensions(section: Section) -> dict[str, Any]:
    """Return what later parts read."""
    return {name: plain(section.entries[name]) for name in fields.LATER if name in section}


def seconds(section: Section, key: str, default: float) -> float:
    """Return a duration in seconds."""
    value = section.duration_ns(key)
    return default if value is None else value / _NANO


def health(section: Section, key: str, default: HealthSpec) -> HealthSpec:
    """Return the gateway's check."""
    node = section.get(key)
    if node is None:
        return default
    if node.mapping is None:
        return HealthSpec(path=_path(section, key))
    inner = section.section(key)
    spec = HealthSpec(
        path=_path(inner, "path"),
        port=inner.integer("port", low=1, high=fields.PORT_MAX),
        host=inner.text("host"),
        interval_s=seconds(inner, "interval", _HEALTH.interval_s),
        timeout_s=seconds(inner, "timeout", _HEALTH.timeout_s),
        healthy_after=inner.integer("healthy_after", low=1, high=100) or _HEALTH.healthy_after,
        unhealthy_after=inner.integer("unhealthy_after", low=1, high=100) or _HEALTH.unhealthy_after,
    )
    if spec.interval_s < 0.1 or spec.timeout_s < 0.1:
        inner.report.problem(node, inner.path, "interval and timeout are 100ms or more")
    if spec.host is not None and not is_host(spec.host.lower()):
        inner.problem("host", f"{show(spec.host)} is no host name")
    return spec


def metrics(section: Section) -> MetricsSpec | None:
    """Return where the service tells what it counts."""
    if section.get("metrics") is None:
        return None
    inner = section.section("metrics")
    port, path, names = inner.integer("port", low=1, high=fields.PORT_MAX), _path(inner, "path"), inner.texts("names")
    for text in names:
        if not _METRIC.fullmatch(text):
            inner.problem("names", f"{show(text)} is no pattern for metrics; write jobs_*")
    return MetricsSpec(port=port, path=path or "/metrics", names=names) if port else None


def _path(section: Section, key: str) -> str | None:
    text = section.text(key)
    if text is not None and not _PATH.fullmatch(text):
        section.problem(key, f"{show(text)} is no path; it begins with / and has no ? or #")
        return None
    return text


def schedule(section: Section) -> str | None:
    """Return the five fields of cron."""
    text = section.text("schedule")
    if text is None:
        return None
    try:
        if len(text.split()) != 5:
            raise CronSimError("there are not five fields")
        next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        section.problem("schedule", f"{show(text)} is no schedule of five fields: {error or 'it never comes'}")
        return None
    return text


def route(section: Section, default_port: int | None) -> RouteSpec | None:
    """Return a route, None if it cannot be one; ``default_port`` is the only port that the service exposes."""
    port = section.integer("port", low=1, high=fields.PORT_MAX) if "port" in section else default_port
    redirect = section.text("redirect")
    if port is None and redirect is not None:
        port = 80  # nothing is forwarded
    if port is None:
        section.problem("port", "the port of the container is missing: the service exposes none, or several")
        return None
    protocol = PROTOCOLS[section.choice("protocol", tuple(PROTOCOLS)) or "http1"]
    tls = section.choice("tls", ("auto", "off", "passthrough")) or "auto"
    if tls == "passthrough":
        protocol = Protocol.TCP
    spec = RouteSpec(
        port=port,
        hosts=_hosts(section),
        path=_prefix(section),
        headers=matches(section, "headers", "header"),
        protocol=protocol,
        strip_prefix=section.boolean("strip_prefix") or False,
        replace_prefix=_path(section, "replace_prefix"),
        host_rewrite=_host(section, "host_rewrite"),
        redirect=_redirect(section, redirect),
        redirect_code=_code(section),
        cors=_cors(section),
        body_limit_bytes=section.size_bytes("body_limit"),
        rate_limit=_rate_limit(section),
        basic_auth=_logins(section),
        allow=networks(section, "allow"),
        request_headers=_headers(section, "request_headers"),
        response_headers=_headers(section, "response_headers"),
        timeout_s=seconds(section, "timeout", _ROUTE.timeout_s),
        idle_timeout_s=seconds(section, "idle_timeout", _ROUTE.idle_timeout_s),
        retries=_or(section.integer("retries", high=10), _ROUTE.retries),
        hold_s=seconds(section, "hold", _ROUTE.hold_s),
        tcp_port=section.integer("tcp_port", low=1, high=fields.PORT_MAX) or (443 if tls == "passthrough" else None),
        tls=tls,
    )
    _consistent(section, spec)
    return spec


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _consistent(section: Section, spec: RouteSpec) -> None:
    if spec.protocol in {Protocol.TCP, Protocol.UDP}:
        if spec.tls == "passthrough" and not spec.hosts:
            section.problem("host", "TLS passthrough goes by host names: name them")
        if spec.tls != "passthrough" and spec.tcp_port is None:
            section.problem("tcp_port", f"a {spec.protocol} route has the published port at which it is reached")
        if spec.tls != "passthrough" and spec.hosts:
            section.problem("host", f"{spec.protocol} has no host names: leave them out")
    elif not spec.hosts:
        section.problem("host", "an HTTP route has the host names that lead to it")
    elif spec.tcp_port is not None:
        section.problem(
            "tcp_port", "HTTP routes are reached at the gateway's HTTP ports; protocol: tcp has one of its own"
        )
    if spec.strip_prefix and spec.replace_prefix is not None:
        section.problem("replace_prefix", "strip_prefix and replace_prefix contradict each other")


def _hosts(section: Section) -> tuple[str, ...]:
    found: list[str] = []
    for key in ("host", "hosts"):
        for text in section.texts(key):
            host = text.lower().rstrip(".")
            if not is_host(host):
                section.problem(key, f"{show(text)} is no host name; write shop.example.com or *.example.com")
            else:
                found.append(host)
    return tuple(dict.fromkeys(found))


def _host(section: Section, key: str) -> str | None:
    text = section.text(key)
    if text is not None and (not is_host(text.lower()) or text.startswith("*")):
        section.problem(key, f"{show(text)} is no host name")
        return None
    return text


def _prefix(section: Section) -> str:
    text = section.text("path")
    if text is None:
        return _ROUTE.path
    if not _PATH.fullmatch(text.removeprefix("=")):
        section.problem("path", f"{show(text)} is no path; it begins with / (or =/) and has no ? or #")
        return _ROUTE.path
    return text


def matches(section: Section, key: str, noun: str) -> tuple[Match, ...]:
    """Return the conditions at a key, a name each; those of headers in lower case."""
    found: list[Match] = []
    inner = section.section(key)
    for written, node in inner.entries.items():
        name = written.lower() if noun == "header" else written
        if not _TOKEN.fullmatch(name):
            inner.problem(written, f"{show(name)} is no name of a {noun}")
            continue
        if node.mapping is None:
            found.append(Match(name=name, value=inner.text(written) or ""))
            continue
        how = inner.section(written)
        kinds = [kind for kind in ("exact", "prefix", "regex", "present") if kind in how]
        if len(kinds) != 1:
            inner.problem(written, "one of exact, prefix, regex and present is expected")
            continue
        value = "" if kinds[0] == "present" else how.text(kinds[0]) or ""
        if kinds[0] == "regex" and not _is_regex(value):
            how.problem("regex", f"{show(value)} is no regular expression")
        found.append(Match(name=name, kind=kinds[0], value=value))
    return tuple(found)


def _is_regex(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return False
    return len(text) <= 512


def _redirect(section: Section, text: str | None) -> str | None:
    if text is not None and text != "https" and not _URL.fullmatch(text):
        section.problem("redirect", f"{show(text)} is neither https nor a URL")
        return None
    return text


def _code(section: Section) -> int:
    code = _or(section.integer("redirect_code", low=301, high=308), _ROUTE.redirect_code)
    if code not in _CODES:
        section.problem("redirect_code", f"{code} is none of 301, 302, 303, 307, 308")
    return code


def _cors(section: Section) -> Cors | None:
    if "cors" not in section:
        return None
    inner = section.section("cors")
    origins, methods = inner.texts("origins"), inner.texts("methods")
    for text in origins:
        if not _ORIGIN.fullmatch(text):
            inner.problem("origins", f"{show(text)} is no origin; write https://shop.example.com")
    for text in methods:
        if not _METHOD.fullmatch(text):
            inner.problem("methods", f"{show(text)} is no method")
    for text in inner.texts("headers"):
        if not _TOKEN.fullmatch(text):
            inner.problem("headers", f"{show(text)} is no name of a header")
    return Cors(
        origins=origins,
        methods=methods or ("GET", "HEAD", "POST"),
        headers=inner.texts("headers"),
        credentials=inner.boolean("credentials") or False,
        max_age_s=int(seconds(inner, "max_age", 600)),
    )


def _rate_limit(section: Section) -> RateLimit | None:
    if "rate_limit" not in section:
        return None
    inner = section.section("rate_limit")
    requests, per_s = inner.integer("requests", low=1), seconds(inner, "per", 1.0)
    if per_s < 0.05:
        inner.problem("per", "it is 50ms or more")
    return RateLimit(requests=requests or 1, per_s=per_s, burst=inner.integer("burst", low=1))


def _logins(section: Section) -> tuple[str, ...]:
    lines = section.texts("basic_auth")
    for line in lines:
        if not _LOGIN.fullmatch(line):
            section.problem("basic_auth", "a line is user:{SHA}…, as `htpasswd -s` writes it")
    return lines


def networks(section: Section, key: str) -> tuple[str, ...]:
    """Return networks in CIDR."""
    found: list[str] = []
    for text in section.texts(key):
        try:
            found.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            section.problem(key, f"{show(text)} is no network; write 10.0.0.0/8")
    return tuple(found)


def _headers(section: Section, key: str) -> dict[str, str]:
    found = {name: value or "" for name, value in section.pairs(key).items()}
    for name, value in found.items():
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            section.problem(key, f"{show(name)} and its value can be no header")
    return found
