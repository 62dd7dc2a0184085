"""Circles among services by what they depend on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def cycle(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a circle of dependencies, first and last the same; empty if there is none."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            name, index = stack.pop()
            if index == 0:
                if name in path:
                    return [*path[path.index(name) :], name]
                if name in done:
                    continue
                path.append(name)
            following = edges.get(name, ())
            if index < len(following):
                stack += [(name, index + 1), (following[index], 0)]
            else:
                path.pop()
                done.add(name)
    return []
