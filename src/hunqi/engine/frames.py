"""Docker's frames: output of two streams over one connection. Pure: bytes in, pieces out.

A frame is one byte for the stream (1 stdout, 2 stderr, 3 Docker's own error), three of padding, the length in four
bytes, big endian, and the payload (Engine API, "Attach to a container", *Stream format*).
"""

from __future__ import annotations

from typing import Final

from hunqi.engine.errors import EngineFailedError

STDOUT: Final = "stdout"
STDERR: Final = "stderr"
FRAME_BYTES: Final = 16 * 1024 * 1024
"""Docker's frames are of 16 KiB at most for logs; what is larger than this is no frame."""
_HEAD_BYTES: Final = 8
_STREAMS: Final = {0: STDOUT, 1: STDOUT, 2: STDERR}


class Frames:
    """Collects bytes and gives whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in bytes as they came."""
        self._buffer += data

    def take(self) -> tuple[str, bytes] | None:
        """Return the next whole frame, None if there is none yet.

        Raises :class:`~hunqi.engine.errors.EngineFailedError` for what is no frame, or for Docker's own error.
        """
        if len(self._buffer) < _HEAD_BYTES:
            return None
        size = int.from_bytes(self._buffer[4:8], "big")
        kind = self._buffer[0]
        if kind > 3 or size > FRAME_BYTES:
            raise EngineFailedError("Docker's stream is not framed as its API says")
        if len(self._buffer) < _HEAD_BYTES + size:
            return None
        payload = bytes(self._buffer[_HEAD_BYTES : _HEAD_BYTES + size])
        del self._buffer[: _HEAD_BYTES + size]
        if kind == 3:
            raise EngineFailedError(f"Docker broke the stream off: {payload.decode(errors='replace').strip()}")
        return _STREAMS[kind], payload
