"""Secrets and configs: what they hold, and which service is granted them."""

from __future__ import annotations

import re

from hunqi.apps.compose.context import MAX_CONFIG_BYTES, MAX_SECRET_BYTES, Context
from hunqi.apps.compose.names import external_problem, resource_problem
from hunqi.apps.compose.paths import absolute
from hunqi.apps.compose.report import show, suggest
from hunqi.apps.compose.section import Section
from hunqi.apps.model import Grant, PayloadSpec

_OWNER = re.compile(r"[0-9]{1,10}")
_FILE = re.compile(r"[^/\x00-\x1f]{1,255}")


def grants(section: Section, kind: str, context: Context) -> tuple[Grant, ...]:
    """Return what a service is granted; ``kind`` is secrets or configs. The payloads go to ``context``."""
    found: dict[str, Grant] = {}
    for item in section.items(kind):
        source = item.text("source")
        if source is None:
            item.problem("source", "the name of what is granted is expected")
            continue
        if not _known(item, source, kind, context):
            continue
        target = item.text("target") or (source if kind == "secrets" else f"/{source}")
        if not (absolute(target) or (_FILE.fullmatch(target) and target not in {".", ".."})):
            item.problem("target", f"{show(target)} is neither a file's name nor an absolute path")
            continue
        if target in found:
            item.problem("target", f"{show(target)} is granted twice")
        mode = item.integer("mode", high=0o7777)
        found[target] = Grant(
            source=source,
            target=target if absolute(target) or kind == "secrets" else f"/{target}",
            uid=_owner(item, "uid"),
            gid=_owner(item, "gid"),
            mode=0o444 if mode is None else mode,
        )
    return tuple(found.values())


def _owner(item: Section, key: str) -> str:
    text = item.text(key) or "0"
    if not _OWNER.fullmatch(text):
        item.problem(key, f"{show(text)} is no number of an owner")
        return "0"
    return text


def _known(item: Section, source: str, kind: str, context: Context) -> bool:
    held = context.secrets if kind == "secrets" else context.configs
    if source in held:
        return True
    declared = dict(context.root.named(kind))
    if source not in declared:
        hint = suggest(source, declared)
        item.problem("source", f"{show(source)} is not among the {kind} of the project{hint}")
        return False
    if (wrong := resource_problem(context.project.name, source, payload=True)) is not None:
        declared[source].report.problem(declared[source].node, declared[source].path, wrong)
        return False
    held[source] = _payload(source, declared[source], kind, context)
    return True


def _payload(name: str, section: Section, kind: str, context: Context) -> PayloadSpec:
    template = section.choice("template_driver", ("golang",))
    if section.boolean("external"):
        external = section.text("name") or name
        if (wrong := external_problem(external)) is not None:
            section.problem("name", wrong)
        context.report.privilege(section.node, section.path, f"reads the {kind[:-1]} {show(external)} that is there")
        return PayloadSpec(name=name, external=external)
    if "name" in section:
        section.changed("name", "it is named after the app and its content")
    data = _data(section, kind, context)
    if data is None:
        return PayloadSpec(name=name, template=template)
    limit = MAX_SECRET_BYTES if kind == "secrets" else MAX_CONFIG_BYTES
    if not 0 < len(data) < limit:
        context.report.problem(section.node, section.path, f"it has {len(data)} bytes; Swarm takes 1 to {limit - 1}")
        return PayloadSpec(name=name, template=template)
    return PayloadSpec(name=name, digest=context.keep(data), template=template)


def _data(section: Section, kind: str, context: Context) -> bytes | None:
    sources = [key for key in ("file", "environment", "content") if key in section]
    if "content" in sources and kind == "secrets":
        section.problem("content", "a secret is not written into the file: use file, environment or external")
        return None
    if len(sources) != 1:
        text = "one of file, environment, content or external says what it holds"
        context.report.problem(section.node, section.path, text)
        return None
    text = section.text(sources[0])
    if text is None:
        return None
    match sources[0]:
        case "file":
            return _file(section, text, context)
        case "environment":
            value = context.variables.lookup(text)
            if value is None:
                section.problem("environment", f"the variable {show(text)} is not set")
                return None
            return value.encode("utf-8", "surrogatepass")
        case _:
            return text.encode("utf-8", "surrogatepass")


def _file(section: Section, path: str, context: Context) -> bytes | None:
    data = context.files.data(path) if path else None
    if data is None and path and (context.files.absent(path) or context.files.listing(path) is not None):
        section.problem("file", f"there is no file {show(path)}")
    return data
