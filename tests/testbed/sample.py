"""The sample image: this Python, the modules that ``sample_app.py`` imports, and busybox; 40 MB, built in a second.

``sample_image()`` gives the tar of its root file system, made once per version of Python and of the program;
``give_sample(bed)`` imports it everywhere as ``SAMPLE``. Busybox is at ``/bin`` under the names of its tools (``sh``,
``wget``, ``nc``, ``sleep``), so healthchecks need no Python: ``HEALTHCHECK`` has one in Compose's form.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from testbed.programs import find_program, run
from testbed.swarm import Bed

SAMPLE: Final = "hunqi-sample:1"
HEALTHCHECK: Final = ("CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/health")
CHANGES: Final = (
    "ENV PATH=/bin:/usr/local/bin PYTHONHOME=/usr/local PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1",
    'CMD ["python3", "-S", "-E", "/app/sample_app.py"]',
    "EXPOSE 8080",
    "WORKDIR /app",
)
_APP: Final = Path(__file__).with_name("sample_app.py")
_TOOLS: Final = (
    "sh", "ash", "cat", "ls", "wget", "nc", "sleep", "echo", "env", "id", "kill", "ps", "date", "hostname", "true",
    "false", "test", "mkdir", "rm", "cp", "mv", "touch", "tar", "grep", "head", "tail", "df", "mount", "ip", "stat",
    "nslookup", "vi", "stty", "tty", "seq", "dd", "wc", "chmod", "chown", "ln", "find", "sed", "awk", "md5sum", "nproc",
)  # fmt: skip


def sample_image() -> Path:
    """Return the tar, made if it is not there yet."""
    python = Path(os.path.realpath(sys.executable))
    key = hashlib.sha256(_APP.read_bytes() + Path(__file__).read_bytes() + f"{python}{sys.version}".encode())
    archive = Path(tempfile.gettempdir()) / f"hunqi-sample-{key.hexdigest()[:16]}.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory(prefix="tb-sample-") as directory:
            root = Path(directory) / "root"
            _fill(root, python)
            made = archive.with_suffix(f".{os.getpid()}")
            with tarfile.open(made, "w") as tar:
                tar.add(root, arcname=".", filter=_owned_by_root)
            made.replace(archive)
    return archive


def give_sample(bed: Bed, name: str = SAMPLE) -> str:
    """Import the sample image on each machine of the bed that has it not, and return its name."""
    for machine in bed.machines:
        if machine.docker("image", "inspect", name, check=False).returncode:
            options = [word for change in CHANGES for word in ("--change", change)]
            machine.docker("import", *options, str(sample_image()), name)
    return name


def _fill(root: Path, python: Path) -> None:
    for directory in ("app", "bin", "etc", "tmp", "data", "usr/local/bin"):
        (root / directory).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\napp:x:1000:1000:app:/data:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\n")
    shutil.copy2(find_program("busybox"), root / "bin/busybox")
    for tool in _TOOLS:
        (root / "bin" / tool).symlink_to("busybox")
    shutil.copy2(python, root / "usr/local/bin/python3")
    shutil.copy2(_APP, root / "app/sample_app.py")
    libraries = {python, *_copy_modules(root, python)}
    for library in {needed for file in libraries for needed in _needed(file)}:
        target = root / library.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library.resolve(), target)


def _copy_modules(root: Path, python: Path) -> list[Path]:
    """Copy every module that the program loads, compiled ones with theirs, and return those that are libraries."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import sample_app, encodings.idna, encodings.latin_1, runpy, concurrent.futures.thread\n"
        "print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)), sep='\\n')\n"
        "import os; print(os.path.dirname(os.__file__))"
    )
    shown = run([str(python), "-S", "-E", "-c", script, str(_APP.parent)]).stdout.splitlines()
    standard = Path(shown.pop())
    target = root / "usr/local/lib" / standard.name
    libraries: list[Path] = []
    for file in map(Path, shown):
        if not file.is_relative_to(standard):
            continue
        compiled = file.parent / "__pycache__" / f"{file.stem}.{sys.implementation.cache_tag}.pyc"
        for part in (file, compiled):
            if part.exists():
                copy = target / part.relative_to(standard)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(part, copy)
        if file.suffix == ".so":
            libraries.append(file)
    return libraries


def _needed(file: Path) -> list[Path]:
    shown = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
    return [Path(match) for match in re.findall(r"(?:=> )?(/\S+) \(0x", shown)]


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
