"""Circles of dependencies are found, and nothing else is called one."""

from __future__ import annotations

from graphlib import TopologicalSorter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hunqi.apps.compose.graph import cycle

names = st.sampled_from("abcdefg")
graphs = st.dictionaries(names, st.lists(names, max_size=3), max_size=7)


@given(graphs)
def test_circle_is_shown_where_there_is_one_and_else_there_is_an_order(edges: dict[str, list[str]]) -> None:
    found = cycle(edges)
    if found:
        assert found[0] == found[-1]
        assert all(after in edges[before] for before, after in pairwise(found))
    else:
        assert set(edges) <= set(TopologicalSorter(edges).static_order())
