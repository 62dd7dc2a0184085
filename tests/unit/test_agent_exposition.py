"""The text formats of metrics: what is read is what the reference parser reads."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from hunqi.agent.exposition import Exposition, Sample, name_filter, parse_exposition

EVERY = name_filter(())


def parsed(text: str, *names: str, most: int = 1000) -> Exposition:
    return parse_exposition(text, name_filter(names), most=most)


def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    jobs = Counter("jobs", "Jobs.", ["queue", "note"], registry=made)
    jobs.labels("mail", 'a "quoted", {braced} \\ text\nof two lines').inc(5)
    jobs.labels("push", "").inc(2)
    Gauge("queue_depth", "Waiting.", registry=made).set(-3.5)
    lat = Histogram("work_seconds", "How long.", buckets=(0.1, 1), registry=made)
    lat.observe(0.5)
    Summary("size_bytes", "How big.", registry=made).observe(10)
    Info("build", "What.", registry=made).info({"version": "1"})
    return made


GROWING = {
    "jobs_total": True,
    "queue_depth": False,
    "work_seconds_bucket": True,
    "work_seconds_count": True,
    "work_seconds_sum": True,
    "size_bytes_count": True,
    "size_bytes_sum": True,
    "build_info": False,
}


@pytest.mark.parametrize("write", [generate_latest, generate_openmetrics], ids=["prometheus", "openmetrics"])
def test_what_the_reference_client_writes_is_read(write: object) -> None:
    text = write(registry()).decode()  # type: ignore[operator]
    found = parsed(text)
    assert {each.metric: each.grows for each in found.samples} == GROWING
    assert (found.left_out, found.unreadable) == (0, 0)
    values = {(each.metric, each.labels.partition('queue="')[2][:4]): each.value for each in found.samples}
    assert (values["jobs_total", "mail"], values["jobs_total", "push"]) == (5, 2)
    (depth,) = [each for each in found.samples if each.metric == "queue_depth"]
    assert depth == Sample("queue_depth", "", -3.5, grows=False)


NAMES = st.from_regex(r"[a-z_:][a-z0-9_:]{0,12}", fullmatch=True)
LABELS = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
VALUES = st.text(
    st.characters(codec="utf-8", exclude_characters='\\"\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029'), max_size=20
)


@given(name=NAMES, labels=st.dictionaries(LABELS, VALUES, max_size=3), value=st.floats())
def test_a_sample_is_read_as_the_reference_parser_reads_it(name: str, labels: dict[str, str], value: float) -> None:
    text = name + "{" + ",".join(f'{key}="{held}"' for key, held in labels.items()) + "} " + repr(value) + "\n"
    (theirs,) = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    ours = parsed(text).samples
    if not math.isfinite(value) or name.endswith("_created"):
        assert ours == ()
    else:
        (only,) = ours
        assert (only.metric, only.value) == (theirs.name, theirs.value)
        assert only.labels == ",".join(f'{key}="{held}"' for key, held in labels.items())


@given(st.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    found = parsed(text, most=5)
    assert len(found.samples) <= 5


def test_only_what_is_asked_for_is_taken_and_no_more_than_the_bound() -> None:
    text = "".join(f"jobs_{number} 1\nother_{number} 1\n" for number in range(10))
    found = parsed(text, "jobs_*", "other_3", most=8)
    assert [each.metric for each in found.samples][:5] == ["jobs_0", "jobs_1", "jobs_2", "jobs_3", "other_3"]
    assert (len(found.samples), found.left_out) == (8, 3)


def test_a_family_is_asked_for_by_its_name_too() -> None:
    found = parsed('# TYPE jobs counter\njobs_total 3 # {trace="x"} 1 2\njobs_created 1\n# EOF\n', "jobs")
    assert found.samples == (Sample("jobs_total", "", 3.0, grows=True),)


def test_lines_that_are_none_are_counted() -> None:
    assert parsed("<html>\nup 1 1700000000000\nup one\n") == Exposition((Sample("up", "", 1.0, grows=False),), 0, 2)
