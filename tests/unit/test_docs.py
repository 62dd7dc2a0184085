"""Documentation that can drift is compared with the code: commands, error codes, links."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from hunqi.cli.main import build_app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_CODE = re.compile(r'code: ClassVar\[str\] = "([^"]+)"')
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _commands(command: click.Command, words: tuple[str, ...]) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(words)
        return
    for name, child in children.items():
        yield from _commands(child, (*words, name))


def _documented_codes() -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/errors.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_command_has_its_row() -> None:
    rows = re.findall(
        r"^\| `(hunqi [a-z ]+)` \|", (ROOT / "docs/commands.md").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert sorted(rows) == sorted(_commands(typer.main.get_command(build_app()), ("hunqi",)))


def test_every_error_code_in_the_source_has_its_row() -> None:
    source = {
        code for path in ROOT.glob("src/hunqi/**/*.py") for code in _CODE.findall(path.read_text(encoding="utf-8"))
    }

    assert len(source) > 50
    assert sorted(source) == sorted(_documented_codes())


def test_page_of_errors_is_as_its_tool_writes_it() -> None:
    spec = importlib.util.spec_from_file_location("error_table", ROOT / "tools/error_table.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    assert (ROOT / "docs/errors.md").read_text(encoding="utf-8") == tool.render()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_resolve(page: Path) -> None:
    targets = [link.partition("#")[0] for link in _LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]

    assert [target for target in targets if target and not (page.parent / target).exists()] == []
