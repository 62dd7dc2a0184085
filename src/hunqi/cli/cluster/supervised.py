"""The supervisor as a program of its own, without the command line's libraries: ``python -m …supervised DIR``.

What mirror and agent use is imported before they are forked, so that its memory is there once; control's own libraries
are not, for a machine without control would keep them for nothing.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from hunqi.cli.cluster.mains import all_mains
from hunqi.errors import HunqiError
from hunqi.platform.children import children_of
from hunqi.platform.settings import PlatformSettings, load
from hunqi.platform.supervisor import End, Supervisor

SHARED: Final = (
    "hunqi.app",
    "hunqi.mirror.process.supervisor",
    "hunqi.mirror.process.fetcher",
    "hunqi.mirror.process.worker",
    "hunqi.agent.main",
    "hunqi.platform.membership",
)


def supervise(settings: PlatformSettings) -> End:
    """Keep this machine's processes until a signal says otherwise. Raises ``AlreadyRunningError``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    for name in SHARED:
        importlib.import_module(name)
    return Supervisor(settings=settings, children=children_of(settings, all_mains()), version=version("hunqi")).run()


def command(settings: PlatformSettings) -> list[str]:
    """Return the command line by which the supervisor is started."""
    return [sys.executable, "-m", "hunqi.cli.cluster.supervised", str(settings.data_dir)]


def main(arguments: list[str]) -> int:
    """Run until stopped; on a restart the program is executed anew, in the same process."""
    try:
        settings = load(Path(arguments[0])) if arguments else None
        if settings is None:
            sys.stderr.write("there is no platform.json: hunqi up writes it\n")
            return 2
        end = supervise(settings)
    except HunqiError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if end is End.RESTART:
        os.execv(sys.executable, command(settings))  # noqa: S606  # no shell is wanted
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
