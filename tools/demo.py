"""`make demo`: a small registry stands for the world, a real client pulls through the accelerator twice."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from testbed import images
from testbed.mirror import RunningMirror
from testbed.registry import RealRegistry, real_registry

REPOSITORY = "library/demo"
LAYERS = [8 * images.MIB, 24 * images.MIB, 16 * images.MIB]
PACE_BYTES_S = 32 * images.MIB


def main() -> int:
    """Run the demonstration; 0 when the second pull cost the upstream nothing."""
    console = Console()
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        console.print("skopeo is missing: apt-get install skopeo")
        return 1
    image = images.layered(LAYERS, seed="demo")
    size = sum(len(data) for data in image.blobs.values())
    console.print(f"An image of {size / images.MIB:.0f} MiB, in a registry that sends 32 MiB/s per connection:")
    with tempfile.TemporaryDirectory(prefix="hunqi-demo-") as folder:
        base = Path(folder)
        with real_registry(base / "world", seed={f"{REPOSITORY}:latest": image}) as world:
            world.wire.set_link(pace_bytes_s=PACE_BYTES_S)
            with RunningMirror(base / "mirror", upstreams={"docker.io": world.url}) as mirror:
                pulls = [_pull(skopeo, mirror, world, base / name) for name in ("cold", "warm")]
    table = Table("pull", "seconds", "bytes that left the upstream")
    for name, (seconds, sent) in zip(("first", "second"), pulls, strict=True):
        table.add_row(name, f"{seconds:.2f}", f"{sent:,}")
    console.print(table)
    return 0 if pulls[1][1] == 0 else 1


def _pull(skopeo: str, mirror: RunningMirror, world: RealRegistry, target: Path) -> tuple[float, int]:
    world.wire.forget()
    source = f"docker://{mirror.host}/docker.io/{REPOSITORY}:latest"
    begun = time.monotonic()
    subprocess.run(
        [skopeo, "--insecure-policy", "copy", "--src-tls-verify=false", source, f"dir:{target}"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return time.monotonic() - begun, world.wire.sent_bytes("/blobs/")


if __name__ == "__main__":
    sys.exit(main())
