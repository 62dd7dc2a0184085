"""Variables in texts, and files of variables."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.apps.compose.dotenv import EnvFileError, parse_env_file
from hunqi.apps.compose.interpolate import MAX_RESULT, TemplateError, substitute

VARIABLES = {"A": "1", "EMPTY": "", "NAME": "web", "D": "$A"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("$A", "1"),
        ("${A}", "1"),
        ("$A$NAME-${A}", "1web-1"),
        ("$UNSET", ""),
        ("${UNSET}", ""),
        ("${UNSET:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${UNSET-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${A:-d}", "1"),
        ("${A:?no}", "1"),
        ("${EMPTY?no}", ""),
        ("${A:+r}", "r"),
        ("${EMPTY:+r}", ""),
        ("${EMPTY+r}", "r"),
        ("${UNSET+r}", ""),
        ("${UNSET:-}", ""),
        ("${UNSET:-${A}}", "1"),
        ("${UNSET:-${ALSO-${A}}}", "1"),
        ("${A:+${NAME}}", "web"),
        ("$$A", "$A"),
        ("$$$A", "$1"),
        ("${UNSET:-$$}", "$"),
        ("${UNSET:-a}b}", "ab}"),
        ('${UNSET:-{"a": {"b": 1}}}', '{"a": {"b": 1}}'),
        ("${UNSET:-http://x:80/}", "http://x:80/"),
        ("${A:-${MISSING:?never asked}}", "1"),
        ("$D", "$A"),
    ],
)
def test_each_form_means_what_the_specification_says(template: str, text: str) -> None:
    assert substitute(template, VARIABLES.get) == text


@pytest.mark.parametrize(
    "template", ["$", "$1", "${", "${}", "${A", "${1}", "${A!b}", "${A:b}", "${A-x", "a $ b", "${A:-${B}", "${ A }"]
)
def test_what_is_no_template_is_refused(template: str) -> None:
    with pytest.raises(TemplateError):
        substitute(template, VARIABLES.get)


@pytest.mark.parametrize(
    ("template", "says"), [("${U:?set U}", "set U"), ("${EMPTY:?}", "EMPTY"), ("${U?$NAME}", "web")]
)
def test_a_variable_that_must_be_set_says_so(template: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        substitute(template, VARIABLES.get)


def test_blanks_are_told() -> None:
    told: list[str] = []

    substitute("$U ${V} ${W:-d} ${A} ${A:-$X}", VARIABLES.get, told.append)

    assert told == ["U", "V"]


def test_only_what_is_wanted_is_looked_up() -> None:
    asked: list[str] = []

    def look(name: str) -> str | None:
        asked.append(name)
        return VARIABLES.get(name)

    substitute("${A:-${B}} ${U:-${C}} ${U:+${E}}", look)

    assert asked == ["A", "U", "C", "U"]


def test_nesting_and_growth_are_bounded() -> None:
    with pytest.raises(TemplateError, match="deep"):
        substitute("${A:-" * 40 + "}" * 40, {}.get)
    with pytest.raises(TemplateError, match="longer"):
        substitute("$X" * 64, {"X": "x" * (MAX_RESULT // 32)}.get)


words = st.text(st.characters(codec="utf-8", exclude_characters="$"), max_size=20)


@given(words)
def test_a_text_without_a_dollar_stays(text: str) -> None:
    assert substitute(text, {}.get) == text


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_doubled_dollar_makes_any_text_literal(text: str) -> None:
    assert substitute(text.replace("$", "$$"), {}.get) == text


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_a_value_is_not_a_template(value: str) -> None:
    assert substitute("<${V}>", {"V": value}.get) == f"<{value}>"


@given(st.text(st.sampled_from("${}:-?+AB_1 "), max_size=30))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    with contextlib.suppress(TemplateError):
        assert "${A}" not in substitute(text.replace("$$", ""), {"A": "a"}.get)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=v", "v"),
        ("K = v ", "v"),
        ("export K=v", "v"),
        ("K: v", "v"),
        ("K=", ""),
        ("K", None),
        ("K=a#b", "a#b"),
        ("K=a #b", "a"),
        ("K=#b", ""),
        ("K='a #b' # c", "a #b"),
        ("K='$A'", "$A"),
        ('K="$A"', "1"),
        ("K=$A", "1"),
        ("K=${U:-d}", "d"),
        ('K="a\\nb"', "a\nb"),
        ("K='a\\nb'", "a\\nb"),
        ('K="say \\"hi\\""', 'say "hi"'),
        ('K="\\$A"', "$A"),
        ('K="two\nlines"', "two\nlines"),
        ("K='it\\'s'", "it's"),
        ("\ufeffK=v", "v"),
        ("# c\n\nK=v\r\n", "v"),
        ("K=1\nK=2", "2"),
        ("L=x\nK=$L", "x"),
    ],
)
def test_a_file_of_variables_is_read_as_compose_does(line: str, value: str | None) -> None:
    assert parse_env_file(line, VARIABLES.get)["K"] == value


def test_raw_files_are_taken_as_they_stand() -> None:
    assert parse_env_file("K='$A' #x\nL=\nM", VARIABLES.get, raw=True) == {"K": "'$A' #x", "L": "", "M": None}


@pytest.mark.parametrize(
    ("text", "line"), [("a=1\n=2", 2), ("a='1\n2", 1), ("a=1\nb='x' y", 2), ("1a=2", 1), ("a=$1", 1)]
)
def test_a_line_that_cannot_be_read_is_named(text: str, line: int) -> None:
    with pytest.raises(EnvFileError) as caught:
        parse_env_file(text, {}.get)

    assert caught.value.line == line


@given(st.text(st.characters(codec="utf-8", exclude_characters="'\\"), max_size=40))
def test_a_single_quoted_value_is_literal(value: str) -> None:
    value = value.replace("\r\n", "\n")

    assert parse_env_file(f"K='{value}'", {}.get) == {"K": value}


@given(st.text(max_size=60))
def test_any_text_is_a_file_of_variables_or_refused(text: str) -> None:
    with contextlib.suppress(EnvFileError):
        assert all(name for name in parse_env_file(text, {}.get))
