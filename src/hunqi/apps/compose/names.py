"""Names that a user gives, and what Swarm makes of them. Pure.

A Swarm service is called ``<app>_<service>-r<revision>`` and may have 63 characters; an app has no underscore in its
name, so that two apps never mean the same object.
"""

from __future__ import annotations

import re
from typing import Final

MAX_APP: Final = 32
MAX_WITH_APP: Final = 53
"""Of an app's and a service's name together: Swarm's 63, less ``_``, ``-r`` and seven digits."""
MAX_PAYLOAD_WITH_APP: Final = 50
"""Of an app's and a secret's or config's name together: Swarm's 64, less ``_``, ``-`` and twelve digits."""
_APP = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_SERVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
_RESOURCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
_HOST = re.compile(r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ALIAS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")


def app_problem(name: str) -> str | None:
    """Return what is wrong with an app's name, None if nothing is."""
    if _APP.fullmatch(name) and len(name) <= MAX_APP:
        return None
    return f"an app's name is lower case letters, digits and inner hyphens, {MAX_APP} characters at most"


def service_problem(app: str, name: str) -> str | None:
    """Return what is wrong with a service's name."""
    if not _SERVICE.fullmatch(name):
        return "a service's name is letters, digits and inner hyphens or underscores"
    if len(app) + len(name) > MAX_WITH_APP:
        return f"the names of app and service have at most {MAX_WITH_APP} characters together: shorten one"
    return None


def resource_problem(app: str, name: str, *, payload: bool = False) -> str | None:
    """Return what is wrong with the name of a network, a volume, a secret or a config (a payload)."""
    if not _RESOURCE.fullmatch(name):
        return "a name is letters, digits and inner hyphens, dots or underscores"
    limit = MAX_PAYLOAD_WITH_APP if payload else MAX_WITH_APP
    if len(app) + len(name) > limit:
        return f"the name and the app's have at most {limit} characters together: shorten one"
    return None


def external_problem(name: str) -> str | None:
    """Return what is wrong with the name of something that exists."""
    return None if _RESOURCE.fullmatch(name) and len(name) <= 128 else "this can be no name in the engine"


def is_host(text: str) -> bool:
    """Whether ``text`` is a host name, or one with ``*.`` before it; lower case."""
    return len(text) <= 253 and _HOST.fullmatch(text) is not None


def is_alias(text: str) -> bool:
    """Whether ``text`` can be one more name of a service."""
    return _ALIAS.fullmatch(text) is not None
