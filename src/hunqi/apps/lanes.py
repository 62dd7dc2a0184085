"""Who goes which way: conditions on requests, and the lanes of users through an app.

A *lane* is the way of a user through a whole app. Services that the new revision changed have tasks of their own in its
lane; all others serve both. Weights are in hundredths of a percent of users, so that they add up without rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ALL_USERS: Final = 10_000
"""A weight of 100 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A condition on a header: ``kind`` is exact, prefix, regex or present."""

    name: str
    kind: str = "exact"
    value: str = ""


class KeyKind(StrEnum):
    """By what a user is known again."""

    COOKIE = "cookie"
    """Issued by the gateway to whoever has none."""
    HEADER = "header"
    """Sent by the client; who sends none is assigned anew with each request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneKey:
    """The cookie or header whose hash assigns a user."""

    kind: KeyKind = KeyKind.COOKIE
    name: str = "hunqi-user"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneMatch:
    """Requests that go to the new revision whatever the weight: all conditions of one match hold."""

    headers: tuple[Match, ...] = ()
    cookies: tuple[Match, ...] = ()
    query: tuple[Match, ...] = ()
    sources: tuple[str, ...] = ()
    """Networks in CIDR; any of them."""
    users: int = ALL_USERS
    """Hundredths of a percent of users, by the same assignment as the weight."""
