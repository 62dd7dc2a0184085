"""`make demo`: a small registry stands for the world, a real client pulls through the accelerator twice."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from testbed import images
from testbed.mirror import RunningMirror
from testbed.registry import RealRegistry, real_registry

REPOSITORY = "library/demo"
PAYLOADS = [8 * images.MIB, 24 * images.MIB, 16 * images.MIB]
PACE_BYTES_S = 32 * images.MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """What one pull took."""

    seconds: float
    upstream_bytes: int


def main() -> int:
    """Run the demonstration; 0 when the second pull cost the upstream nothing."""
    console = Console(highlight=False)
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        console.print("skopeo is missing: apt-get install skopeo")
        return 1
    layers = [images.payload_layer(size, seed=f"demo-{size}") for size in PAYLOADS]
    image = images.compose([images.busybox_layer(), *layers])
    size = sum(len(data) for data in image.blobs.values())
    console.print(
        f"The world:   a docker-registry with an image of {size / images.MIB:.0f} MiB in {len(image.layers)} layers;"
    )
    console.print(f"             it sends {PACE_BYTES_S // images.MIB} MiB/s per connection.")
    console.print("The client:  skopeo, which keeps nothing between its pulls.")
    console.print("In between:  hunqi mirror serve.\n")
    with tempfile.TemporaryDirectory(prefix="hunqi-demo-") as folder:
        base = Path(folder)
        with real_registry(base / "world", seed={f"{REPOSITORY}:latest": image}) as world:
            world.wire.set_link(pace_bytes_s=PACE_BYTES_S)
            with RunningMirror(base / "mirror", upstreams={"docker.io": world.url}) as mirror:
                first, second = (_pull(skopeo, mirror, world, base / name) for name in ("first", "second"))
    _tell(console, first, second)
    return 0 if second.upstream_bytes == 0 else 1


def _pull(skopeo: str, mirror: RunningMirror, world: RealRegistry, target: Path) -> Pull:
    world.wire.forget()
    source = f"docker://{mirror.host}/docker.io/{REPOSITORY}:latest"
    begun = time.monotonic()
    subprocess.run(
        [skopeo, "--insecure-policy", "copy", "--src-tls-verify=false", source, f"dir:{target}"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return Pull(seconds=time.monotonic() - begun, upstream_bytes=world.wire.sent_bytes("/blobs/"))


def _tell(console: Console, first: Pull, second: Pull) -> None:
    table = Table("pull", "seconds", "bytes that left the upstream", box=None, padding=(0, 3, 0, 0))
    for name, pull in (("first", first), ("second", second)):
        table.add_row(name, f"{pull.seconds:.2f}", f"{pull.upstream_bytes:,}")
    console.print(table)
    if second.upstream_bytes:
        console.print("\nThe second pull should not have cost the upstream anything: this is a bug.")
    else:
        console.print("\nThe second pull came from the accelerator alone. Type next: make mirror, or make up")


if __name__ == "__main__":
    sys.exit(main())
