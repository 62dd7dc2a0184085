from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.telemetry.histogram import LAST, LOWEST_MS, PER_DECADE, UPPER_MS, Histogram, bucket_of, upper_ms

LATENCIES = st.lists(st.floats(min_value=LOWEST_MS, max_value=UPPER_MS[-1]), min_size=1, max_size=60)


@given(st.floats(min_value=0, allow_nan=False))
def test_a_value_lies_between_its_buckets_bounds(value: float) -> None:
    bucket = bucket_of(value)
    assert 0 <= bucket <= LAST
    assert value <= upper_ms(bucket)
    assert bucket == 0 or value > upper_ms(bucket - 1)


@pytest.mark.parametrize("bucket", range(LAST))
def test_a_bound_belongs_to_the_bucket_below_it(bucket: int) -> None:
    assert bucket_of(upper_ms(bucket)) == bucket
    assert bucket_of(math.nextafter(upper_ms(bucket), math.inf)) == bucket + 1


@given(LATENCIES, LATENCIES, LATENCIES)
def test_histograms_add_like_the_values_that_they_count(one: list[float], two: list[float], three: list[float]) -> None:
    a, b, c = Histogram.of(one), Histogram.of(two), Histogram.of(three)
    assert a + b == Histogram.of(one + two) == b + a
    assert (a + b) + c == a + (b + c)
    assert (a + b).total == len(one) + len(two)


@given(LATENCIES, LATENCIES, st.floats(min_value=0, max_value=1))
def test_a_quantile_of_merged_histograms_is_at_most_a_bucket_too_high(
    one: list[float], two: list[float], quantile: float
) -> None:
    values = sorted(one + two)
    exact = values[max(1, math.ceil(quantile * len(values))) - 1]
    found = (Histogram.of(one) + Histogram.of(two)).quantile_ms(quantile)
    assert found is not None
    assert exact <= found <= max(exact, LOWEST_MS) * 10 ** (1 / PER_DECADE) * (1 + 1e-9)


@given(LATENCIES)
def test_a_sum_is_known_to_five_percent(values: list[float]) -> None:
    above = [value for value in values if value > LOWEST_MS]
    assert Histogram.of(above).sum_ms == pytest.approx(sum(above), rel=0.05)


def test_of_nothing_there_is_no_quantile_and_the_slowest_are_a_number() -> None:
    assert Histogram().quantile_ms(0.5) is None
    assert Histogram.of([5e6]).quantile_ms(0.99) == UPPER_MS[-1] == pytest.approx(1_000_000)
    assert Histogram.of([math.inf]).counts == {LAST: 1}
