"""Linux's limit on file watches, which Envoy must never meet: it ends itself when it gets none.

Envoy opens an inotify instance for every cluster, route configuration and certificate that it reads from a file, and
Linux gives a user 128 (``fs.inotify.max_user_instances``; measured: Envoy 1.40 aborts beyond). As root we raise the
limit; where that is not allowed, a table that would need more is refused and the last one serves on.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from hunqi.errors import UserError

INSTANCES: Final = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH: Final = 16_384
_OTHERS: Final = 64
"""Left to the other processes of the same user."""


class TooManyFilesError(UserError):
    """The table needs more watched files than this machine allows."""

    code: ClassVar[str] = "gateway.too-many-files"


def make_room(watched: int, *, envoys: int = 2, setting: Path = INSTANCES) -> None:
    """See to it that ``envoys`` side by side (as during an upgrade) can watch ``watched`` files each.

    Raises ``TooManyFilesError`` where the limit is too low and cannot be raised.
    """
    needed = watched * envoys + _OTHERS
    limit = _read(setting)
    if limit is None or needed <= limit:
        return
    wanted = max(ENOUGH, needed * 2)
    try:
        setting.write_text(str(wanted))
    except OSError as error:
        raise TooManyFilesError(
            f"this table needs {needed} inotify instances and this machine allows {limit}:"
            f" run `sysctl -w fs.inotify.max_user_instances={wanted}` as root"
        ) from error


def _read(setting: Path) -> int | None:
    try:
        return int(setting.read_text())
    except (OSError, ValueError):
        return None
