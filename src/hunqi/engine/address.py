"""Where a Docker daemon listens: a Unix socket, or TCP on a network that is trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from hunqi.engine.errors import EngineRefusedError

DEFAULT_SOCKET: Final = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Either ``path`` of a Unix socket, or ``host`` and ``port``."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``unix:///run/docker.sock``, ``/run/docker.sock`` or ``tcp://host:port``.

        Raises :class:`~hunqi.engine.errors.EngineRefusedError` for anything else.
        """
        if text.startswith("/"):
            return cls(path=text)
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError as error:
            raise EngineRefusedError(f"no address of a Docker daemon: {text!r} ({error})") from error
        if url.scheme == "unix" and url.path.startswith("/"):
            return cls(path=url.path)
        if url.scheme == "tcp" and url.hostname and port:
            return cls(host=url.hostname, port=port)
        raise EngineRefusedError(f"no address of a Docker daemon: {text!r}; write unix:///path or tcp://host:port")

    def __str__(self) -> str:
        """Return the address as it would be parsed again."""
        return f"unix://{self.path}" if self.path else f"tcp://{self.host}:{self.port}"
