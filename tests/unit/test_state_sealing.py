"""What is sealed opens only with its key, in its place, unchanged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.state.errors import ClusterKeyError, SealBrokenError
from hunqi.state.sealing import Sealer, load_sealer

SEALER = Sealer(bytes(range(32)))


@given(st.binary(max_size=200), st.text(max_size=40))
def test_it_opens_where_it_was_sealed(plain: bytes, context: str) -> None:
    sealed = SEALER.seal(plain, context=context)
    assert SEALER.open(sealed, context=context) == plain
    assert SEALER.seal(plain, context=context) != sealed
    assert len(plain) < 8 or plain not in sealed


@given(st.binary(min_size=1, max_size=50), st.data())
def test_a_changed_bit_is_noticed(plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(SEALER.seal(plain, context="a"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealBrokenError):
        SEALER.open(bytes(sealed), context="a")


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_part_does_not_open(cut: int) -> None:
    with pytest.raises(SealBrokenError):
        SEALER.open(SEALER.seal(b"0123456789", context="a")[:cut], context="a")


def test_it_does_not_open_elsewhere_or_with_another_key() -> None:
    sealed = SEALER.seal(b"secret", context="variable/shop/secret/db")
    with pytest.raises(SealBrokenError, match="changed"):
        SEALER.open(sealed, context="variable/blog/secret/db")
    with pytest.raises(SealBrokenError, match="another key"):
        Sealer(b"k" * 32).open(sealed, context="variable/shop/secret/db")


def test_the_key_shows_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "run" / "cluster.key"
    sealer = load_sealer(path)
    assert path.read_text() not in repr(sealer) + str(sealer)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_sealer(path).open(sealer.seal(b"a", context="c"), context="c") == b"a"


def test_of_many_that_create_the_key_all_get_the_same(tmp_path: Path) -> None:
    path = tmp_path / "cluster.key"
    with ThreadPoolExecutor(8) as threads:
        sealers = list(threads.map(lambda _: load_sealer(path), range(16)))
    sealed = sealers[0].seal(b"a", context="c")
    assert {sealer.open(sealed, context="c") for sealer in sealers} == {b"a"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cluster.key"
    with pytest.raises(ClusterKeyError):
        load_sealer(path, create=False)
    path.write_text("short")
    path.chmod(0o600)
    with pytest.raises(ClusterKeyError, match="hexadecimal"):
        load_sealer(path)
    path.write_text("ab" * 32)
    path.chmod(0o644)
    with pytest.raises(ClusterKeyError, match="chmod 600"):
        load_sealer(path)
