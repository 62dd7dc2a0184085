"""Lanes in the table: who is in one, which routes it has, and what is wrong with its conditions. Pure.

``user_number`` is what says where a user belongs. The gateways compute the same in Lua (``render/lane.lua``), and so do
all of them at all times, so that a rising weight only ever moves users into the lane.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from hunqi.apps.lanes import ALL_USERS, KeyKind, LaneKey, LaneMatch
from hunqi.apps.model import Protocol
from hunqi.apps.serving import Lane, Serving
from hunqi.gateway.faults import TOKEN, match_faults
from hunqi.gateway.model import AppLane, InternalRoute, Mirror, Route

LONGEST_KEY: Final = 4096
"""Bytes of a longer cookie or header that count: its first half and its last."""
_WORD: Final = 0xFFFFFFFF
_OURS: Final = "x-hunqi-"


def user_number(salt: str, value: bytes) -> int:
    """Return the number, from 0 to 9,999, of the user whom ``value`` names.

    FNV-1a of 32 bits over the salt, a zero byte and the value, mixed at the end as MurmurHash3 does it: FNV alone is
    far from even in its upper bits for short texts.
    """
    if len(value) > LONGEST_KEY:
        value = value[: LONGEST_KEY // 2] + value[-LONGEST_KEY // 2 :]
    number = 0x811C9DC5
    for each in salt.encode() + b"\0" + value:
        number = ((number ^ each) * 0x01000193) & _WORD
    number = ((number ^ number >> 16) * 0x85EBCA6B) & _WORD
    number = ((number ^ number >> 13) * 0xC2B2AE35) & _WORD
    return (number ^ number >> 16) % ALL_USERS


def app_lane(serving: Serving) -> AppLane | None:
    """Return who of the app's requests from outside are in its lane; None where nobody can be."""
    lane = serving.lane
    if lane is None or (lane.weight <= 0 and not lane.matches):
        return None
    return AppLane(
        app=serving.app, name=lane.name, salt=lane.salt, weight=lane.weight, matches=lane.matches, key=lane.key
    )


def mirrored(route: Route, inside: Iterable[Route], lane: Lane) -> Route:
    """Return the stable ``route`` with its mirror: tasks of the lane alone, found by the routes ``inside`` it."""
    if lane.mirror <= 0 or route.spec.protocol not in {Protocol.HTTP1, Protocol.HTTP2}:
        return route
    own = {each.cluster for each in route.targets}
    same = [each for each in inside if (each.service, each.spec.port) == (route.service, route.spec.port)]
    targets = {target.cluster: target for each in same for target in each.targets if target.cluster not in own}
    if not targets:
        return route
    mirror = Mirror(lane=lane.name, share=lane.mirror, targets=tuple(targets.values()))
    return replace(route, mirror=mirror)


def lanes_inside(name: str, stable: Collection[InternalRoute], inside: Iterable[InternalRoute]) -> list[InternalRoute]:
    """Return what of the routes ``inside`` the lane ``name`` differs from the ``stable`` ones.

    A service that only the lane has is there for everybody who asks for it: nobody of the stable revision does.
    """
    known = {(each.host, each.port): each for each in stable}
    routes: list[InternalRoute] = []
    for each in inside:
        other = known.get((each.host, each.port))
        if other is None:
            routes.append(each)
        elif each.targets != other.targets and each.protocol is not Protocol.TCP:
            routes.append(replace(each, lane=name))
    return routes


def sound_lane(lane: AppLane) -> tuple[AppLane | None, list[str]]:
    """Return the lane without the conditions that Envoy would not take, and a sentence on each of those.

    A lane whose users cannot be told apart gets nobody.
    """
    said = [f"nobody is sent to {lane.name}: {fault}" for fault in key_faults(lane.key)]
    if said:
        return None, said
    matches: list[LaneMatch] = []
    for each in lane.matches:
        faults = lane_match_faults(each)
        if not faults:
            matches.append(each)
        said += [f"a match of {lane.name} chooses nobody: {fault}" for fault in faults]
    sound = lane if len(matches) == len(lane.matches) else replace(lane, matches=tuple(matches))
    return (sound if sound.weight > 0 or sound.matches else None), said


def key_faults(key: LaneKey) -> list[str]:
    """Return what is wrong with the cookie or header by which users are told apart, each a sentence."""
    if not TOKEN.fullmatch(key.name):
        return [f"{key.name!r} is no name of a {key.kind.value}"]
    if key.kind is KeyKind.HEADER and key.name.lower().startswith(_OURS):
        return [f"header {key.name} is the gateway's own"]
    return []


def lane_match_faults(match: LaneMatch) -> list[str]:
    """Return what is wrong with a match, each a sentence with what to do."""
    faults: list[str] = []
    for each in match.headers:
        faults += match_faults(each)
        if each.name.lower().startswith(_OURS):
            faults.append(f"header {each.name} is the gateway's own")
    for each in match.cookies:
        faults += match_faults(each, what="cookie")
    for each in match.query:
        faults += match_faults(each, what="query parameter")
    for each in match.sources:
        try:
            ipaddress.ip_network(each, strict=False)
        except ValueError:
            faults.append(f"source {each!r} is no network: write 10.0.0.0/8 or an address")
    if not 0 < match.users <= ALL_USERS:
        faults.append(f"users is from 1 to {ALL_USERS} hundredths of a percent, not {match.users}")
    return faults
