"""Lists in pages: ``{"items": […], "next": cursor or null}``; a cursor is opaque and is not a number to count with."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Query

from hunqi.api.errors import CursorError

T = TypeVar("T")
U = TypeVar("U")
MOST: Final = 200

Limit = Annotated[int, Query(ge=1, le=MOST, description="How many items at most.")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next` of the page before.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A page of a list. ``next`` asks for the following one; null at the end."""

    items: tuple[T, ...]
    next: str | None = None


def page_of(items: Iterable[T], *, key: Callable[[T], str], limit: int, cursor: str | None) -> Page[T]:
    """Return the page after ``cursor`` of all ``items``, ordered by ``key``, which must be unique."""
    after = None if cursor is None else parse_cursor(cursor)
    rest = sorted((item for item in items if after is None or key(item) > after), key=key)
    more = len(rest) > limit
    return Page(items=tuple(rest[:limit]), next=make_cursor(key(rest[limit - 1])) if more else None)


def make_cursor(key: str) -> str:
    """Return the cursor after the item with this key."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def parse_cursor(cursor: str) -> str:
    """Return the key that a cursor was made of. Raises ``CursorError``."""
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise CursorError("this cursor is none that a list gave out: begin without one") from error
