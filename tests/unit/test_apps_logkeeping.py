"""The file of a service's last lines: bounded, and the newest are those that stay."""

from __future__ import annotations

from pathlib import Path

from hunqi.apps.logkeeping import FILE_BYTES, append_lines


def test_newest_lines_stay_when_the_file_is_full(tmp_path: Path) -> None:
    path = tmp_path / "shop" / "shop_web-r1.log"
    line = "x" * 1000
    for number in range(0, 9000, 100):
        append_lines(path, [f"{each:05d} {line}" for each in range(number, number + 100)])
        assert path.stat().st_size <= FILE_BYTES

    kept = path.read_text().splitlines()
    assert kept[-1] == f"08999 {line}"
    assert all(len(each) == len(line) + 6 for each in kept)
    numbers = [int(each[:5]) for each in kept]
    assert numbers == list(range(numbers[0], 9000))
    assert len(numbers) > FILE_BYTES // 2 // 1100
    assert path.stat().st_mode & 0o777 == 0o600


def test_lines_that_are_more_than_a_file_holds_are_cut_to_the_last(tmp_path: Path) -> None:
    path = tmp_path / "shop_web-r1.log"
    append_lines(path, ["first"])
    append_lines(path, [f"{number:07d}" for number in range(FILE_BYTES // 8 + 10)])

    kept = path.read_text().splitlines()
    assert kept[-1] == f"{FILE_BYTES // 8 + 9:07d}"
    assert path.stat().st_size <= FILE_BYTES // 2
