"""Token scopes as text, such as ``repository:NAME:pull,push`` (distribution, "Token Scope Documentation").

A scope that means nothing here is left out, and so is an unknown action: the specification has the token carry less
than was asked rather than fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hunqi.mirror.access.model import Action, Scope, ScopeKind

CATALOG: Final = "catalog"
MAX_SCOPES: Final = 64
"""Scopes read of one request; a push asks for two or three."""
_ALL: Final = frozenset(Action)
_BY_WORD: Final = {action.value: frozenset({action}) for action in Action} | {"*": _ALL}
_NONE: Final[frozenset[Action]] = frozenset()


def parse_scopes(parameters: Iterable[str]) -> tuple[Scope, ...]:
    """Parse the ``scope`` parameters of a request for a token, several in one separated by spaces too.

    A name may hold colons (``localhost:5001/app``). Scopes of the same thing are joined.
    """
    found: dict[tuple[ScopeKind, str], frozenset[Action]] = {}
    words = [word for parameter in parameters for word in parameter.split()]
    for word in words[:MAX_SCOPES]:
        scope = _parse(word)
        if scope is not None:
            key = (scope.kind, scope.name)
            found[key] = found.get(key, _NONE) | scope.actions
    return tuple(Scope(kind, name, actions) for (kind, name), actions in found.items())


def scope_text(name: str, actions: Iterable[Action]) -> str:
    """Return ``repository:NAME:pull,push`` with the actions in their usual order."""
    wanted = frozenset(actions)
    return f"repository:{name}:{','.join(action.value for action in Action if action in wanted)}"


def _parse(word: str) -> Scope | None:
    kind, first, rest = word.partition(":")
    name, second, listed = rest.rpartition(":")
    if not first or not second or not name:
        return None
    actions = _NONE.union(*(_BY_WORD.get(action, _NONE) for action in listed.split(",")))
    if kind == "registry" and name == CATALOG and actions == _ALL:
        return Scope(ScopeKind.REGISTRY, CATALOG, _ALL)
    # "repository(plugin)" is the resource class of an old draft that Docker still sends for plugins.
    if kind.partition("(")[0] == "repository" and actions:
        return Scope(ScopeKind.REPOSITORY, name, actions)
    return None
