"""What a chunk says of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.mirror.serve.upload_range import Chunk, ChunkSizeError, ContentRangeError, range_header
from hunqi.mirror.serve.wire import WIRE

SIZES = st.integers(0, 10**18 - 1)


@given(SIZES, SIZES)
def test_a_range_is_read_as_it_was_written(first: int, last: int) -> None:
    text = f"{first}-{last}"
    if first > last:
        with pytest.raises(ContentRangeError):
            Chunk.of_headers(text, None)
    else:
        assert Chunk.of_headers(text, last - first + 1) == Chunk(first, last - first + 1)
        assert Chunk.of_headers(text, None) == Chunk(first, last - first + 1)


@given(st.integers(0, 10**17), st.integers(1, 1000), st.integers(1, 1000))
def test_a_length_that_disagrees_is_refused(first: int, named: int, sent: int) -> None:
    text = f"{first}-{first + named - 1}"
    if named == sent:
        assert Chunk.of_headers(text, sent) == Chunk(first, sent)
    else:
        with pytest.raises(ChunkSizeError):
            Chunk.of_headers(text, sent)


@given(st.text(max_size=30))
def test_any_text_is_a_range_or_refused(text: str) -> None:
    try:
        chunk = Chunk.of_headers(text, None)
    except ContentRangeError:
        return
    assert chunk is not None
    assert text == f"{text.partition('-')[0]}-{text.partition('-')[2]}"
    assert text.isascii()
    assert chunk.length >= 1


def test_a_stream_and_an_empty_body_claim_nothing() -> None:
    assert Chunk.of_headers(None, None) is None
    assert Chunk.of_headers("0-0", 0) is None


def test_an_empty_upload_reads_0_0_as_dockers_client_needs() -> None:
    assert [range_header(size) for size in (0, 1, 2, 1024)] == ["0-0", "0-0", "0-1", "0-1023"]


def test_the_errors_of_pushes_have_a_row_in_the_wire_table() -> None:
    assert {ContentRangeError.code, ChunkSizeError.code} <= WIRE.keys()
