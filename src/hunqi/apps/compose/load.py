"""The entry files of a project become one tree: parsed, variables replaced, included, extended, merged.

Each document is made canonical before it is merged. ``include`` brings a project of its own, with its own directory
and variables; what both define must be the same. ``extends`` takes a service of the same file or of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hunqi.apps.compose.canonical import canonical
from hunqi.apps.compose.interpolate import TemplateError, substitute
from hunqi.apps.compose.merge import merge, settle
from hunqi.apps.compose.paths import directory, inside
from hunqi.apps.compose.project import Project
from hunqi.apps.compose.report import Report, show, suggest
from hunqi.apps.compose.section import Section
from hunqi.apps.compose.source import Files, Variables
from hunqi.apps.compose.tree import Node, TreeError, plain, read

MAX_INCLUDES: Final = 10
"""Includes within each other."""
MAX_EXTENDS: Final = 20
MAX_VALUES: Final = 200_000
"""Values of all files together, as often as they are read."""
MAX_TEXT: Final = 16 * 1024 * 1024
"""Characters of all texts together, variables replaced."""
_SHARED: Final = ("services", "networks", "volumes", "secrets", "configs")


def load(project: Project, files: Files, variables: Variables, report: Report) -> Node:
    """Return the project as one tree; problems and what is missing go to ``report``."""
    loader = _Loader(files, report)
    place = Node(value={}, file=project.entry[0] if project.entry else "compose.yaml", line=1)
    if not project.entry:
        report.problem(place, "", "a project has at least one Compose file")
        return place
    paths: list[str] = []
    for entry in project.entry:
        found = inside("", entry)
        if not found:
            report.problem(place, "", f"{show(entry)} is no path inside the project")
        else:
            paths.append(found)
    base = directory(paths[0]) if paths else ""
    root = loader.project(paths, base, variables, place, ())
    return settle(root) or place


class _Loader:
    def __init__(self, files: Files, report: Report) -> None:
        self._files = files
        self._report = report
        self._parsed: dict[str, list[Node]] = {}
        self._values = 0
        self._text = 0
        self._full = False

    def project(self, paths: list[str], base: str, variables: Variables, place: Node, chain: tuple[str, ...]) -> Node:
        """Return the files at ``paths`` merged; ``chain`` are the projects that include it."""
        root = place.at({})
        for path in paths:
            for document in self._documents(path, base, variables, place):
                whole = self._included(document, base, variables, chain)
                services = dict((root.mapping or {}).items()).get("services")
                whole = self._all_extended(whole, base, variables, services)
                root = merge(root, whole)
        return root

    def _documents(self, path: str, base: str, variables: Variables, place: Node) -> list[Node]:
        text = self._files.text(path, place, "")
        if text is None or self._full:
            return []
        found: list[Node] = []
        for document in self._read(path, text):
            if document.mapping is None:
                if not document.null:
                    self._report.fatal(document, "", "a Compose file is a mapping with services in it")
                continue
            self._values += document.size
            if self._values > MAX_VALUES:
                self._overflow(document, f"the files have more than {MAX_VALUES} values together")
                break
            found.append(canonical(self._filled(document, "", variables), base, self._report))
        return found

    def _read(self, path: str, text: str) -> list[Node]:
        """Return the documents of a file, parsed once."""
        if path not in self._parsed:
            try:
                self._parsed[path] = read(text, path)
            except TreeError as error:
                self._report.fatal(Node(value=None, file=path, line=error.line), "", error.text)
                self._parsed[path] = []
        return self._parsed[path]

    def _overflow(self, node: Node, text: str) -> None:
        if not self._full:
            self._report.fatal(node, "", text)
        self._full = True

    def _filled(self, node: Node, path: str, variables: Variables) -> Node:
        """Return the tree with its variables replaced."""
        if (entries := node.mapping) is not None:
            return node.at(
                {key: self._filled(held, f"{path}.{key}" if path else key, variables) for key, held in entries.items()}
            )
        if (items := node.sequence) is not None:
            return node.at(tuple(self._filled(item, path, variables) for item in items))
        if not isinstance(node.value, str):
            return node
        self._text += len(node.value)
        if "$" not in node.value or self._full:
            return node
        try:
            text = substitute(node.value, variables.lookup, lambda name: variables.blank(name, node, path))
        except TemplateError as error:
            self._report.problem(node, path, str(error))
            return node
        self._text += len(text)
        if self._text > MAX_TEXT:
            self._overflow(node, f"the texts are longer than {MAX_TEXT} characters together")
        return node.at(text)

    def _included(self, document: Node, base: str, variables: Variables, chain: tuple[str, ...]) -> Node:
        node = (document.mapping or {}).get("include")
        if node is None or node.null:
            return document
        for item in node.sequence if node.sequence is not None else (node,):
            whole = self._include(item, base, variables, chain)
            if whole is not None:
                document = self._joined(document, whole)
        return document.at({key: held for key, held in (document.mapping or {}).items() if key != "include"})

    def _include(self, item: Node, base: str, variables: Variables, chain: tuple[str, ...]) -> Node | None:
        at = Section(item if item.mapping is not None else item.at({"path": item}), "include", self._report)
        paths = [self._path(text, base, item, "include.path") for text in at.texts("path")]
        if not paths or None in paths:
            if not paths:
                self._report.problem(item, "include", "the path of a Compose file is expected")
            return None
        found = [path for path in paths if path is not None]
        if found[0] in chain or len(chain) >= MAX_INCLUDES:
            self._report.problem(item, "include", f"{show(found[0])} includes itself, or too many within each other")
            return None
        written = at.text("project_directory")
        home = directory(found[0]) if written is None else inside(base, written)
        if home is None:
            self._report.problem(item, "include.project_directory", f"{show(written)} is no path inside the project")
            return None
        inner = variables.extended(self._include_variables(at, base, home, variables))
        whole = self.project(found, home, inner, item, (*chain, found[0]))
        return settle(whole)

    def _include_variables(self, at: Section, base: str, home: str, variables: Variables) -> dict[str, str]:
        named = [self._path(text, base, at.node, "include.env_file") for text in at.texts("env_file")]
        paths = [path for path in named if path is not None]
        default = not named and home != base
        if default:
            paths = [f"{home}/.env" if home else ".env"]
        found: dict[str, str] = {}
        for path in paths:
            text = self._files.text(path, at.node, at.below("env_file"), required=not default)
            values = variables.extended(found).read(text, path, at.node, at.below("env_file")) if text else {}
            found |= {name: value for name, value in values.items() if value is not None}
        return found

    def _path(self, text: str, base: str, node: Node, at: str) -> str | None:
        found = inside(base, text)
        if not found:
            self._report.problem(
                node, at, f"{show(text)} is no path inside the project; files elsewhere are not fetched"
            )
            return None
        return found

    def _joined(self, document: Node, whole: Node) -> Node:
        """Return a document with what it includes; what both define has to be the same."""
        entries = dict(document.mapping or {})
        for section, held in (whole.mapping or {}).items():
            if section not in _SHARED or held.mapping is None:
                if section.startswith("x-"):
                    entries.setdefault(section, held)
                continue
            own = entries.get(section)
            mine = dict(own.mapping or {}) if own is not None else {}
            for name, node in held.mapping.items():
                if name in mine and plain(mine[name]) != plain(node):
                    self._report.problem(
                        mine[name], f"{section}.{name}", f"{node.file} is included and defines it otherwise: rename one"
                    )
                mine.setdefault(name, node)
            entries[section] = (own or held).at(mine)
        return document.at(entries)

    def _all_extended(self, document: Node, base: str, variables: Variables, earlier: Node | None) -> Node:
        entries = dict(document.mapping or {})
        services = entries.get("services")
        if services is None or services.mapping is None:
            return document
        known = {**((earlier.mapping or {}) if earlier is not None else {}), **services.mapping}
        found = {
            name: self._extended(name, node, known, base, variables, ()) for name, node in services.mapping.items()
        }
        return document.at({**entries, "services": services.at(found)})

    def _extended(
        self,
        name: str,
        node: Node,
        known: Mapping[str, Node],
        base: str,
        variables: Variables,
        chain: tuple[tuple[str, str], ...],
    ) -> Node:
        """Return a service on top of the one that it extends."""
        extends = (node.mapping or {}).get("extends")
        if extends is None or extends.null:
            return node
        own = node.at({key: held for key, held in (node.mapping or {}).items() if key != "extends"})
        path = f"services.{name}.extends"
        at = Section(extends if extends.mapping is not None else extends.at({"service": extends}), path, self._report)
        service, file = at.text("service"), at.text("file")
        if service is None:
            self._report.problem(extends, path, "the name of a service is expected")
            return own
        link = (file or node.file, service)
        if link in chain or len(chain) >= MAX_EXTENDS:
            self._report.problem(extends, path, f"{show(service)} extends itself, or too many extend each other")
            return own
        if file is not None:
            found = self._path(file, base, extends, path)
            if found is None:
                return own
            known, base = self._services(found, variables, extends, path), directory(found)
        parent = known.get(service)
        if parent is None:
            if file is None or known:
                self._report.problem(extends, path, f"there is no service {show(service)}{suggest(service, known)}")
            return own
        whole = self._extended(service, parent, known, base, variables, (*chain, link))
        return merge(whole, own, f"services.{name}")

    def _services(self, path: str, variables: Variables, place: Node, at: str) -> Mapping[str, Node]:
        found: dict[str, Node] = {}
        text_missing = self._files.text(path, place, at) is None
        if text_missing:
            return found
        for document in self._documents(path, directory(path), variables, place):
            services = (document.mapping or {}).get("services")
            found |= dict(services.mapping or {}) if services is not None else {}
        return found
