"""Unix sockets at paths of any length."""

from __future__ import annotations

import socket
from pathlib import Path

from hunqi.kit.sockets import listen, short_path


def test_a_path_beyond_what_an_address_holds_is_listened_at_and_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 80) / ("e" * 80)
    folder.mkdir(parents=True)
    path = folder / "s.sock"
    for _ in range(2):  # the second replaces what is there
        with listen(path) as server, socket.socket(socket.AF_UNIX) as client:
            assert path.stat().st_mode & 0o777 == 0o600
            with short_path(path) as name:
                client.connect(name)
            accepted, _ = server.accept()
            accepted.sendall(b"x")
            accepted.close()
            assert client.recv(1) == b"x"
