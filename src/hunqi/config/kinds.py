"""The kinds of values that settings have: how each is read from text, written as text, and explained."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import SplitResult, urlsplit

from hunqi.errors import UserError
from hunqi.kit.units import (
    DURATION_RULE,
    PERCENT_RULE,
    SIZE_RULE,
    UnitError,
    format_duration,
    format_percent,
    format_size,
    parse_duration,
    parse_percent,
    parse_size,
)
from hunqi.mirror.settings import Address, OnDisconnect
from hunqi.oci.reference import is_host


class RuleError(UserError):
    """A text that is not of its kind; ``rule`` says what is."""

    code: ClassVar[str] = "config.rule"

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one kind of value is read and shown. Values are ``Any``: each kind has a type of its own."""

    name: str
    metavar: str
    parse: Callable[[str], Any]
    """Raises :class:`RuleError` or :class:`~hunqi.kit.units.UnitError`."""
    show: Callable[[Any], str] = str
    rule: str
    example: str

    def read(self, text: str) -> Any:
        """Return the value of ``text``; raise :class:`RuleError`."""
        try:
            return self.parse(text)
        except UnitError as error:
            raise RuleError(error.rule) from error


def _parse_address(text: str) -> Address:
    host, colon, port = text.strip().rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    bracketed = bare != host
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535 or (":" in bare and not bracketed):
        raise RuleError(_ADDRESS_RULE)
    if not re.fullmatch(r"[0-9a-fA-F:.]+" if bracketed else r"[0-9A-Za-z.-]+", bare):
        raise RuleError(_ADDRESS_RULE)
    return Address(bare, int(port))


def parse_url(text: str) -> str:
    """Return ``text`` as ``scheme://host[:port]`` if it is an origin's URL; raise :class:`RuleError`."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise RuleError(_URL_RULE) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or not is_host(_host_of(parts)):
        raise RuleError(_URL_RULE)
    if parts.username or parts.password:
        raise RuleError("a URL carries no user or password; they belong into credentials-file or credential-helper")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise RuleError("a registry is named by scheme, host and port only: the path /v2/ is implied")
    return f"{parts.scheme}://{parts.netloc}"


def _host_of(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def parse_proxy(text: str) -> str:
    """Return a proxy's URL, ``http://`` implied; raise :class:`RuleError`, whose text never shows a password."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        valid = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise RuleError("a proxy is http://[user:password@]host:port, spoken to in clear; no socks")
    return url.rstrip("/")


def _parse_bool(text: str) -> bool:
    word = text.strip().lower()
    if word in {"true", "yes", "on", "1"}:
        return True
    if word in {"false", "no", "off", "0"}:
        return False
    raise RuleError(_BOOL_RULE)


def _parse_count(text: str, *, least: int, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or not least <= int(text) <= most:
        raise RuleError(f"a whole number from {least} to {most}")
    return int(text)


def _parse_positive_duration(text: str) -> float:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise RuleError("must be longer than nothing")
    return seconds


def _parse_positive_size(text: str) -> int:
    size = parse_size(text)
    if size <= 0:
        raise RuleError("must be more than nothing")
    return size


def _parse_path(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise RuleError("a path must not be empty")
    return Path(text)


def _parse_on_disconnect(text: str) -> tuple[OnDisconnect, int]:
    word, equals, percent = text.strip().partition("=")
    if word == OnDisconnect.FINISH_IF_OVER.value and equals:
        return OnDisconnect.FINISH_IF_OVER, parse_percent(percent)
    if not equals and word in {OnDisconnect.FINISH.value, OnDisconnect.STOP.value}:
        return OnDisconnect(word), 50
    raise RuleError(_DISCONNECT_RULE)


def _show_on_disconnect(value: tuple[OnDisconnect, int]) -> str:
    policy, percent = value
    return f"{policy.value}={percent}%" if policy is OnDisconnect.FINISH_IF_OVER else policy.value


def _parse_tag_pattern(text: str) -> tuple[str, float]:
    pattern, equals, ttl = text.strip().rpartition("=")
    if not equals or not pattern:
        raise RuleError(_TAG_PATTERN_RULE)
    return pattern, parse_duration(ttl)


def _parse_word(text: str, *, pattern: re.Pattern[str], rule: str) -> str:
    if not pattern.fullmatch(text.strip()):
        raise RuleError(rule)
    return text.strip()


def _parse_named_url(text: str, *, any_name: bool) -> tuple[str, str]:
    name, equals, url = text.strip().partition("=")
    if not equals or not (is_upstream_name(name) or (any_name and name == "*")):
        raise RuleError("NAME=URL, where NAME is a registry's host in lower case" + (" or *" if any_name else ""))
    return name, parse_url(url)


def is_upstream_name(name: str) -> bool:
    """Whether images can be named by ``name``: a host in lower case."""
    return is_host(name) and name == name.lower()


_ADDRESS_RULE: Final = "an address is HOST:PORT, with IPv6 in brackets"
_URL_RULE: Final = "a registry's URL is https://host[:port], or http://host[:port] for plain HTTP"
_BOOL_RULE: Final = "true or false"
_DISCONNECT_RULE: Final = "finish, finish-if-over=PERCENT or stop"
_TAG_PATTERN_RULE: Final = 'PATTERN=DURATION, where the pattern is of "repository:tag"'
_NAMESPACE_RULE: Final = "a namespace is lower-case letters and digits, joined by -, _ or /"
_HELPER_RULE: Final = "the NAME of a program docker-credential-NAME"


def _count(least: int, most: int) -> Kind:
    return Kind(
        name="number",
        metavar="N",
        parse=partial(_parse_count, least=least, most=most),
        rule=f"a whole number from {least} to {most}",
        example=str(least),
    )


ADDRESS: Final = Kind(
    name="address", metavar="HOST:PORT", parse=_parse_address, rule=_ADDRESS_RULE, example="127.0.0.1:5000"
)
URL: Final = Kind(name="URL", metavar="URL", parse=parse_url, rule=_URL_RULE, example="https://registry.example.com")
BOOL: Final = Kind(
    name="yes or no", metavar="", parse=_parse_bool, show=lambda v: str(v).lower(), rule=_BOOL_RULE, example="true"
)
SIZE: Final = Kind(
    name="size", metavar="SIZE", parse=_parse_positive_size, show=format_size, rule=SIZE_RULE, example="50GiB"
)
DURATION: Final = Kind(
    name="duration", metavar="TIME", parse=parse_duration, show=format_duration, rule=DURATION_RULE, example="60s"
)
DEADLINE: Final = Kind(
    name="duration",
    metavar="TIME",
    parse=_parse_positive_duration,
    show=format_duration,
    rule=DURATION_RULE,
    example="10s",
)
PERCENT: Final = Kind(
    name="percentage", metavar="PERCENT", parse=parse_percent, show=format_percent, rule=PERCENT_RULE, example="90%"
)
PATH: Final = Kind(name="path", metavar="FILE", parse=_parse_path, rule="a path", example="/etc/hunqi/users.json")
DIRECTORY: Final = Kind(name="directory", metavar="DIR", parse=_parse_path, rule="a path", example="/srv/mirror")
FILE: Final = Kind(
    name="existing file", metavar="FILE", parse=_parse_path, rule="a file that can be read", example="/etc/hunqi/x.pem"
)
WORKERS: Final = _count(1, 64)
CONNECTIONS: Final = _count(1, 256)
PARALLEL: Final = _count(1, 4096)
KEEP: Final = _count(1, 1_000_000)
ON_DISCONNECT: Final = Kind(
    name="policy",
    metavar="POLICY",
    parse=_parse_on_disconnect,
    show=_show_on_disconnect,
    rule=_DISCONNECT_RULE,
    example="finish-if-over=50%",
)
TAG_PATTERN: Final = Kind(
    name="pattern and duration",
    metavar="PATTERN=TIME",
    parse=_parse_tag_pattern,
    show=lambda v: f"{v[0]}={format_duration(v[1])}",
    rule=_TAG_PATTERN_RULE,
    example="library/*:latest=5m",
)
TEXT: Final = Kind(
    name="pattern",
    metavar="PATTERN",
    parse=partial(_parse_word, pattern=re.compile(r"\S+"), rule="a pattern without blanks"),
    rule="a pattern without blanks",
    example="library/*",
)
UPSTREAM_NAME: Final = Kind(
    name="upstream",
    metavar="NAME",
    parse=partial(_parse_word, pattern=re.compile(r"[a-z0-9.:\[\]-]+"), rule="an upstream's name"),
    rule="an upstream's name",
    example="docker.io",
)
NAMESPACE: Final = Kind(
    name="namespace",
    metavar="PREFIX",
    parse=partial(_parse_word, pattern=re.compile(r"[a-z0-9]+(?:[_/-]+[a-z0-9]+)*"), rule=_NAMESPACE_RULE),
    rule=_NAMESPACE_RULE,
    example="team-a",
)
HELPER: Final = Kind(
    name="program",
    metavar="NAME",
    parse=partial(_parse_word, pattern=re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"), rule=_HELPER_RULE),
    rule=_HELPER_RULE,
    example="pass",
)
UPSTREAM: Final = Kind(
    name="name and URL",
    metavar="NAME=URL",
    parse=partial(_parse_named_url, any_name=False),
    rule="NAME=URL",
    example="docker.io=https://registry-1.docker.io",
)
RELAY: Final = Kind(
    name="name and URL",
    metavar="NAME=URL",
    parse=partial(_parse_named_url, any_name=True),
    rule="NAME=URL",
    example="docker.io=https://mirror.example.com",
)
