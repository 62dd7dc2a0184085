"""``make sample``: make the images of examples/shop of Debian packages, and put them into the accelerator that runs.

Packages and images are kept below ``.run/sample``; what has not changed is not made again.
"""

from __future__ import annotations

import argparse
import hashlib
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sample.debs import Apt, DebianError, Package
from sample.layers import Image, Layer, LayerWriter, Owner
from sample.layout import write_archive

ROOT: Final = Path(__file__).resolve().parent.parent.parent
SHOP: Final = ROOT / "examples/shop"
BASE: Final = ("libc6", "dash", "coreutils", "zlib1g")
PYTHON: Final = ("python3-minimal", "python3", "python3-psycopg2", "python3-redis", "libstdc++6")
REDIS: Final = ("redis-server",)
POSTGRES: Final = ("postgresql-15", "postgresql-client-15", "tzdata", "libstdc++6")
_NOT_NEEDED: Final = """
adduser debconf debianutils dpkg init-system-helpers libllvm14 libperl5.36 libz3-4 locales lsb-base openssl passwd perl
perl-base perl-modules-5.36 postgresql-client-common postgresql-common ssl-cert sysvinit-utils tar usrmerge
libfile-find-rule-perl libjson-perl libnumber-compare-perl libtext-glob-perl libc-l10n media-types libdb5.3 libgdbm6
libgdbm-compat4 libpam-modules libpam-modules-bin libsemanage2 libsemanage-common
"""
"""What only the scripts of packages need, which are not run here, and PostgreSQL's compiler of queries."""
WITHOUT: Final = frozenset(_NOT_NEEDED.split())
NAMES: Final = ("shop/app:1", "shop/redis:1", "shop/db:1")
_ENVIRONMENT: Final = ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/lib/postgresql/15/bin", "LANG=C.UTF-8"]


def main(arguments: Sequence[str]) -> int:
    """Make, then import unless ``--no-import``."""
    parser = argparse.ArgumentParser(prog="make sample")
    parser.add_argument("--data", type=Path, default=ROOT / ".run/hunqi")
    parser.add_argument("--work", type=Path, default=ROOT / ".run/sample")
    parser.add_argument("--no-import", action="store_true", help="only make the archive")
    given = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        archive = make_archive(given.work, console)
    except (DebianError, OSError) as error:
        console.print(f"[red]{error}[/red]")
        return 1
    _write_password()
    if given.no_import:
        console.print(f"{archive} is made")
        return 0
    command = [sys.executable, "-m", "hunqi", "mirror", "import", str(archive), "--data", str(given.data / "mirror")]
    done = subprocess.run(command, check=False)
    if done.returncode == 0:
        hunqi = shutil.which("hunqi") or Path(sys.executable).with_name("hunqi")
        console.print(f"Next: {hunqi} login --setup (once, with the setup token)", soft_wrap=True)
        console.print(f"      {hunqi} app deploy -f examples/shop/compose.yaml", soft_wrap=True)
    return done.returncode


def make_archive(work: Path, console: Console) -> Path:
    """Return the archive of all images, made if anything that it is made of has changed."""
    work.mkdir(parents=True, exist_ok=True)
    apt = Apt(work / "apt")
    base = apt.needs(BASE, without=WITHOUT)
    below = set(base)
    parts = {
        name: [package for package in apt.needs([*BASE, *roots], without=WITHOUT) if package not in below]
        for name, roots in (("python", PYTHON), ("redis", REDIS), ("postgres", POSTGRES))
    }
    mark, archive = work / "made-of", work / "shop.tar"
    made_of = _fingerprint([*base, *(package for part in parts.values() for package in part)])
    if archive.exists() and mark.exists() and mark.read_text() == made_of:
        console.print("the images are made already")
        return archive
    columns = (TextColumn("{task.description:<28}"), BarColumn(bar_width=30), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        layers = {
            name: _layer(apt, work, name, packages, progress) for name, packages in {"base": base, **parts}.items()
        }
        bar = progress.add_task("writing the archive", total=1)
        write_archive(_images(work, layers), archive)
        progress.update(bar, completed=1)
    mark.write_text(made_of)
    return archive


def _layer(apt: Apt, work: Path, name: str, packages: Sequence[Package], progress: Progress) -> Layer:
    bar = progress.add_task(f"{name}: packages", total=len(packages) + 1)
    files = apt.fetch(packages, lambda done, _total: progress.update(bar, completed=done))
    with LayerWriter(work / f"{name}.tar.gz") as writer:
        if name == "base":
            writer.skeleton()
        if name == "postgres":
            writer.directory("var/lib/postgresql/data", Owner(uid=999, mode=0o700))
        writer.packages(files)
    progress.update(bar, completed=len(packages) + 1)
    assert writer.layer is not None
    return writer.layer


def _own(work: Path, name: str, source: Path, target: str, *, mode: int = 0o644) -> Layer:
    with LayerWriter(work / f"own-{name}.tar.gz") as writer:
        writer.tree(source, target, mode=mode)
    assert writer.layer is not None
    return writer.layer


def _images(work: Path, layers: dict[str, Layer]) -> list[Image]:
    app = _own(work, "app", SHOP / "app", "app")
    start = _own(work, "db", SHOP / "db", "usr/local/bin", mode=0o755)
    python = ["PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH=/app"]
    return [
        Image(
            name=NAMES[0],
            layers=[layers["base"], layers["python"], app],
            config={
                "User": "999:999",
                "WorkingDir": "/app",
                "Env": [*_ENVIRONMENT, *python],
                "Cmd": ["python3", "/app/web.py"],
                "ExposedPorts": {"8080/tcp": {}},
            },
        ),
        Image(
            name=NAMES[1],
            layers=[layers["base"], layers["redis"]],
            config={
                "User": "999:999",
                "WorkingDir": "/tmp",
                "Env": _ENVIRONMENT,
                "Cmd": ["redis-server", "--protected-mode", "no", "--save", ""],
                "ExposedPorts": {"6379/tcp": {}},
            },
        ),
        Image(
            name=NAMES[2],
            layers=[layers["base"], layers["postgres"], start],
            config={
                "User": "999:999",
                "Env": _ENVIRONMENT,
                "Cmd": ["/usr/local/bin/start.sh"],
                "StopSignal": "SIGINT",
                "ExposedPorts": {"5432/tcp": {}},
                "Volumes": {"/var/lib/postgresql/data": {}},
            },
        ),
    ]


def _fingerprint(packages: Sequence[Package]) -> str:
    own = [path for path in sorted(SHOP.rglob("*")) if path.is_file() and path.parent.name in {"app", "db"}]
    tools = sorted(Path(__file__).parent.glob("*.py"))
    told = [f"{package.name}={package.version}" for package in packages]
    told += [f"{path.name}:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in (*own, *tools)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _write_password() -> None:
    """Make the sample's database password, once per checkout; it is in no repository."""
    path = SHOP / "db_password.txt"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(18) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
