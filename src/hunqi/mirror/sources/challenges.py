"""``WWW-Authenticate`` as registries use it (RFC 9110, 11.6.1; distribution-spec's token scheme): Bearer and Basic."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hunqi.mirror.sources.urls import Url, UrlError


@dataclass(frozen=True, slots=True)
class Bearer:
    """Fetch a token at ``realm`` for ``service`` and ``scope``."""

    realm: Url
    service: str
    scope: str


@dataclass(frozen=True, slots=True)
class Basic:
    """Send user name and password."""


Challenge = Bearer | Basic

_PARAMETER = re.compile(r"""\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)""")
_SCHEME = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)(?:\s+|$)")


def parse_challenges(values: Sequence[str], home: Url) -> tuple[Challenge, ...]:
    """Return the challenges that can be answered, in order; a relative realm is of ``home``. Nonsense is skipped."""
    found: list[Challenge] = []
    for value in values:
        for scheme, parameters in _split(value):
            if scheme == "basic":
                found.append(Basic())
            elif scheme == "bearer" and parameters.get("realm"):
                try:
                    realm = home.join(parameters["realm"])
                except UrlError:
                    continue
                found.append(Bearer(realm, parameters.get("service", ""), parameters.get("scope", "")))
    return tuple(found)


def _split(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    position = 0
    while match := _SCHEME.match(value, position):
        position = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(value, position):
            quoted, plain = parameter[2], parameter[3]
            text = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters[parameter[1].lower()] = text
            position = parameter.end()
        yield match[1].lower(), parameters
