"""Each run of the benchmarks writes its own section of the page and leaves the others."""

from __future__ import annotations

from pathlib import Path

from tools.bench.model import Row
from tools.bench.page import replace_section, update_section, write_section

PAGE = "# Benchmarks\n\n## One\n\nfirst\n\n## Two\n\nsecond\n"


def test_a_section_is_replaced_in_its_place() -> None:
    assert replace_section(PAGE, "One", "## One\n\nnew\n") == "# Benchmarks\n\n## One\n\nnew\n\n## Two\n\nsecond\n"
    assert replace_section(PAGE, "Two", "## Two\n\nnew") == "# Benchmarks\n\n## One\n\nfirst\n\n## Two\n\nnew\n"


def test_a_new_section_comes_last() -> None:
    assert replace_section(PAGE, "Three", "## Three\n\nthird") == PAGE + "\n## Three\n\nthird\n"
    assert replace_section("# Benchmarks\n", "One", "## One\n\nx") == "# Benchmarks\n\n## One\n\nx\n"


def test_a_missed_bar_is_said(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    rows = [
        Row(name="failed", value=0.0, bar=0.0, unit="requests", figures="of 10", digits=0),
        Row(name="late", value=5.0, bar=3.0, unit="ms", figures="of 10"),
    ]
    write_section(page, "Two", "How.\n", rows, rounds=2, took_s=60.0, programs=["Python 3"])
    text = page.read_text()
    assert "| failed | 0 requests | ≤ 0 requests | met | of 10 |" in text
    assert "| late | 5.00 ms | ≤ 3 ms | **missed** | of 10 |" in text
    assert "1 of 2 bars are met" in text
    assert "first" in text
    assert "second" not in text


def test_rows_that_were_measured_alone_take_their_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    late = Row(name="late", value=5.0, bar=3.0, unit="ms", figures="of 10")
    other = Row(name="other", value=1.0, bar=3.0, unit="ms", figures="of 10")
    how = "How.\n- **Not measured**: cut: it broke\n- **Not measured**: quiet: it broke too\n"
    write_section(page, "Two", how, [late, other], rounds=2, took_s=60.0, programs=["Python 3"])

    again = Row(name="late", value=2.0, bar=3.0, unit="ms", figures="of 20")
    new = Row(name="cut off", value=1.0, bar=2.0, unit="s", figures="once")
    update_section(page, "Two", [again, new], alone="cut|late", rounds=3)

    lines = page.read_text().splitlines()
    assert [line for line in lines if line.startswith("| ")][1:] == [
        "| late | 2.00 ms | ≤ 3 ms | met | of 20 |",
        "| other | 1.00 ms | ≤ 3 ms | met | of 10 |",
        "| cut off | 1.00 s | ≤ 2 s | met | once |",
    ]
    assert "- **Not measured**: quiet: it broke too" in lines
    assert not any("cut: it broke" in line for line in lines)
    assert any(line.endswith("3 of 3 bars are met.") for line in lines)
    assert any(line.startswith("- Measured again alone: cut, late, ") for line in lines)
    assert "first" in lines
