"""What all routes need, in one value."""

from __future__ import annotations

from dataclasses import dataclass

from hunqi.api.access import Access
from hunqi.api.ports import Rooms
from hunqi.api.streams import Streams
from hunqi.identity.directory import Directory
from hunqi.identity.registry import RegistryLogins
from hunqi.state.events import EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The rooms below, who may what, and the streams that are open."""

    access: Access
    directory: Directory
    rooms: Rooms
    events: EventLog
    streams: Streams
    logins: RegistryLogins
    secure_cookies: bool
    heartbeat_s: float
