"""What an answer means: statuses become errors (one total table), headers become values."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from hunqi.mirror.sources.errors import (
    Forbidden,
    LoopDetected,
    NotFound,
    RangeNotSatisfiable,
    SourceError,
    SourceMisbehaves,
    SourceServerError,
    TooManyRequests,
    Unauthorized,
)
from hunqi.mirror.sources.ratelimit import parse_rate_limit, parse_retry_after
from hunqi.mirror.sources.reply import Reply
from hunqi.mirror.sources.stream import Span
from hunqi.oci.digest import Digest, DigestError

_CONTENT_RANGE = re.compile(r"\s*bytes\s+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\s*", re.IGNORECASE)
_UNSATISFIED = re.compile(r"\s*bytes\s+\*/(\d{1,19})\s*", re.IGNORECASE)


def error_for(source: str, reply: Reply) -> SourceError:
    """Return the error that an unwanted answer means."""
    match reply.status:
        case 401:
            return Unauthorized(source, "answered 401")
        case 403:
            return Forbidden(source, "answered 403")
        case 404 | 410:
            return NotFound(source, f"answered {reply.status}")
        case 416:
            match = _UNSATISFIED.fullmatch(reply.headers.get("Content-Range") or "")
            return RangeNotSatisfiable(source, int(match[1]) if match else None)
        case 429:
            retry_after_s = parse_retry_after(reply.headers.get("Retry-After"), now=_now(reply))
            return TooManyRequests(source, retry_after_s=retry_after_s, rate=parse_rate_limit(reply.headers))
        case 508:
            return LoopDetected(
                source, "answered 508: relays ask each other in a loop; take one of them out of --relay"
            )
        case 408:
            return SourceServerError(source, 408)
        case status if status >= 500:
            return SourceServerError(source, status)
        case status:
            return SourceMisbehaves(source, f"answered {status}, which does not fit")


def parse_span(source: str, reply: Reply, *, start: int, end: int | None) -> Span:
    """Return what the body of a 200 or 206 carries when ``start`` to ``end`` (exclusive) was asked for.

    Raises :class:`SourceMisbehaves` for a 206 that was not asked for, or whose range begins elsewhere or contradicts
    its length.
    """
    if reply.status == 200:
        return Span(start=0, length=reply.length, total_size=reply.length, is_partial=False)
    match = _CONTENT_RANGE.fullmatch(reply.headers.get("Content-Range") or "")
    if match is None:
        raise SourceMisbehaves(source, "answered 206 without saying which range it sends")
    first, last, total = int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3])
    length = last - first + 1
    is_wrong = (
        first != start or length < 1 or (end is not None and last >= end) or (total is not None and last >= total)
    )
    if is_wrong or reply.length not in {None, length}:
        raise SourceMisbehaves(source, f"sends the range {match[0].strip()!r} when {start} to {end} was asked for")
    return Span(start=first, length=length, total_size=total, is_partial=True)


def content_type(reply: Reply) -> str:
    """Return the media type without parameters, lower case."""
    return (reply.headers.get("Content-Type") or "").partition(";")[0].strip().lower()


def content_digest(reply: Reply) -> Digest | None:
    """Return ``Docker-Content-Digest`` if there is one and it is one."""
    try:
        return Digest.parse((reply.headers.get("Docker-Content-Digest") or "").strip())
    except DigestError:
        return None


def content_length(reply: Reply) -> int | None:
    """Return ``Content-Length`` as the header has it (of HEAD too)."""
    text = (reply.headers.get("Content-Length") or "").strip()
    return int(text) if re.fullmatch(r"\d{1,19}", text) else None


def _now(reply: Reply) -> datetime:
    """Return the source's own idea of now, so that a ``Retry-After`` date needs no common clock."""
    try:
        date = parsedate_to_datetime(reply.headers.get("Date") or "")
    except (ValueError, OverflowError):
        return datetime.now(UTC)
    return date if date.tzinfo else date.replace(tzinfo=UTC)
