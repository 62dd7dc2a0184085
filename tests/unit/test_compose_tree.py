"""YAML as the compiler reads it: values, lines, merge keys, and bounds that hold before anything is made of it."""

from __future__ import annotations

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hunqi.apps.compose.tree import MAX_DEPTH, MAX_NODES, Node, TreeError, plain, read, resolve


def one(text: str) -> Node:
    documents = read(text, "f.yaml")
    assert len(documents) == 1
    return documents[0]


def entry(node: Node, *path: str) -> Node:
    for key in path:
        assert node.mapping is not None
        node = node.mapping[key]
    return node


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("22:22", "22:22"),
        ("0644", 0o644),
        ("0o17", 15),
        ("0x1F", 31),
        ("08", 8.0),
        ("1_000", "1_000"),
        ("-3", -3),
        ("1.10", 1.1),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("2024-01-01", "2024-01-01"),
        ("9" * 60, "9" * 60),
        (".inf", ".inf"),
    ],
)
def test_a_bare_word_is_what_compose_takes_it_for(text: str, value: object) -> None:
    found = resolve(text)

    assert found == value
    assert type(found) is type(value)


def test_numbers_keep_the_text_they_are_written_in() -> None:
    assert entry(one("version: 1.10"), "version").text == "1.10"


def test_quoted_words_are_texts() -> None:
    assert plain(one("{a: '1', b: \"true\", c: !!str 3}")) == {"a": "1", "b": "true", "c": "3"}


def test_every_value_knows_its_line() -> None:
    node = one("a:\n  b: 1\n  c:\n    - x\n    - y\n")

    assert entry(node, "a", "b").line == 2
    items = entry(node, "a", "c").sequence
    assert items is not None
    assert [item.line for item in items] == [4, 5]


def test_merge_keys_give_way_to_what_is_written() -> None:
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  a: 9\n"

    assert plain(entry(one(text), "z")) == {"a": 9, "b": 1, "c": 2}


def test_tags_of_merging_are_kept() -> None:
    node = one("a: !reset null\nb: !override [1]\nc: !reset\n")

    assert [entry(node, key).mark for key in "abc"] == ["reset", "override", "reset"]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\na: 2\n", 2, "twice"),
        ("a:\n  - *b\n", 2, "anchor"),
        ("a: !!python/name:os.system x", 1, "tag"),
        ("a: !include x", 1, "tag"),
        ("a: !!binary aGk=", 1, "tag"),
        ("a: !!set {x}", 1, "tag"),
        ("a: [1\nb: 2", 2, "YAML"),
        ("? [a, b]\n: 1\n", 1, "key"),
        ("a: {<<: 3}", 1, "mappings"),
        ("a: \x01", 1, "YAML"),
        ("k" * 600 + ": 1", 1, "characters"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(text: str, line: int, says: str) -> None:
    with pytest.raises(TreeError, match=says) as caught:
        read(text, "f.yaml")

    assert caught.value.line == line


def test_depth_is_bounded() -> None:
    read("[" * MAX_DEPTH + "]" * MAX_DEPTH, "f.yaml")

    for depth in (MAX_DEPTH + 1, 200_000):
        with pytest.raises(TreeError, match=r"deep|depth"):
            read("[" * depth + "]" * depth, "f.yaml")


def test_an_anchor_that_holds_itself_is_refused() -> None:
    with pytest.raises(TreeError, match="anchor"):
        read("a: &a [*a]", "f.yaml")


def test_aliases_count_as_what_they_stand_for() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]

    with pytest.raises(TreeError, match=f"more than {MAX_NODES}"):
        read("\n".join(lines), "f.yaml")


def test_merge_keys_cannot_make_it_grow_either() -> None:
    lines = ["a0: &a0 {" + ", ".join(f"k{n}: {n}" for n in range(100)) + "}"]
    lines += [f"a{n}: &a{n} {{<<: *a{n - 1}, own{n}: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40)]

    with pytest.raises(TreeError, match=f"more than {MAX_NODES}"):
        read("\n".join(lines), "f.yaml")


def test_as_many_values_as_are_allowed_are_read() -> None:
    assert one("[" + "x," * (MAX_NODES - 10) + "]").size == MAX_NODES - 9


# Line breaks of YAML 1.1 that its writer leaves bare in quotes, where they fold.
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_what_a_yaml_writer_writes_is_read_back(value: object) -> None:
    text = yaml.safe_dump({"v": value}, allow_unicode=True)
    # What YAML 1.1 writes bare and 1.2 reads otherwise is quoted by the writer already.
    assert plain(one(text)) == {"v": value}


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(TreeError):
        assert all(node.file == "f.yaml" for node in read(text, "f.yaml"))
