"""Compose's short syntaxes of ports, mounts and devices, as fields of the long ones. Pure.

Source: Compose specification, *ports* and *volumes*, short syntax. Each function returns None for what it cannot read.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final

MAX_RANGE: Final = 2048
"""Ports in one range."""
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_PROTOCOLS: Final = {"tcp", "udp", "sctp"}
_WINDOWS = re.compile(r"[A-Za-z]:\\")


def ports(text: str) -> list[dict[str, str]] | None:
    """Return the long forms of ``[[HOST:]PUBLISHED:]TARGET[/PROTOCOL]``; ranges are one entry a port."""
    body, slash, protocol = text.strip().partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in _PROTOCOLS:
        return None
    host, published, target = _split_port(body)
    targets = port_range(target)
    if targets is None or (host and not _is_address(host)):
        return None
    publications: list[int] | None = port_range(published) if published else []
    if publications is None:
        return None
    base = {"protocol": protocol} | ({"host_ip": host} if host else {})
    if not publications:
        return [{**base, "target": str(port)} for port in targets]
    if len(publications) == len(targets):
        pairs = zip(targets, publications, strict=True)
        return [{**base, "target": str(port), "published": str(at)} for port, at in pairs]
    if len(targets) != 1:
        return None
    return [{**base, "target": str(targets[0]), "published": published}]


def port_range(text: str) -> list[int] | None:
    """Return the ports of ``8080`` or ``8080-8089``."""
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    first = int(match[1])
    last = int(match[2] or match[1])
    if not 1 <= first <= last <= 65535 or last - first >= MAX_RANGE:
        return None
    return list(range(first, last + 1))


def _split_port(body: str) -> tuple[str, str, str]:
    if body.startswith("["):
        host, _, rest = body[1:].partition("]:")
        published, _, target = rest.rpartition(":")
        return host, published, target
    rest, _, target = body.rpartition(":")
    host, _, published = rest.rpartition(":")
    return host, published, target


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def mount(text: str) -> dict[str, object] | None:
    """Return the long form of ``[SOURCE:]TARGET[:MODE]``; ``bind`` if the source is a path, else ``volume``."""
    if _WINDOWS.match(text) or len(text) > 4096:
        return None
    parts = text.split(":")
    if not parts[-1] or len(parts) > 3:
        return None
    if len(parts) == 1:
        return {"type": "volume", "target": parts[0]}
    source, target, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    if not source or not target:
        return None
    kind = "bind" if source.startswith((".", "/", "~")) else "volume"
    found: dict[str, object] = {"type": kind, "source": source, "target": target}
    return found if _options(found, mode) else None


def _options(found: dict[str, object], mode: str) -> bool:
    inner: dict[str, object] = {}
    for option in filter(None, mode.split(",")):
        match option:
            case "ro":
                found["read_only"] = True
            case "rw":
                pass
            case "z" | "Z":
                inner["selinux"] = option
            case "nocopy" if found["type"] == "volume":
                inner["nocopy"] = True
            case "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave":
                inner["propagation"] = option
            case "cached" | "delegated" | "consistent":
                found["consistency"] = option
            case _:
                return False
    if inner:
        found[str(found["type"])] = inner
    return True


def device(text: str) -> Mapping[str, str] | None:
    """Return the long form of ``SOURCE[:TARGET[:PERMISSIONS]]``."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts):
        return None
    return dict(zip(("source", "target", "permissions"), parts, strict=False))


def address_pair(text: str) -> tuple[str, str] | None:
    """Return the host and the address of an entry of ``extra_hosts``: ``name:1.2.3.4`` or ``name=::1``."""
    separator = "=" if "=" in text else ":"
    host, found, address = text.partition(separator)
    return (host.strip(), address.strip().strip("[]")) if found and host and address else None
