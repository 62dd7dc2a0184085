"""Every short syntax becomes the long one, and every path one that is seen from the project's root.

Done for each document before it is merged with others, since merging and the directory that a path is relative to
both depend on it (Compose specification, *Merge* and *Include*).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from hunqi.apps.compose import short
from hunqi.apps.compose.paths import inside
from hunqi.apps.compose.report import Report, show
from hunqi.apps.compose.tree import Node, Value

_PAIRS: Final = ("environment", "labels", "annotations", "sysctls")
_LISTS: Final = ("dns", "dns_search", "tmpfs")


def canonical(root: Node, base: str, report: Report) -> Node:
    """Return the document with long forms; ``base`` is the directory that its paths are relative to."""
    if root.mapping is None:
        return root
    maker = _Maker(base, report)
    entries = dict(root.mapping)
    for key, change in (
        ("services", maker.service),
        ("networks", maker.resource),
        ("volumes", maker.resource),
        ("secrets", maker.payload),
        ("configs", maker.payload),
    ):
        if key in entries:
            entries[key] = maker.each(entries[key], key, change)
    return root.at(entries)


@dataclass(frozen=True, slots=True)
class _Maker:
    base: str
    report: Report

    def each(self, node: Node, path: str, change: Callable[[Node, str], Node]) -> Node:
        if node.mapping is None:
            return node
        return node.at({name: change(held, f"{path}.{name}") for name, held in node.mapping.items()})

    def service(self, node: Node, path: str) -> Node:
        if node.mapping is None:
            return node
        changes: dict[str, Callable[[Node, str], Node]] = {
            **dict.fromkeys(_PAIRS, self.pairs),
            **dict.fromkeys(_LISTS, self.listed),
            "extra_hosts": self.hosts,
            "depends_on": self.depends_on,
            "networks": self.keyed,
            "env_file": self.env_files,
            "label_file": self.label_files,
            "ports": self.ports,
            "volumes": self.mounts,
            "devices": self.devices,
            "secrets": self.grants,
            "configs": self.grants,
            "build": self.build,
            "gpus": self.gpus,
            "deploy": self.resource,
        }
        entries = dict(node.mapping)
        for key, change in changes.items():
            if key in entries and not entries[key].null:
                entries[key] = change(entries[key], f"{path}.{key}")
        return node.at(entries)

    def resource(self, node: Node, path: str) -> Node:
        """Return a network, volume, secret, config or ``deploy`` with its labels as a mapping."""
        if node.mapping is None:
            return node
        entries = dict(node.mapping)
        if "labels" in entries and not entries["labels"].null:
            entries["labels"] = self.pairs(entries["labels"], f"{path}.labels")
        external = entries.get("external")
        if external is not None and external.mapping is not None:
            entries["external"] = external.at(True)
            if "name" in external.mapping:
                entries.setdefault("name", external.mapping["name"])
        return node.at(entries)

    def payload(self, node: Node, path: str) -> Node:
        found = self.resource(node, path)
        if found.mapping is None or "file" not in found.mapping:
            return found
        return found.at({**found.mapping, "file": self.path(found.mapping["file"], f"{path}.file")})

    def pairs(self, node: Node, path: str) -> Node:
        if node.sequence is None:
            return node
        found: dict[str, Node] = {}
        for item in node.sequence:
            if item.text is None:
                self.report.problem(item, path, "a text KEY=value is expected")
                continue
            name, equals, value = item.text.partition("=")
            found[name] = item.at(value if equals else None)
        return node.at(found)

    def listed(self, node: Node, path: str) -> Node:
        del path
        return node if node.sequence is not None else Node(value=(node,), file=node.file, line=node.line)

    def hosts(self, node: Node, path: str) -> Node:
        found: dict[str, list[Node]] = {}
        if node.mapping is not None:
            for name, held in node.mapping.items():
                found[name] = list(held.sequence) if held.sequence is not None else [held]
        for item in node.sequence or ():
            pair = short.address_pair(item.text or "")
            if pair is None:
                self.report.problem(item, path, "host:address is expected")
            else:
                found.setdefault(pair[0], []).append(item.at(pair[1]))
        return node.at({name: node.at(tuple(held)) for name, held in found.items()})

    def depends_on(self, node: Node, path: str) -> Node:
        if node.sequence is None:
            return node
        started = self.keyed(node, path)
        condition: Mapping[str, Value] = {"condition": "service_started"}
        return started.at({name: long_form(held, condition) for name, held in (started.mapping or {}).items()})

    def keyed(self, node: Node, path: str) -> Node:
        if node.sequence is None:
            return node
        found: dict[str, Node] = {}
        for item in node.sequence:
            if item.text is None:
                self.report.problem(item, path, "a name is expected")
            else:
                found[item.text] = item.at(None)
        return node.at(found)

    def env_files(self, node: Node, path: str) -> Node:
        items = self.listed(node, path).sequence or ()
        found = [item if item.mapping is not None else long_form(item, {"path": item.value}) for item in items]
        return node.at(tuple(self._with_path(item, "path", path) for item in found))

    def label_files(self, node: Node, path: str) -> Node:
        return node.at(tuple(self.path(item, path) for item in self.listed(node, path).sequence or ()))

    def build(self, node: Node, path: str) -> Node:
        del path
        return node if node.mapping is not None else long_form(node, {"context": node.value})

    def gpus(self, node: Node, path: str) -> Node:
        del path
        return node if node.sequence is not None else node.at((long_form(node, {"count": node.value}),))

    def grants(self, node: Node, path: str) -> Node:
        del path
        items = node.sequence
        if items is None:
            return node
        return node.at(tuple(each if each.text is None else long_form(each, {"source": each.value}) for each in items))

    def devices(self, node: Node, path: str) -> Node:
        if node.sequence is None:
            return node
        found: list[Node] = []
        for item in node.sequence:
            fields = short.device(item.text) if item.text is not None else None
            if item.text is not None and fields is None:
                self.report.problem(item, path, f"{show(item.text)} is no device")
            found.append(item if fields is None else long_form(item, fields))
        return node.at(tuple(found))

    def ports(self, node: Node, path: str) -> Node:
        if node.sequence is None:
            return node
        found: list[Node] = []
        for item in node.sequence:
            if item.text is None:
                found.append(item)
            elif (fields := short.ports(item.text)) is None:
                self.report.problem(item, path, f"{show(item.text)} is no port; write 20000:80 or 20000:80/udp")
            else:
                found += [long_form(item, each) for each in fields]
        return node.at(tuple(found))

    def mounts(self, node: Node, path: str) -> Node:
        if node.sequence is None:
            return node
        found: list[Node] = []
        for item in node.sequence:
            if item.text is not None:
                fields = short.mount(item.text)
                if fields is None:
                    self.report.problem(item, path, f"{show(item.text)} is no mount; write source:/target[:ro]")
                    continue
                item = long_form(item, fields)  # noqa: PLW2901 - the long form of the same item
            found.append(self._bind(item, path))
        return node.at(tuple(found))

    def _bind(self, item: Node, path: str) -> Node:
        entries = item.mapping
        if entries is None or "type" not in entries or entries["type"].text != "bind" or "source" not in entries:
            return item
        source = entries["source"].text or ""
        return item if source.startswith("/") else self._with_path(item, "source", path)

    def _with_path(self, item: Node, key: str, path: str) -> Node:
        if item.mapping is None or key not in item.mapping:
            return item
        return item.at({**item.mapping, key: self.path(item.mapping[key], path)})

    def path(self, node: Node, path: str) -> Node:
        """Return a path as seen from the root; one that leads out is a problem."""
        text = node.text
        found = inside(self.base, text) if text is not None else None
        if found is None:
            self.report.problem(
                node, path, f"{show(text)} is no path inside the project: write one relative to its directory"
            )
            return node.at("")
        return node.at(found or ".")


def long_form(node: Node, fields: Mapping[str, Any]) -> Node:
    """Return a mapping in the place of ``node``; ``fields`` holds scalars and mappings of them."""
    found = {
        name: long_form(node, cast("Mapping[str, Any]", value))
        if isinstance(value, Mapping)
        else Node(value=value, file=node.file, line=node.line)
        for name, value in fields.items()
    }
    return Node(value=found, file=node.file, line=node.line, mark=node.mark, size=1 + len(found))
