"""File watches: room is made as root, and said where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from hunqi.gateway.limits import ENOUGH, TooManyFilesError, make_room


def test_room_is_made_only_when_it_is_needed(tmp_path: Path) -> None:
    setting = tmp_path / "instances"
    setting.write_text("128\n")
    make_room(30, setting=setting)
    assert setting.read_text() == "128\n"
    make_room(40, setting=setting)
    assert int(setting.read_text()) == ENOUGH
    make_room(10_000, setting=setting)
    assert int(setting.read_text()) > 20_000


def test_what_to_do_is_said_where_it_is_not_allowed(tmp_path: Path) -> None:
    setting = tmp_path / "folder"
    setting.mkdir()
    make_room(1_000_000, setting=setting)
    setting = Path("/proc/sys/kernel/random/poolsize")
    with pytest.raises(TooManyFilesError, match=r"sysctl -w fs\.inotify\.max_user_instances"):
        make_room(1_000_000, setting=setting)
