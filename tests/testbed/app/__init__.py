"""The app that tests deploy: a static C program alone in its image; ``app.c`` says what its environment asks for.

C, since a task that must answer a thousand requests a second beside gateways, engines and control on two cores may
cost nothing (a core answers 97,000 of them), and since an image of one static file needs no registry and no base.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

from testbed import images
from testbed.programs import run

_SOURCES: Final = ("app.c", "web.c", "accept.c")
_FLAGS: Final = ("-std=gnu11", "-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror")
_HERE: Final = Path(__file__).parent


def binary() -> Path:
    """Return the program, compiled once for each state of its sources."""
    sources = b"".join((_HERE / name).read_bytes() for name in (*_SOURCES, "app.h"))
    name = f"hunqi-testbed-app-{os.getuid()}-{hashlib.sha256(sources).hexdigest()[:16]}"
    program = Path(tempfile.gettempdir()) / name
    with program.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            made = program.with_suffix(".new")
            run(["gcc", *_FLAGS, "-o", str(made), *(str(_HERE / source) for source in _SOURCES), "-lm"])
            made.rename(program)
    with contextlib.suppress(OSError):
        program.with_suffix(".lock").unlink()
    return program


def image(*, seed: object = 0) -> images.Image:
    """Return its image, which runs ``/app``; another seed gives another digest."""
    layer = images.gzip_layer(images.tar_of({"app": binary().read_bytes()}), level=1)
    return images.compose([layer], label=f"app {seed!r}", command=("/app",))


def root_archive(directory: Path) -> Path:
    """Write its root file system as a tar for ``docker import --change 'CMD ["/app"]'``; return the file."""
    archive = directory / "app.tar"
    archive.write_bytes(images.tar_of({"app": binary().read_bytes()}))
    return archive
