"""Documentation that can drift is compared with the code: commands and their flags, error codes, metrics, links."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
import typer

from hunqi.cli.main import build_app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
CHANGES = sorted(ROOT.glob("docs/changes/*.md"))
_CODE = re.compile(r'code: ClassVar\[str\] = "([^"]+)"')
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_COMMAND = re.compile(
    r"hunqi ((?:mirror|app|node|secret|env|route|cert|ca|user|team|token|context|service|rollout)(?: [a-z-]+)*)"
)
_INLINE = re.compile(r"`([^`\n]+)`")
_FLAG = re.compile(r"--?[a-z][a-z-]*")
_FLAGS_OF_OTHERS = {"--tls-verify", "--hosts-dir"}
"""Of podman and ctr."""


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _leaves(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    children: dict[str, click.Command] | None = getattr(command, "commands", None)
    if children is None:
        yield " ".join(words), command
        return
    for name, child in children.items():
        if not child.hidden:  # what hunqi up runs by itself
            yield from _leaves(child, (*words, name))


COMMANDS = dict(_leaves(typer.main.get_command(build_app()), ("hunqi",)))


def _tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def _documented_codes() -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", _read("docs/errors.md"), re.MULTILINE)


def _shell_lines(page: Path) -> Iterator[str]:
    for language, body in _FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "sh":
            yield from body.replace("\\\n", " ").splitlines()


def _named(text: str) -> str | None:
    """Return the longest command that a text begins with, or None."""
    words = text.split()
    return next((name for end in range(len(words), 1, -1) if (name := " ".join(words[:end])) in COMMANDS), None)


def _flags(command: click.Command) -> set[str]:
    return {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help", "-h"}


def test_every_command_has_its_row() -> None:
    rows = re.findall(r"^\| `(hunqi [a-z -]+)` \|", _read("docs/commands.md"), re.MULTILINE)

    assert sorted(rows) == sorted(COMMANDS)


def test_page_of_commands_is_as_its_tool_writes_it() -> None:
    assert _read("docs/commands.md") == _tool("command_table").render()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_named_on_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    groups = {name.rsplit(" ", 1)[0] for name in COMMANDS}

    named = [f"hunqi {found}" for found in _COMMAND.findall(text)]

    assert [one for one in named if _named(one) is None and one not in groups] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_flags_typed_on_a_page_exist(page: Path) -> None:
    inline = _INLINE.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    unknown: list[str] = []
    for line in [*_shell_lines(page), *inline]:
        for part in re.split(r"&&|\|(?![A-Za-z])|;", line.partition(" #")[0]):
            at = part.find("hunqi ")
            name = _named(part[at:]) if at >= 0 else None
            if name is not None:
                ours = itertools.takewhile(lambda word: word != "--", shlex.split(part[at:]))
                typed = [found[0] for word in ours if (found := _FLAG.match(word))]
                unknown += [f"{name} {flag}" for flag in typed if flag not in _flags(COMMANDS[name])]
    alone = {found[0] for text in inline if text.startswith("--") and (found := _FLAG.match(text))}
    unknown += alone - _FLAGS_OF_OTHERS - {flag for command in COMMANDS.values() for flag in _flags(command)}

    assert unknown == []


def test_every_error_code_in_the_source_has_its_row() -> None:
    source = {
        code for path in ROOT.glob("src/hunqi/**/*.py") for code in _CODE.findall(path.read_text(encoding="utf-8"))
    }

    assert len(source) > 50
    assert sorted(source) == sorted(_documented_codes())


def test_page_of_errors_is_as_its_tool_writes_it() -> None:
    assert _read("docs/errors.md") == _tool("error_table").render()


def _targets(page: Path) -> list[tuple[Path, str]]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in _LINK.findall(text) if "://" not in link]
    parts = [link.partition("#") for link in links]
    return [((page.parent / file).resolve() if file else page, anchor) for file, _, anchor in parts]


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and its like make them."""
    found: dict[str, int] = {}
    for heading in _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        plain = _LINK.sub(lambda link: link[0][1 : link[0].index("]")], heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found[slug if slug not in found else f"{slug}-{found[slug]}"] = 1
        found[slug] += 1
    return set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_resolve(page: Path) -> None:
    broken = [
        f"{target.name}#{anchor}"
        for target, anchor in _targets(page)
        if not target.exists() or (anchor and anchor not in _anchors(target))
    ]

    assert broken == []


def test_every_page_is_reached_from_the_index() -> None:
    reached, left = set[Path](), [ROOT / "docs/README.md"]
    while left:
        page = left.pop()
        if page.is_dir():
            left += page.glob("*.md")
        elif page not in reached and page.suffix == ".md":
            reached.add(page)
            left += [target for target, _ in _targets(page)]

    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}

    assert sorted(str(page.relative_to(ROOT)) for page in pages - reached) == []


def test_both_readmes_have_the_same_commands_and_links() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh.md"

    def commands(page: Path) -> list[str]:
        return [line.partition(" #")[0].strip() for line in _shell_lines(page)]

    def links(page: Path) -> list[Path]:
        return [target for target, _ in _targets(page) if target not in {english, chinese}]

    assert len(commands(english)) >= 5
    assert commands(english) == commands(chinese)
    assert sorted(links(english)) == sorted(links(chinese))


def test_make_targets_named_on_a_page_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", _read("Makefile"), re.MULTILINE))
    named = {
        word
        for page in PAGES
        for line in [*_shell_lines(page), *_INLINE.findall(page.read_text(encoding="utf-8"))]
        for word in re.findall(r"(?:^|sudo |&& )make ([a-z]+)\b", line)
    }

    assert {"up", "demo", "test", "check"} <= named
    assert named - targets == set()


@pytest.mark.parametrize("note", CHANGES, ids=lambda note: note.stem)
def test_a_change_note_has_a_kind_and_one_paragraph(note: Path) -> None:
    kind = note.name.partition("-")[0]
    text = note.read_text(encoding="utf-8").strip()

    assert kind in _tool("changes").KINDS
    assert "\n\n" not in text
    assert text.endswith(".")


def test_a_release_moves_the_change_notes_into_the_page_of_changes(tmp_path: Path) -> None:
    folder = tmp_path / "docs/changes"
    folder.mkdir(parents=True)
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\nNotes wait.\n\n## 1.0.0 (2026-01-01)\n\n### Added\n\n- Old.\n")
    (folder / "fixed-one.md").write_text("One is\nright.\n")
    (folder / "added-two.md").write_text("Two is there.\n")

    _tool("changes").release("1.1.0", root=tmp_path, day="2026-02-03")

    assert (tmp_path / "CHANGELOG.md").read_text() == (
        "# Changes\n\nNotes wait.\n"
        "\n## 1.1.0 (2026-02-03)\n\n### Added\n\n- Two is there.\n\n### Fixed\n\n- One is right.\n"
        "\n## 1.0.0 (2026-01-01)\n\n### Added\n\n- Old.\n"
    )
    assert list(folder.iterdir()) == []
