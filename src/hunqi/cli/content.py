"""``pin``, ``unpin``, ``rm``, ``gc``, ``verify``, ``reload``: changing what a running mirror keeps."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated, ClassVar, Final, cast

import typer

from hunqi.cli.instance import Instance, NoInstanceError, find_instance
from hunqi.cli.options import ConfigOption, DataOption, JsonOption
from hunqi.cli.show import Bars, out, print_json, print_rows
from hunqi.errors import UserError
from hunqi.kit.rpc import Payload
from hunqi.kit.units import show_size
from hunqi.mirror.process.supervisor import RELOAD_REFUSED

RELOAD_S: Final = 20.0
"""Longest wait for a reload: the fetches in flight are put down first."""
_CLOCK_TICK_NS: Final = 20_000_000
"""A file's time may be older than the clock's by so much."""


class ReloadError(UserError):
    """The mirror did not take its new settings."""

    code: ClassVar[str] = "cli.reload"


ImagesArgument = Annotated[
    list[str], typer.Argument(metavar="IMAGE...", help="Such as docker.io/library/nginx:1.27 or team/app@sha256:...")
]


def pin(
    images: ImagesArgument,
    *,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; shown by ls.")] = "",
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep images whatever happens: what a pinned manifest refers to is never evicted.

    [bold]Examples[/bold]

      [cyan]hunqi mirror pin docker.io/library/postgres:15 --reason "production"[/cyan]
    """
    instance = find_instance(data, config)
    _each(instance, "operate.pin", images, {"reason": reason}, verb="pinned", as_json=as_json)


def unpin(
    images: ImagesArgument, *, data: DataOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Let pinned images be evicted again.

    [bold]Examples[/bold]

      [cyan]hunqi mirror unpin docker.io/library/postgres:15[/cyan]
    """
    _each(find_instance(data, config), "operate.unpin", images, {}, verb="unpinned", as_json=as_json)


def rm(
    images: ImagesArgument, *, data: DataOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Forget images: mirrored ones are fetched again when asked for, pushed ones are gone.

    A tag leaves alone while another tag or an index of its repository holds the same image.

    [bold]Examples[/bold]

      [cyan]hunqi mirror rm ghcr.io/owner/app:nightly[/cyan]
      [cyan]hunqi mirror rm team/app@sha256:...[/cyan]   (with all its tags)
    """
    _each(find_instance(data, config), "operate.rm", images, {}, verb="removed", as_json=as_json)


def _each(instance: Instance, op: str, images: list[str], options: Payload, *, verb: str, as_json: bool) -> None:
    answers: list[Payload] = []
    for image in images:
        answer = instance.ask(op, image=image, **options)
        answers.append({"image": image, **answer})
        if not as_json:
            out().print(_told(verb, image, answer))
    if as_json:
        print_json(answers)


def _told(verb: str, image: str, answer: Payload) -> str:
    if answer.get("was_pinned") is False:
        return f"{image} was not pinned"
    if answer.get("only_tag"):
        return f"{verb} the tag {image}: other tags or indexes still hold the image"
    if "freed_bytes" in answer:
        return f"{verb} {image} ({show_size(answer['freed_bytes'])} freed)"
    return f"{verb} {image}"


def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what nothing refers to, what retention rules no longer keep, and what is over the size limit.

    [bold]Examples[/bold]

      [cyan]hunqi mirror gc --dry-run[/cyan]
      [cyan]hunqi mirror gc[/cyan]
    """
    removed: list[Payload] = []
    result = find_instance(data, config).work("operate.gc", {"dry_run": dry_run}, on_event=removed.append)
    if as_json:
        print_json({**result, "events": removed})
        return
    if removed:
        print_rows(removed, columns=("removed", "reason", "bytes"))
    freed = sum(int(event.get("bytes") or 0) for event in removed)
    would = "would be " if dry_run else ""
    out().print(f"{len(removed)} {would}removed, {show_size(freed)} {would}freed")


def verify(*, data: DataOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Read everything that is kept and check each digest.

    Bad cached content is removed, bad pushed content reported. Exit code 1 if anything was bad.

    [bold]Examples[/bold]

      [cyan]hunqi mirror verify[/cyan]
    """
    last: Payload = {}

    def advance(event: Payload) -> None:
        last.update(event)
        bars.advance("verifying", done=event["done"], total=event["total"])

    with Bars(quiet=as_json) as bars:
        result = find_instance(data, config).work("operate.verify", {}, on_event=advance)
    bad = _count(result.get("bad", last.get("bad", 0)))
    if as_json:
        print_json(result)
    else:
        _print_bad(result.get("bad"))
        out().print(f"{show_size(last.get('total', 0))} verified, {'nothing is bad' if not bad else f'{bad} bad'}")
    if bad:
        raise typer.Exit(1)


def _print_bad(bad: object) -> None:
    if not isinstance(bad, list) or not bad:
        return
    rows = cast("list[Payload]", bad)
    print_rows(rows, columns=("digest", "fault", "action", "repositories"))
    if any(row.get("action") == "dropped" for row in rows):
        out().print("what was dropped is fetched again when it is asked for")
    if any(row.get("action") == "reported" for row in rows):
        out().print("what was pushed has no other source: push it again")


def _count(value: object) -> int:
    return len(cast("list[object]", value)) if isinstance(value, list) else int(str(value or 0))


def reload(*, data: DataOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Have the mirror read its configuration and certificates again, without losing a connection.

    [bold]Examples[/bold]

      [cyan]hunqi mirror reload[/cyan]
    """
    instance = find_instance(data, config)
    process = instance.ask("operate.describe").get("process")
    asked_at_ns = time.time_ns()
    answer = instance.ask("operate.reload")
    _wait_for_another(instance, process, asked_at_ns)
    if as_json:
        print_json(answer)
    else:
        out().print("reloaded")


def _wait_for_another(instance: Instance, process: object, asked_at_ns: int) -> None:
    """Wait until another process answers: with settings that are wrong the old one stays."""
    refused = instance.data_dir / RELOAD_REFUSED
    deadline = time.monotonic() + RELOAD_S
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if refused.stat().st_mtime_ns >= asked_at_ns - _CLOCK_TICK_NS:
                raise ReloadError(f"the settings are unchanged: {refused.read_text()}")
        with contextlib.suppress(NoInstanceError):  # between the old one and the new one
            if instance.ask("operate.describe").get("process") != process:
                return
        time.sleep(0.1)
    raise ReloadError(f"the mirror did not take its settings within {RELOAD_S:g} s: see its log")
