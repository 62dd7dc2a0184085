"""What one route asks of the filters in front of it; a filter that no route names costs a request nothing."""

from __future__ import annotations

from collections.abc import Iterable
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
_MATCHING: Final = "envoy.extensions.common.matching.v3."
_SKIP: Final = "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"
_NEVER: Final[JSON] = {"default_value": {"numerator": 0, "denominator": "HUNDRED"}}
_UNUSED: Final[JSON] = {"max_tokens": 1, "fill_interval": "1s"}
_NOBODY: Final = "-:{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA="
"""Envoy wants a list of users for the filter itself; this one lets nobody in."""


def policy_filters() -> list[JSON]:
    """Return the filters, in the order in which a request meets them: who may come, how often, with how much."""
    return [
        typed(CORS, "envoy.extensions.filters.http.cors.v3.Cors"),
        {**typed(ALLOW, _RBAC + "RBAC"), "disabled": True},
        {**typed(RATE, _RATE_LIMIT, stat_prefix="rate"), "disabled": True},
        {**_auth_filter(), "disabled": True},
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


def neutral_policies(specs: Iterable[RouteSpec]) -> JSON:
    """Return, for a host, each filter that any of its routes wants, so that it is there and lets everything pass.

    A route's own configuration takes the place of it.
    """
    policies: dict[str, Any] = {}
    for spec in specs:
        if spec.allow:
            policies[ALLOW] = message(_RBAC + "RBACPerRoute")
        if spec.rate_limit is not None:
            policies[RATE] = message(_RATE_LIMIT, stat_prefix="rate", token_bucket=_UNUSED, filter_enabled=_NEVER)
        if spec.basic_auth:
            policies[AUTH] = message(_MATCHING + "ExtensionWithMatcherPerRoute", xds_matcher={"on_no_match": _skip()})
        if spec.body_limit_bytes is not None:
            policies[BODY] = message(_BUFFER + "BufferPerRoute", disabled=True)
    return policies


def body_policy(limit_bytes: int) -> JSON:
    """Return the per-filter configuration that counts a body whose length was not told beforehand."""
    return {BODY: message(_BUFFER + "BufferPerRoute", buffer={"max_request_bytes": limit_bytes})}


def header_match(match: Match) -> JSON:
    """Return the header matcher."""
    text = string_match(match)
    return {"name": match.name, "string_match": text} if text else {"name": match.name, "present_match": True}


def string_match(match: Match) -> JSON | None:
    """Return the matcher of the value; None if any will do."""
    match match.kind:
        case "exact" | "prefix":
            return {match.kind: match.value}
        case "regex":
            return {"safe_regex": {"regex": match.value}}
        case _:
            return None


def _auth_filter() -> JSON:
    """A filter of passwords cannot be told to let everybody pass; it can be skipped, which nothing here asks for."""
    never = {
        "single_predicate": {
            "input": typed("method", "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=":method"),
            "value_match": {"exact": "none"},
        }
    }
    basic = typed(AUTH, _BASIC + "BasicAuth", users={"inline_string": _NOBODY})
    matchers = {"matcher_list": {"matchers": [{"predicate": never, "on_match": _skip()}]}}
    return typed(AUTH, _MATCHING + "ExtensionWithMatcher", extension_config=basic, xds_matcher=matchers)


def _skip() -> JSON:
    return {"action": {"name": "skip", "typed_config": message(_SKIP)}}


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
