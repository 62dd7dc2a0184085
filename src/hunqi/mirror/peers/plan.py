"""Who owns what, and what several nodes' lists are together. Pure.

A digest's owner is the live node with the highest score for it (rendezvous hashing, Thaler and Ravishankar 1998): all
nodes agree without talking, and a node that leaves moves only what it owned. A node asks only nodes that rank above
it, so questions never run in a circle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar

V = TypeVar("V")


def rank(key: str, nodes: Collection[str]) -> list[str]:
    """Return ``nodes`` in the order in which they own ``key``, the owner first."""
    return sorted(nodes, key=lambda node: (_score(key, node), node), reverse=True)


def above(key: str, node: str, others: Collection[str]) -> list[str]:
    """Return the nodes that own ``key`` before ``node`` does, the owner first; none if ``node`` itself is the owner."""
    order = rank(key, {node, *others})
    return order[: order.index(node)]


def _score(key: str, node: str) -> bytes:
    return sha256(f"{node}\0{key}".encode()).digest()


@dataclass(frozen=True, slots=True)
class Page(Generic[V]):
    """Entries by key, in the keys' order from the asked place on; ``is_cut``: there are more behind the last."""

    entries: dict[str, V]
    is_cut: bool


def merge(pages: Iterable[Page[V]], *, limit: int) -> Page[V]:
    """Return one page of what all pages hold, at most ``limit`` entries, with nothing left out in between.

    Beyond the last entry of a page that was cut, that page says nothing; so the merged page ends there.
    """
    known = list(pages)
    entries: dict[str, V] = {}
    for page in known:
        for key, value in page.entries.items():
            entries.setdefault(key, value)
    ends = [max(page.entries) for page in known if page.is_cut and page.entries]
    end = min(ends, default=None)
    keys: Sequence[str] = sorted(key for key in entries if end is None or key <= end)
    is_cut = end is not None or len(keys) > limit
    return Page({key: entries[key] for key in keys[:limit]}, is_cut and limit > 0)
