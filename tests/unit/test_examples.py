"""The examples are what they claim: files that compile without a word, and images that their tool makes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hunqi.apps.compose.compile import compile_project
from hunqi.apps.compose.project import NeedsError, Project
from hunqi.apps.model import Compiled

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(ROOT.glob("examples/*/compose.yaml"))
sys.path.insert(0, str(ROOT / "tools"))


def _compile(file: Path) -> Compiled:
    files, absent = {file.name: file.read_text()}, set[str]()
    for _ in range(5):
        try:
            return compile_project(
                Project(name=file.parent.name, files=files, entry=(file.name,), absent_variables=frozenset(absent))
            )
        except NeedsError as needs:
            files |= dict.fromkeys(needs.files, "content")  # a password that make sample makes
            absent |= needs.variables
    raise AssertionError("the example refers to ever more files")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_an_example_is_honoured_to_the_letter(file: Path) -> None:
    assert _compile(file).notes == ()


def test_the_images_of_the_shop_are_those_that_make_sample_makes() -> None:
    from sample.__main__ import NAMES

    images = {service.image for service in _compile(ROOT / "examples/shop/compose.yaml").spec.services.values()}

    assert images == {f"127.0.0.1:5000/{name}" for name in NAMES}
