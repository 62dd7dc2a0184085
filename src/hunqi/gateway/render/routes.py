"""Routes from outside: hosts, paths and headers to the Swarm services behind them.

A route becomes one to five entries of Envoy's: redirect to https, body too big, and for the forwarding one entry for
safe methods (retried when the answer fails to come) and one for all others (retried only while nothing was sent). In a
host, entries are tried exact path first, then longest prefix, then most header conditions.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from hunqi.apps.model import Protocol, RouteSpec
from hunqi.gateway.model import AppLane, Edge, InternalRoute, Mirror, Route, RouteTable, Target
from hunqi.gateway.render.common import (
    ACME,
    HEADER_HELD,
    HEADER_HOLD,
    HEADER_LANE,
    HEADER_MIRROR,
    HOLD,
    HOLD_AGENT,
    JSON,
    PAGE,
    header,
    headers,
    message,
    metadata,
    seconds,
)
from hunqi.gateway.render.lanes import lane_condition, lane_host, lane_questions, left_behind, mirror_policies
from hunqi.gateway.render.policies import body_policy, header_match, route_policies

PUBLIC: Final = "public"
"""The route configuration of everything that is reached from outside."""
SAFE_METHODS: Final = "GET|HEAD|OPTIONS"

_LARGEST: Final = 2**63 - 1
_CHALLENGE: Final = "/.well-known/acme-challenge/"
_OURS: Final = [HEADER_HOLD, HEADER_HELD, HEADER_LANE, HEADER_MIRROR, "x-envoy-external-address"]
_RETRY_SAFE: Final = "connect-failure,refused-stream,reset,reset-before-request"
_RETRY_UNSENT: Final = "connect-failure,refused-stream,reset-before-request"
_ATTEMPTS_UNSENT: Final = 3
"""Failed connections until the task is given up (``clusters``), and one more for whoever takes over."""
_CODES: Final[Mapping[int, str]] = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
_SAFE_METHOD: Final[JSON] = {"name": ":method", "string_match": {"safe_regex": {"regex": SAFE_METHODS}}}
_NO_UPGRADE: Final[JSON] = {"name": "upgrade", "present_match": True, "invert_match": True}
_ROUTES_PAGE: Final[JSON] = {
    "match": {"path": PAGE},
    "route": {"cluster": HOLD_AGENT, "timeout": "5s"},
    "request_headers_to_remove": ["cookie"],
}
_NOTHING: Final[JSON] = {"match": {"prefix": "/"}, "direct_response": {"status": 404}}


def is_http(route: Route) -> bool:
    """Whether Envoy reads the route's requests (and does not only carry its bytes)."""
    return route.spec.protocol in {Protocol.HTTP1, Protocol.HTTP2} and route.spec.tls != "passthrough"


def group_hosts(table: RouteTable) -> dict[str, list[Route]]:
    """Return the HTTP routes by host, in a stable order; ``*`` is always there."""
    hosts: dict[str, list[Route]] = defaultdict(list)
    for route in table.routes:
        if is_http(route):
            for host in route.spec.hosts or ("*",):
                hosts[host.lower()].append(route)
    hosts.setdefault("*", [])
    return dict(sorted(hosts.items()))


def public_frame() -> JSON:
    """Return the route configuration ``public`` without its hosts."""
    return message(
        "envoy.config.route.v3.RouteConfiguration",
        name=PUBLIC,
        ignore_port_in_host_matching=True,
        request_headers_to_remove=_OURS,
        most_specific_header_mutations_wins=True,
    )


def render_host(host: str, routes: Collection[Route], table: RouteTable) -> JSON:
    """Return the virtual host: whatever no route of it takes gets a 404 that says nothing."""
    entries = [_challenge(token, answer) for token, answer in sorted(table.challenges.items())]
    if table.edge.acme_challenge:
        entries.append({"match": {"prefix": _CHALLENGE}, "route": {"cluster": ACME, "timeout": "5s"}})
    entries.append(_ROUTES_PAGE)
    lanes = lanes_of(routes, table)
    entries += lane_questions(lanes)
    for route in sorted(routes, key=_precedence):
        entries += _entries(route, table.edge, host, lanes)
    for route in sorted(left_behind(routes, lanes), key=_precedence):
        entries += _entries(route, table.edge, host, lanes)
    entries.append(_NOTHING)
    rendered: JSON = {"name": host, "domains": [host], "routes": entries}
    return {**rendered, **lane_host(lanes, routes)} if lanes else rendered


def lanes_of(routes: Collection[Route], table: RouteTable) -> list[AppLane]:
    """Return the lanes of the apps that have some of ``routes``."""
    apps = {each.app for each in routes} if table.lanes else ()
    return [each for each in table.lanes if each.app in apps]


def render_targets(targets: Collection[Target]) -> JSON:
    """Return the part of a route action that says whom to send to.

    Without a target, requests wait at the hold; the caller adds the header that says for which service.
    """
    live = [each for each in targets if each.weight > 0]
    if not live:
        return {"cluster": HOLD}
    if len(live) == 1:
        return {"cluster": live[0].cluster}
    return {"weighted_clusters": {"clusters": [{"name": each.cluster, "weight": each.weight} for each in live]}}


def route_metadata(route: Route | InternalRoute) -> JSON:
    """Return what the log says of requests by this route."""
    named = metadata(app=route.app, service=route.service)
    return metadata(app=route.app, service=route.service, lane=route.lane) if route.lane else named


def held_for(route: Route | InternalRoute, port: int) -> str:
    """Return what a request without any target waits for (``hunqi.gateway.hold``)."""
    return f"{route.app}/{route.service}:{port}" + (f"@{route.lane}" if route.lane else "")


def forwarding(match: JSON, entry: JSON, action: JSON, *, retries: int, mirror: Mirror | None = None) -> list[JSON]:
    """Return the entries of one route: safe methods apart, so that nothing else is ever sent twice."""
    if mirror and (copies := mirror_policies(mirror)):
        copied = {**action, "request_mirror_policies": copies}
        plain = _also(_also(match, _SAFE_METHOD), _NO_UPGRADE)
        first = forwarding(plain, entry, copied, retries=retries)[:1]
        return first + forwarding(match, entry, action, retries=retries)
    unsent = {**action, "retry_policy": _retry(_RETRY_UNSENT, _ATTEMPTS_UNSENT)}
    if retries <= 0:
        return [{"match": match, **entry, "route": unsent}]
    safe_match = _also(match, _SAFE_METHOD)
    safe = {**action, "retry_policy": _retry(_RETRY_SAFE, max(retries, _ATTEMPTS_UNSENT))}
    return [{"match": safe_match, **entry, "route": safe}, {"match": match, **entry, "route": unsent}]


@functools.cache
def _retry(on: str, attempts: int) -> JSON:
    return {
        "retry_on": on,
        "num_retries": attempts,
        "retry_host_predicate": [_PREVIOUS],
        "host_selection_retry_max_attempts": 5,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.050s"},
    }


_PREVIOUS: Final[JSON] = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": message("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
}


def _challenge(token: str, answer: str) -> JSON:
    return {
        "match": {"path": _CHALLENGE + token},
        "direct_response": {"status": 200, "body": {"inline_string": answer}},
        "response_headers_to_add": [header("content-type", "application/octet-stream")],
    }


def _precedence(route: Route) -> tuple[bool, int, int, str, str]:
    path = route.spec.path
    exact = path.startswith("=")
    return (not exact, -len(path.removeprefix("=").rstrip("/")), -len(route.spec.headers), route.app, route.service)


def _entries(route: Route, edge: Edge, host: str, lanes: Collection[AppLane]) -> list[JSON]:
    spec = route.spec
    match = _match(spec)
    if condition := lane_condition(route, lanes):
        match = _also(match, condition)
    entries: list[JSON] = []
    if edge.redirect_to_https and spec.tls != "off" and host != "*" and spec.redirect is None:
        entries.append({"match": _over_plain_http(match), "redirect": _to_https(edge, 308)})
    named = {"metadata": route_metadata(route)}
    if route.maintenance is not None:
        return [*entries, {"match": match, **named, **_maintenance(route.maintenance)}]
    if spec.redirect is not None:
        where = match if spec.redirect != "https" else _over_plain_http(match)
        return [*entries, {"match": where, **named, "redirect": _redirect(spec, edge)}]
    return entries + _forwarded(route, match, named)


def _forwarded(route: Route, match: JSON, named: JSON) -> list[JSON]:
    spec = route.spec
    entry: JSON = {**named}
    action = _action(route)
    added = headers(spec.request_headers)
    if action.get("cluster") == HOLD:
        added.append(header(HEADER_HOLD, held_for(route, spec.port)))
    if route.lane:
        added.append(header(HEADER_LANE, route.lane))
    if added:
        entry["request_headers_to_add"] = added
    if spec.response_headers:
        entry["response_headers_to_add"] = headers(spec.response_headers)
    policies = route_policies(spec)
    if spec.body_limit_bytes is None:
        return forwarding(match, _with(entry, policies), action, retries=spec.retries, mirror=route.mirror)
    told = {"name": "content-length", "present_match": True}
    too_much = {"name": "content-length", "range_match": {"start": spec.body_limit_bytes + 1, "end": _LARGEST}}
    counted = {**policies, **body_policy(spec.body_limit_bytes)}
    return [
        {"match": _also(match, too_much), **named, "direct_response": {"status": 413}},
        *forwarding(_also(match, told), _with(entry, policies), action, retries=spec.retries),
        *forwarding(_without_body(match), _with(entry, policies), action, retries=spec.retries, mirror=route.mirror),
        *forwarding(match, _with(entry, counted), action, retries=0),
    ]


def _action(route: Route) -> JSON:
    spec = route.spec
    action: dict[str, Any] = {
        **render_targets(route.targets),
        "timeout": seconds(spec.timeout_s),
        "idle_timeout": seconds(spec.idle_timeout_s),
    }
    if spec.host_rewrite:
        action["host_rewrite_literal"] = spec.host_rewrite
    prefix = spec.path.removeprefix("=")
    if spec.strip_prefix and prefix != "/":
        action["regex_rewrite"] = _rewrite(prefix, "")
    elif spec.replace_prefix is not None:
        action["regex_rewrite"] = _rewrite(prefix, spec.replace_prefix)
    return action


def _rewrite(prefix: str, replacement: str) -> JSON:
    """By whole segments: ``/shop`` and ``/shop/x`` become ``/`` and ``/x`` (or what is to stand instead)."""
    quoted = "".join(each if each.isalnum() or each in "/-_" else "\\" + each for each in prefix.rstrip("/"))
    instead = replacement.rstrip("/").replace("\\", "\\\\")
    return {"pattern": {"regex": f"^{quoted}/*(.*)$"}, "substitution": f"{instead}/\\1"}


def _match(spec: RouteSpec) -> JSON:
    path: JSON
    if spec.path.startswith("="):
        path = {"path": spec.path[1:]}
    elif spec.path.rstrip("/"):
        path = {"path_separated_prefix": spec.path.rstrip("/")}
    else:
        path = {"prefix": "/"}
    if spec.headers:
        path["headers"] = [header_match(each) for each in spec.headers]
    return path


def _also(match: JSON, condition: JSON) -> JSON:
    return {**match, "headers": [*match.get("headers", ()), condition]}


def _without_body(match: JSON) -> JSON:
    return _also(match, _SAFE_METHOD)


def _over_plain_http(match: JSON) -> JSON:
    return _also(match, {"name": "x-forwarded-proto", "string_match": {"exact": "http"}})


def _to_https(edge: Edge, code: int) -> JSON:
    redirect: JSON = {"https_redirect": True, "response_code": _CODES[code]}
    if edge.https_port != 443:
        redirect["port_redirect"] = edge.https_port
    return redirect


def _redirect(spec: RouteSpec, edge: Edge) -> JSON:
    code = spec.redirect_code if spec.redirect_code in _CODES else 308
    if spec.redirect == "https":
        return _to_https(edge, code)
    url = urlsplit(spec.redirect or "")
    redirect: JSON = {"response_code": _CODES[code]}
    if url.scheme:
        redirect["scheme_redirect"] = url.scheme
    if url.hostname:
        redirect["host_redirect"] = url.hostname
    if url.port:
        redirect["port_redirect"] = url.port
    if url.path.rstrip("/"):
        redirect["path_redirect"] = url.path + (f"?{url.query}" if url.query else "")
    return redirect


def _maintenance(text: str) -> JSON:
    return {
        "direct_response": {"status": 503, "body": {"inline_string": text}},
        "response_headers_to_add": [
            header("content-type", "text/html; charset=utf-8" if text.lstrip().startswith("<") else "text/plain"),
            header("retry-after", "30"),
            header("cache-control", "no-store"),
        ],
    }


def _with(entry: JSON, policies: JSON) -> JSON:
    return {**entry, "typed_per_filter_config": policies} if policies else entry
