"""Words of Envoy's API that every resource uses. All resources are plain JSON objects of the v3 API."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

JSON: TypeAlias = dict[str, Any]
"""An object of Envoy's v3 API in its JSON form; values are whatever that API has there."""

TYPE: Final = "type.googleapis.com/"
METADATA: Final = "hunqi"
"""The namespace of our metadata in routes, clusters and endpoints."""

HOLD: Final = "hunqi-hold"
"""The internal listener (and the cluster) where requests wait while nothing is healthy."""
HOLD_AGENT: Final = "hunqi-hold-agent"
"""The agent's socket that says when they may go on."""
ACME: Final = "hunqi-acme"
"""Control's answers to ACME challenges."""

PAGE: Final = "/.well-known/hunqi/routes"
"""Where the agent says what is routed, to those who may know, under every host."""

HEADER_HOLD: Final = "x-hunqi-hold"
"""Cluster or service that a held request waits for; set by us only, taken away from what clients send."""
HEADER_HELD: Final = "x-hunqi-held"
"""Grows by one each time that a request is held; a task sees it on a request that has waited."""

HEADER_LANE: Final = "x-hunqi-lane"
"""The lane of a request, for the app to pass on inside; taken away from what clients send."""
HEADER_MIRROR: Final = "x-hunqi-mirror"
"""Marks the copy of a request whose answer nobody waits for."""

UNSAFE_FILE_NAME: Final = re.compile(r"[^A-Za-z0-9._-]")


def typed(name: str, kind: str, /, **fields: Any) -> JSON:
    """Return an extension: ``name`` and the message ``kind`` (without the type prefix) with its ``fields``."""
    return {"name": name, "typed_config": {"@type": TYPE + kind, **fields}}


def message(kind: str, /, **fields: Any) -> JSON:
    """Return a message that says of which ``kind`` it is."""
    return {"@type": TYPE + kind, **fields}


@functools.cache
def seconds(value: float) -> str:
    """Return a protobuf duration."""
    return f"{value:.3f}s"


def metadata(**values: str) -> JSON:
    """Return our metadata, as routes, clusters and endpoints carry it."""
    return {"filter_metadata": {METADATA: values}}


def address(host: str, port: int, *, udp: bool = False) -> JSON:
    """Return a socket address."""
    where: JSON = {"address": host, "port_value": port}
    if udp:
        where["protocol"] = "UDP"
    return {"socket_address": where}


def cidr(network: str) -> JSON:
    """Return the CIDR range of ``network`` (``10.0.0.0/8``; a single address is a range of one)."""
    prefix, _, length = network.partition("/")
    return {"address_prefix": prefix, "prefix_len": int(length) if length else (128 if ":" in prefix else 32)}


def file_source(path: str) -> JSON:
    """Return a config source: the file ``path``, read anew whenever another one is moved in its place."""
    return {"path_config_source": {"path": path}, "resource_api_version": "V3", "initial_fetch_timeout": "5s"}


@functools.lru_cache(maxsize=10_000)
def file_name(name: str) -> str:
    """Return a file name for ``name`` that no name can make leave its folder, and that no two names share."""
    plain = UNSAFE_FILE_NAME.sub("_", name)
    if plain == name and not name.startswith(".") and len(name) < 100:
        return name + ".json"
    return f"{plain[:80].lstrip('.')}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.json"


def header(key: str, value: str, *, append: bool = False, keep_empty: bool = True) -> JSON:
    """Return a header to set (or to append)."""
    action = "APPEND_IF_EXISTS_OR_ADD" if append else "OVERWRITE_IF_EXISTS_OR_ADD"
    return {"header": {"key": key, "value": value}, "append_action": action, "keep_empty_value": keep_empty}


def headers(values: Mapping[str, str]) -> list[JSON]:
    """Return headers to set; a per cent sign of the user's is text and no command of Envoy's."""
    return [header(key, value.replace("%", "%%")) for key, value in values.items()]
