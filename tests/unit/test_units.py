"""Sizes, durations and percentages read back what they write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.kit.units import (
    MAX_SIZE,
    UnitError,
    format_duration,
    format_percent,
    format_size,
    parse_duration,
    parse_percent,
    parse_size,
    show_duration,
    show_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50GiB", 50 * 1024**3),
        ("50 GiB", 50 * 1024**3),
        ("16mib", 16 * 1024**2),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("64k", 64 * 1024),
        ("10G", 10 * 1024**3),
        ("500MB", 500_000_000),
        ("1kB", 1000),
        ("4096", 4096),
        ("0", 0),
        ("7B", 7),
    ],
)
def test_sizes_mean_their_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1e9", "50 GiBs", "0.3B", "1.2.3M", "9999999TiB", "fifty", "٣GiB"])
def test_nonsense_is_no_size(text: str) -> None:
    with pytest.raises(UnitError):
        parse_size(text)


@given(st.integers(0, MAX_SIZE))
def test_every_size_reads_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60s", 60),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("7d", 604800),
        ("2w", 1209600),
        ("0", 0),
    ],
)
def test_durations_mean_their_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "60", "s", "5 minutes", "-1s", "1h30", "1e3s", "9999999d", "1m,2s"])
def test_nonsense_is_no_duration(text: str) -> None:
    with pytest.raises(UnitError):
        parse_duration(text)


@given(st.integers(0, 10**11))
def test_every_duration_reads_back_to_the_millisecond(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=1e-6)


@pytest.mark.parametrize(("text", "percent"), [("0", 0), ("90", 90), ("90%", 90), ("100 %", 100)])
def test_percentages_mean_their_number(text: str, percent: int) -> None:
    assert parse_percent(text) == percent
    assert parse_percent(format_percent(percent)) == percent


@pytest.mark.parametrize("text", ["", "101", "-1", "12.5", "%", "ninety"])
def test_nonsense_is_no_percentage(text: str) -> None:
    with pytest.raises(UnitError):
        parse_percent(text)


def test_the_eye_gets_three_digits() -> None:
    assert show_size(1_570_000_000) == "1.46 GiB"
    assert show_size(150 * 1024**2) == "150 MiB"
    assert show_size(12) == "12 B"
    assert show_duration(0.0123) == "12 ms"
    assert show_duration(3.21) == "3.2 s"
    assert show_duration(93784) == "1 d 2 h"
    assert show_duration(60) == "1 m"
