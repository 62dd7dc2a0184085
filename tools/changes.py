"""Print the change notes that wait for a release; with a version, move them into CHANGELOG.md. Usage: [VERSION]."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("added", "changed", "fixed", "removed", "security")


def waiting(folder: Path) -> dict[str, list[Path]]:
    """Return the notes by kind, in the order of :data:`KINDS`."""
    notes = sorted(folder.glob("*.md"))
    return {kind: found for kind in KINDS if (found := [note for note in notes if note.name.startswith(f"{kind}-")])}


def render(folder: Path) -> str:
    """Return the notes as the body of a section."""
    return "\n\n".join(
        f"### {kind.capitalize()}\n\n" + "\n".join(f"- {' '.join(note.read_text('utf-8').split())}" for note in notes)
        for kind, notes in waiting(folder).items()
    )


def release(version: str, *, root: Path, day: str) -> None:
    """Put the notes under a heading of ``version`` at the top of the changes, and remove their files."""
    folder, changelog = root / "docs/changes", root / "CHANGELOG.md"
    head, mark, older = changelog.read_text("utf-8").partition("\n## ")
    head = head.replace("Nothing is released yet. ", "")
    section = f"\n## {version} ({day})\n\n{render(folder)}\n"
    changelog.write_text(f"{head.rstrip()}\n{section}{mark}{older}", "utf-8")
    for notes in waiting(folder).values():
        for note in notes:
            note.unlink()


def main() -> int:
    """Run as a program."""
    match sys.argv[1:]:
        case []:
            sys.stdout.write(render(ROOT / "docs/changes") + "\n")
        case [version]:
            release(version, root=ROOT, day=f"{datetime.now(UTC):%Y-%m-%d}")
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
