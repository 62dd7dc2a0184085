"""The table of settings, the dataclasses and docs/configuration.md say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from hunqi.config import compound, table
from hunqi.config.reference import default_text, render_reference
from hunqi.config.setting import Setting
from hunqi.mirror.settings import (
    AccessSettings,
    Deadlines,
    FetchSettings,
    MirrorSettings,
    Origin,
    PeerSettings,
    RetentionRule,
    SpaceSettings,
    TagSettings,
    TlsFiles,
)

_GROUPS = {
    "tls": TlsFiles,
    "deadlines": Deadlines,
    "fetch": FetchSettings,
    "tags": TagSettings,
    "space": SpaceSettings,
    "peers": PeerSettings,
    "access": AccessSettings,
}
_ROOT = Path(__file__).parents[2]


def _fields_of_the_dataclasses() -> Iterator[str]:
    for field in fields(MirrorSettings):
        group = _GROUPS.get(field.name)
        if group is None:
            yield field.name
            continue
        for inner in fields(group):
            if inner.name == "tls":
                yield from (f"{field.name}.tls.{leaf.name}" for leaf in fields(TlsFiles))
            else:
                yield f"{field.name}.{inner.name}"


def test_every_field_has_exactly_one_setting() -> None:
    set_by_table = [field for setting in table.ALL for field in setting.fields]
    # The platform sets the last one; alone, the mirror keeps all of its workers.
    others = ["proxies", "space.retention", "workers_at_rest"]
    assert sorted([*set_by_table, *others]) == sorted(_fields_of_the_dataclasses())


@pytest.mark.parametrize(("settings", "values"), [(compound.ORIGIN, Origin), (compound.RETENTION, RetentionRule)])
def test_every_field_of_a_compound_value_has_a_key(settings: tuple[Setting, ...], values: type) -> None:
    assert is_dataclass(values)
    names = {field.name for field in fields(values)} - {"name"}
    assert {field for setting in settings for field in setting.fields} == names


def test_keys_variables_and_flags_are_unique() -> None:
    for values in (
        [s.key for s in table.ALL],
        [s.variable for s in table.ALL],
        [f for s in table.ALL for f in (s.flag, s.off_flag) if f],
    ):
        assert len(values) == len(set(values))


def test_the_reference_page_is_made_from_the_table() -> None:
    page = (_ROOT / "docs/configuration.md").read_text()
    assert page == render_reference(), "run: python -m hunqi.config.reference > docs/configuration.md"


def test_the_reference_names_each_setting_with_its_default() -> None:
    page = render_reference()
    for setting in table.ALL:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{setting.key}` | `HUNQI")]
        assert setting.variable in line
        assert setting.flag is None or f"`{setting.flag}`" in line
        assert default_text(setting) in line


def test_every_default_reads_back_by_its_own_kind() -> None:
    for setting in table.SETTINGS:
        text = default_text(setting)
        if text and setting.default is None:
            value = setting.kind.read(text)
            assert setting.kind.show(value) == text


def test_every_example_is_good_by_its_own_kind() -> None:
    for setting in (*table.ALL, *compound.ORIGIN, *compound.RETENTION):
        setting.kind.read(setting.kind.example)
