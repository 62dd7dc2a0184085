"""Lanes in Envoy: a host some of whose routes are for users of a revision under way.

Such a host, and no other, has a small Lua script in front of its routes (``lane.lua``). It finds or makes the user's
id, computes the user's number and says in a header of its own (a *fact*, gone again before the request is sent on)
which lane the request is in; routes match on that. Conditions on headers, cookies and queries are routes too, by which
nothing is ever sent: the script has Envoy try them. All of it is in the route configuration, so that a change of
weights changes no listener and ends no connection.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hunqi.apps.lanes import KeyKind, LaneMatch
from hunqi.apps.model import Match
from hunqi.gateway.model import AppLane, Mirror, Route
from hunqi.gateway.render.common import (
    HEADER_LANE,
    HEADER_MIRROR,
    HOLD,
    JSON,
    METADATA,
    header,
    message,
    metadata,
    typed,
)
from hunqi.gateway.render.policies import header_match, neutral_policies, string_match

LANES: Final = METADATA
"""The filter's name: under it Envoy lets a script read the metadata of routes."""

_LUA: Final = "envoy.extensions.filters.http.lua.v3."
_FACT: Final = "x-hunqi-in-"
_ASK: Final = "x-hunqi-ask"


def lane_filter() -> JSON:
    """Return the filter: without a script, and off wherever no host says otherwise."""
    return {**typed(LANES, _LUA + "Lua", clear_route_cache={"value": False}), "disabled": True}


def lane_condition(route: Route, lanes: Collection[AppLane]) -> JSON | None:
    """Return the header that the route asks for beyond its own: none where its app has no lane."""
    if not any(each.app == route.app for each in lanes):
        return None
    name = _FACT + route.app
    if route.lane:
        return {"name": name, "string_match": {"exact": route.lane}}
    return {"name": name, "present_match": True, "invert_match": True}


def left_behind(routes: Collection[Route], lanes: Collection[AppLane]) -> list[Route]:
    """Return the stable routes of places where the lane has none, as routes of the lane."""
    names = {each.app: each.name for each in lanes}
    taken = {_place(each) for each in routes if each.lane}
    return [
        replace(each, lane=names[each.app], mirror=None)
        for each in routes
        if not each.lane and each.app in names and _place(each) not in taken
    ]


def lane_questions(lanes: Iterable[AppLane]) -> list[JSON]:
    """Return the routes by which the script asks which of the matches hold: one answer for all apps of the host."""
    asking = [[(lane, each) for each in enumerate(lane.matches) if _asks(each[1])] for lane in lanes]
    sets = itertools.product(*([*some, None] for some in asking if some))
    found = [[each for each in some if each] for some in sets]
    return [
        {
            "match": _conditions([(_ask(lane, number), match) for lane, (number, match) in some]),
            "metadata": metadata(inside=";" + "".join(f"{lane.app};" for lane, _ in some)),
            "route": {"cluster": HOLD},
        }
        for some in sorted(found, key=len, reverse=True)
        if some
    ]


def lane_host(lanes: Collection[AppLane], routes: Collection[Route]) -> JSON:
    """Return what a host with lanes says beyond its routes."""
    context: JSON = {"lanes": [_plan(each) for each in lanes]}
    script = message(_LUA + "LuaPerRoute", source_code={"inline_string": _script()}, filter_context=context)
    cookies = {each.key.name for each in lanes if each.key.kind is KeyKind.COOKIE}
    return {
        # Which filters a request meets is settled before its lane is known: all that any route of the host wants.
        "typed_per_filter_config": {LANES: script, **neutral_policies(each.spec for each in routes)},
        "request_headers_to_remove": [_ASK, *(_FACT + each.app for each in lanes)],
        "response_headers_to_add": [
            header("set-cookie", f"%DYNAMIC_METADATA({METADATA}:cookie{number})%", append=True, keep_empty=False)
            for number in range(1, len(cookies) + 1)
        ],
    }


def mirror_policies(mirror: Mirror) -> list[JSON]:
    """Return whom copies are sent to; they say what they are."""
    marks = [{"append": header(HEADER_LANE, mirror.lane)}, {"append": header(HEADER_MIRROR, "1")}]
    return [
        {
            "cluster": each.cluster,
            "runtime_fraction": {"default_value": {"numerator": mirror.share * each.weight, "denominator": "MILLION"}},
            "disable_shadow_host_suffix_append": True,
            "request_headers_mutations": marks,
        }
        for each in mirror.targets
        if each.weight > 0
    ]


@functools.cache
def _script() -> str:
    return Path(__file__).with_name("lane.lua").read_text(encoding="utf-8")


def _place(route: Route) -> object:
    return route.app, route.spec.path.rstrip("/"), route.spec.headers


def _plan(lane: AppLane) -> JSON:
    return {
        "app": lane.app,
        "name": lane.name,
        "salt": lane.salt,
        "fact": _FACT + lane.app,
        "kind": lane.key.kind.value,
        "key": lane.key.name if lane.key.kind is KeyKind.COOKIE else lane.key.name.lower(),
        "weight": lane.weight,
        "matches": [
            {
                "users": match.users,
                "sources": [_network(each) for each in match.sources],
                "ask": _ask(lane, number) if _asks(match) else "",
            }
            for number, match in enumerate(lane.matches)
        ],
    }


def _asks(match: LaneMatch) -> bool:
    return bool(match.headers or match.cookies or match.query)


def _ask(lane: AppLane, number: int) -> str:
    return f"{lane.app}/{number};"


def _network(text: str) -> JSON:
    network = ipaddress.ip_network(text, strict=False)
    return {"address": str(network.network_address), "length": network.prefixlen}


def _conditions(asked: Iterable[tuple[str, LaneMatch]]) -> JSON:
    headers: list[JSON] = []
    cookies: list[JSON] = []
    query: list[JSON] = []
    for ask, match in asked:
        headers.append({"name": _ASK, "string_match": {"contains": f";{ask}"}})
        headers += [header_match(each) for each in match.headers]
        cookies += [{"name": each.name, "string_match": _cookie(each)} for each in match.cookies]
        query += [header_match(each) for each in match.query]
    conditions: dict[str, Any] = {"prefix": "/", "headers": headers}
    if cookies:
        conditions["cookies"] = cookies
    if query:
        conditions["query_parameters"] = query
    return conditions


def _cookie(match: Match) -> JSON:
    return string_match(match) or {"safe_regex": {"regex": ".*"}}
