"""What one route asks of the filters in front of it; a filter that no route names costs a request nothing."""

from __future__ import annotations

from typing import Any, Final

from hunqi.apps.model import Cors, Match, RateLimit, RouteSpec
from hunqi.gateway.render.common import JSON, cidr, message, seconds, typed

CORS: Final = "envoy.filters.http.cors"
ALLOW: Final = "envoy.filters.http.rbac"
RATE: Final = "envoy.filters.http.local_ratelimit"
AUTH: Final = "envoy.filters.http.basic_auth"
BODY: Final = "envoy.filters.http.buffer"

_BUFFER: Final = "envoy.extensions.filters.http.buffer.v3."
_RATE_LIMIT: Final = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
_RBAC: Final = "envoy.extensions.filters.http.rbac.v3."
_BASIC: Final = "envoy.extensions.filters.http.basic_auth.v3."
_NOBODY: Final = "-:{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA="
"""Envoy wants a list of users for the filter itself; this one lets nobody in."""


def policy_filters() -> list[JSON]:
    """Return the filters, in the order in which a request meets them: who may come, how often, with how much."""
    return [
        typed(CORS, "envoy.extensions.filters.http.cors.v3.Cors"),
        {**typed(ALLOW, _RBAC + "RBAC"), "disabled": True},
        {**typed(RATE, _RATE_LIMIT, stat_prefix="rate"), "disabled": True},
        {**typed(AUTH, _BASIC + "BasicAuth", users={"inline_string": _NOBODY}), "disabled": True},
        {**typed(BODY, _BUFFER + "Buffer", max_request_bytes=1), "disabled": True},
    ]


def route_policies(spec: RouteSpec) -> JSON:
    """Return the per-filter configuration of a route, without the body limit's."""
    policies: dict[str, Any] = {}
    if spec.cors is not None:
        policies[CORS] = _cors(spec.cors)
    if spec.allow:
        policies[ALLOW] = _allow(spec.allow)
    if spec.rate_limit is not None:
        policies[RATE] = _rate(spec.rate_limit)
    if spec.basic_auth:
        users = {"inline_string": "\n".join(spec.basic_auth)}
        policies[AUTH] = message(_BASIC + "BasicAuthPerRoute", users=users)
    return policies


def body_policy(limit_bytes: int) -> JSON:
    """Return the per-filter configuration that counts a body whose length was not told beforehand."""
    return {BODY: message(_BUFFER + "BufferPerRoute", buffer={"max_request_bytes": limit_bytes})}


def header_match(match: Match) -> JSON:
    """Return the header matcher."""
    matcher: JSON = {"name": match.name}
    match match.kind:
        case "exact" | "prefix":
            matcher["string_match"] = {match.kind: match.value}
        case "regex":
            matcher["string_match"] = {"safe_regex": {"regex": match.value}}
        case _:
            matcher["present_match"] = True
    return matcher


def _cors(cors: Cors) -> JSON:
    origins: list[JSON] = [_origin(each) for each in cors.origins]
    return message(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=origins,
        allow_methods=", ".join(cors.methods),
        allow_headers=", ".join(cors.headers),
        allow_credentials=cors.credentials,
        max_age=str(cors.max_age_s),
    )


def _origin(origin: str) -> JSON:
    if origin == "*":
        return {"safe_regex": {"regex": ".*"}}
    if "*" not in origin:
        return {"exact": origin}
    scheme, _, rest = origin.partition("*")
    return {"safe_regex": {"regex": _quoted(scheme) + "[A-Za-z0-9.-]+" + _quoted(rest.replace("*", ""))}}


def _quoted(text: str) -> str:
    return "".join(each if each.isalnum() else "\\" + each for each in text)


def _allow(networks: tuple[str, ...]) -> JSON:
    principals = [{"remote_ip": cidr(each)} for each in networks]
    rules = {"action": "ALLOW", "policies": {"allow": {"permissions": [{"any": True}], "principals": principals}}}
    return message(_RBAC + "RBACPerRoute", rbac={"rules": rules})


def _rate(limit: RateLimit) -> JSON:
    """Tokens are given a quarter of a second's worth at a time where that is whole, so that bursts stay small."""
    fill, every_s = limit.requests, limit.per_s
    while fill % 2 == 0 and every_s > 0.25:
        fill, every_s = fill // 2, every_s / 2
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return message(
        _RATE_LIMIT,
        stat_prefix="rate",
        token_bucket={
            "max_tokens": max(limit.burst or limit.requests, fill),
            "tokens_per_fill": fill,
            "fill_interval": seconds(max(every_s, 0.05)),
        },
        filter_enabled=always,
        filter_enforced=always,
    )
