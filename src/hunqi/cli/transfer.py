"""``export``, ``import``, ``warm``: moving whole images into and out of a running mirror."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import typer

from hunqi.cli.content import ImagesArgument
from hunqi.cli.instance import Progress, find_instance
from hunqi.cli.options import ConfigOption, DataOption, JsonOption
from hunqi.cli.show import Bars, out, print_json
from hunqi.errors import UserError
from hunqi.kit.rpc import Payload
from hunqi.kit.units import show_size


class ArchiveError(UserError):
    """The archive named cannot be read or written."""

    code: ClassVar[str] = "cli.archive"


def export_images(
    images: ImagesArgument,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The archive to write.")],
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write images to an OCI layout archive, for machines without a network.

    [bold]Examples[/bold]

      [cyan]hunqi mirror export docker.io/library/postgres:15 team/app:1.4 -o images.tar[/cyan]
      [cyan]hunqi mirror import images.tar[/cyan]   (on the other machine)
    """
    path = output.absolute()
    if not path.parent.is_dir():
        raise ArchiveError(f"{path.parent} is no directory: make it first, or name another file with --output")
    payload = {"images": images, "path": str(path)}
    with Bars(quiet=as_json) as bars:
        result = find_instance(data, config).work("operate.export", payload, on_event=_follow(bars, "exporting"))
    if as_json:
        print_json(result)
    else:
        size = path.stat().st_size if path.is_file() else 0
        out().print(f"{len(images)} image{'s' * (len(images) != 1)} in {path} ({show_size(size)})")


def import_images(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="An OCI layout archive.")],
    *,
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME[:TAG]", help="Where the image goes; default where the archive says."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Show an upstream's image to users with a grant only.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the images of an OCI layout archive; every digest is checked.

    An image with an upstream's name is then served as if it had been fetched; any other as if it had been pushed.

    [bold]Examples[/bold]

      [cyan]hunqi mirror import images.tar[/cyan]
      [cyan]hunqi mirror import app.tar --as team/app:1.4[/cyan]
    """
    path = path.absolute()
    if not path.exists():
        raise ArchiveError(f"{path} does not exist: name an archive that `hunqi mirror export` wrote")
    payload: Payload = {"path": str(path), "private": private, **({"as": name} if name else {})}
    with Bars(quiet=as_json) as bars:
        result = find_instance(data, config).work("operate.import", payload, on_event=_follow(bars, "importing"))
    if as_json:
        print_json(result)
        return
    for image in result.get("images", []):
        note = "   (private: users need a grant)" if image.get("visibility") == "private" else ""
        out().print(f"imported {image['image']}{note}")


def _follow(bars: Bars, name: str) -> Progress:
    def advance(event: Payload) -> None:
        bars.advance(name, done=event["done"], total=event["total"])

    return advance


def warm(
    images: ImagesArgument,
    *,
    platform: Annotated[
        list[str] | None,
        typer.Option("--platform", metavar="OS/ARCH", help="Such as linux/amd64; repeatable. Default: every platform."),
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch whole images before anyone asks for them.

    [bold]Examples[/bold]

      [cyan]hunqi mirror warm docker.io/library/postgres:15 --platform linux/amd64[/cyan]
      [cyan]hunqi mirror warm $(docker compose config --images)[/cyan]
    """
    blobs: dict[str, Payload] = {}

    def advance(event: Payload) -> None:
        digest = str(event["digest"])
        blobs[digest] = event
        bars.advance(f"{event['image']} {short_digest(digest)}", done=event["done"], total=event["total"])

    payload: Payload = {"images": images, "platforms": platform or []}
    with Bars(quiet=as_json) as bars:
        result = find_instance(data, config).work("operate.warm", payload, on_event=advance)
    if as_json:
        print_json({**result, "blobs": list(blobs.values())})
        return
    total = sum(int(blob["total"] or 0) for blob in blobs.values())
    out().print(f"{len(images)} image{'s' * (len(images) != 1)} warm: {len(blobs)} blobs, {show_size(total)}")


def short_digest(digest: str) -> str:
    """Return the first twelve digits, as Docker shows them."""
    return digest.rpartition(":")[2][:12]
