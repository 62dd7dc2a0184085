"""Owners are agreed on without talking, and lists of several nodes page as one list would."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.mirror.peers.model import News, NewsInvalidError, NodeIdentity, TagNews
from hunqi.mirror.peers.plan import Page, above, merge, rank
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Tag

NODES = st.sets(st.text("abcdef0123456789", min_size=1, max_size=12), min_size=1, max_size=8)
KEYS = st.text(min_size=1, max_size=20)
LISTS = st.lists(st.sets(st.text("abc", min_size=1, max_size=3)), min_size=1, max_size=4)


@given(NODES, KEYS)
def test_a_node_that_leaves_moves_only_what_it_owned(nodes: set[str], key: str) -> None:
    order = rank(key, nodes)
    assert set(order) == nodes
    for gone in nodes:
        assert rank(key, nodes - {gone}) == [node for node in order if node != gone]


@given(NODES, KEYS)
def test_questions_go_up_only_so_they_never_run_in_a_circle(nodes: set[str], key: str) -> None:
    order = rank(key, nodes)
    for place, node in enumerate(order):
        assert above(key, node, nodes - {node}) == order[:place]


def test_four_nodes_own_about_a_quarter_each() -> None:
    nodes = [f"node-{number}" for number in range(4)]
    owners = Counter(rank(f"sha256:{number:064x}", nodes)[0] for number in range(4000))
    assert all(800 < owners[node] < 1200 for node in nodes)


def page_of(held: set[str], *, last: str, size: int) -> Page[bool]:
    """Answer as one node does."""
    rest = sorted(name for name in held if name > last)
    return Page(dict.fromkeys(rest[:size], True), len(rest) > size)


@given(LISTS, st.integers(1, 5))
def test_pages_of_all_nodes_give_every_entry_once(held: list[set[str]], size: int) -> None:
    found: list[str] = []
    last, more = "", True
    while more:
        merged = merge([page_of(one, last=last, size=size) for one in held], limit=size)
        names = list(merged.entries)
        assert len(names) <= size
        found += names
        more = merged.is_cut
        if more:
            assert names, "a page that goes on must bring something"
            last = names[-1]
    assert found == sorted(set().union(*held))


def test_news_survive_the_wire() -> None:
    tag = TagNews(repo="team/app", tag=Tag("latest"), digest=Digest.of(b"x"), changed_at=12.5)
    news = News(tags=(tag,), namespaces=("team",))
    assert News.parse(news.to_json()) == news
    identity = NodeIdentity("a", "b")
    assert NodeIdentity.parse(identity.to_json()) == identity


@given(st.binary(max_size=200) | st.sampled_from([b"{}", b'{"tags":[[1,2,3,4]],"namespaces":[]}', b'{"node":1}']))
def test_what_is_no_news_is_an_error_that_says_so(data: bytes) -> None:
    with pytest.raises(NewsInvalidError):
        News.parse(data)
    with pytest.raises(NewsInvalidError):
        NodeIdentity.parse(data)
