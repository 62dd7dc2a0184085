"""Several files become one, by the rules of the Compose specification, *Merge and override*. Pure.

Mappings are merged, lists appended, everything else replaced; commands are replaced whole; lists of things that are
unique (a mount's target, a published port) replace what has the same key; ``!reset`` removes, ``!override`` replaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from hunqi.apps.compose.tree import Node

_Key: TypeAlias = Callable[[Node], object]

_REPLACED = re.compile(r"services\.[^.]+\.(command|entrypoint|healthcheck\.test)")
_NULL_REPLACES = re.compile(r"services\.[^.]+\.(environment|labels|annotations)\.[^.]+")
_LOGGING = re.compile(r"services\.[^.]+\.logging")
_ULIMIT = re.compile(r"services\.[^.]+\.ulimits\.[^.]+")


def _fields(*names: str) -> _Key:
    def key(node: Node) -> object:
        entries = node.mapping or {}
        return tuple(entries[name].text if name in entries else None for name in names)

    return key


def _target(folder: str) -> _Key:
    def key(node: Node) -> object:
        entries = node.mapping or {}
        found = entries.get("target", entries.get("source"))
        return (found.text or "").removeprefix(folder) if found is not None else None

    return key


def _text(node: Node) -> object:
    return node.text if node.text is not None else id(node)


_TEXTS: Final = (
    r"cap_add|cap_drop|dns|dns_opt|dns_search|expose|external_links|group_add|label_file|links|profiles"
    r"|security_opt|tmpfs|volumes_from|device_cgroup_rules|networks\.[^.]+\.aliases|extra_hosts\.[^.]+"
)
_UNIQUE: Final[tuple[tuple[re.Pattern[str], _Key], ...]] = tuple(
    (re.compile(rf"services\.[^.]+\.({names})"), key)
    for names, key in (
        ("ports", _fields("host_ip", "target", "published", "protocol")),
        ("volumes", _target("")),
        ("secrets", _target("/run/secrets/")),
        ("configs", _target("/")),
        ("devices", _target("")),
        ("env_file", _fields("path")),
        (_TEXTS, _text),
    )
)


def merge(base: Node, over: Node, path: str = "") -> Node:
    """Return ``over`` merged onto ``base``."""
    if over.mark is not None or base.mark == "reset" or _REPLACED.fullmatch(path):
        return over
    if over.null:
        return over if _NULL_REPLACES.fullmatch(path) else base
    if base.mapping is not None and over.mapping is not None and not _whole(base.mapping, over.mapping, path):
        return over.at(_merged(base.mapping, over.mapping, path))
    if base.sequence is not None and over.sequence is not None:
        return over.at((*base.sequence, *over.sequence))
    return over


def _merged(base: Mapping[str, Node], over: Mapping[str, Node], path: str) -> dict[str, Node]:
    found = dict(base)
    for key, node in over.items():
        found[key] = merge(found[key], node, f"{path}.{key}" if path else key) if key in found else node
    return found


def _whole(base: Mapping[str, Node], over: Mapping[str, Node], path: str) -> bool:
    """Whether a mapping is replaced whole: the logging of another driver, a ulimit."""
    if _LOGGING.fullmatch(path):
        drivers = [entries["driver"].text if "driver" in entries else None for entries in (base, over)]
        return None not in drivers and drivers[0] != drivers[1]
    return _ULIMIT.fullmatch(path) is not None


def settle(node: Node, path: str = "") -> Node | None:
    """Return the merged tree without what ``!reset`` removes and without doubles in lists of unique things."""
    if node.mark == "reset":
        return None
    if (entries := node.mapping) is not None:
        settled = {key: settle(held, f"{path}.{key}" if path else key) for key, held in entries.items()}
        return node.at({key: held for key, held in settled.items() if held is not None})
    if (items := node.sequence) is not None:
        kept = [held for item in items if (held := settle(item, path)) is not None]
        key = next((key for pattern, key in _UNIQUE if pattern.fullmatch(path)), None)
        return node.at(tuple(kept if key is None else {key(item): item for item in kept}.values()))
    return node
