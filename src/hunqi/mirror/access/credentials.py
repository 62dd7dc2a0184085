"""The ``Authorization`` header as a value (RFC 7617 Basic, RFC 6750 Bearer)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import ClassVar

from hunqi.errors import UserError


class BadCredentials(UserError):
    """An ``Authorization`` header that cannot be understood; the message never repeats it."""

    code: ClassVar[str] = "access.bad_credentials"


@dataclass(frozen=True, slots=True)
class Basic:
    """A name and a password, ours or not."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token, ours or not."""

    token: str = field(repr=False)


def parse_authorization(header: str) -> Basic | Bearer:
    """Parse the header's value; raise :class:`BadCredentials`."""
    scheme, _, rest = header.strip().partition(" ")
    value = rest.strip()
    match scheme.lower():
        case "basic":
            return _parse_basic(value)
        case "bearer" if value and " " not in value:
            return Bearer(value)
        case _:
            raise BadCredentials("the Authorization header is neither Basic nor Bearer, or is empty")


def _parse_basic(value: str) -> Basic:
    try:
        decoded = base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        # "from None": the cause of an encoding error carries the credentials.
        raise BadCredentials(f"the Basic credentials are not base64 ({type(error).__name__})") from None
    try:
        text = decoded.decode()
    except UnicodeDecodeError:
        text = decoded.decode("latin-1")
    name, colon, password = text.partition(":")
    if not colon:
        raise BadCredentials("the Basic credentials have no ':' between name and password")
    return Basic(name, password)
