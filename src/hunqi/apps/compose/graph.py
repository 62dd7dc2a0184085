"""The order of services by what they depend on. Pure."""

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


def waves(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return the services in the order in which they can be started, those that can be together in one list.

    ``edges`` has no circle; what it does not have as a key is left out.
    """
    left = {name: {other for other in others if other in edges} for name, others in edges.items()}
    found: list[list[str]] = []
    while left:
        ready = [name for name, others in left.items() if not others] or list(left)
        found.append(ready)
        left = {name: others.difference(ready) for name, others in left.items() if name not in ready}
    return found
