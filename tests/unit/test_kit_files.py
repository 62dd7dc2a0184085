"""Files that are whole or not there."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hunqi.kit.files import write_atomic


def test_the_mode_holds_whatever_the_umask(tmp_path: Path) -> None:
    write_atomic(tmp_path / "key", b"secret", mode=0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "key").read_bytes() == b"secret"


def test_nothing_is_left_beside_it_when_it_cannot_be_written(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    (target / "child").touch()
    with pytest.raises(OSError, match=r"[Dd]irectory"):
        write_atomic(target, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([65 + index]) * 200_000 for index in range(4)]
    write_atomic(path, contents[0], durable=False)
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        for content in contents:
            write_atomic(path, content, durable=False)
    done.set()
    reader.join()
    assert seen <= set(contents)
