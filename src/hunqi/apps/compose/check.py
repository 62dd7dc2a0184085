"""The walk over a file by the table of keys: what is unknown, not honoured or refused, each with its line."""

from __future__ import annotations

from typing import Final

from hunqi.apps.compose.keys import Branch, Honour, tree
from hunqi.apps.compose.keys_rest import REST_KEYS
from hunqi.apps.compose.keys_service import SERVICE_KEYS
from hunqi.apps.compose.report import Report, show, suggest
from hunqi.apps.compose.tree import Node

KEYS: Final = (*REST_KEYS, *SERVICE_KEYS)
_TREE: Final = tree(KEYS)


def check_keys(root: Node, report: Report) -> None:
    """Take in the keys of a merged project that are unknown (problems), or not honoured (notes)."""
    _walk(root, _TREE, "", report)


def _walk(node: Node, branch: Branch, path: str, report: Report) -> None:
    if (items := node.sequence) is not None:
        for item in items:
            _walk(item, branch, path, report)
        return
    if node.mapping is None or not branch.below:
        return
    for name, held in node.mapping.items():
        below = f"{path}.{name}" if path else name
        known = branch.below.get(name) or branch.below.get("*")
        if known is None:
            if not name.startswith("x-"):
                hint = suggest(name, branch.below)
                report.problem(held, below, f"there is no key {show(name)} in the Compose specification{hint}")
            continue
        _judge(held, known, below, report)


def _judge(node: Node, branch: Branch, path: str, report: Report) -> None:
    key = branch.key
    if key is not None and node.null:
        return
    match key.honour if key is not None else Honour.YES:
        case Honour.REFUSED:
            report.problem(node, path, key.text if key is not None else "")
        case Honour.IGNORED if node.text == "false":
            pass  # as it is anyway
        case Honour.IGNORED:
            report.ignored(node, path, key.text if key is not None else "")
        case Honour.CHANGED if not branch.below:
            report.changed(node, path, key.text if key is not None else "")
        case _:
            if not (key is not None and key.free and not branch.below):
                _walk(node, branch, path, report)
