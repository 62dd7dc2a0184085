"""The mounts of a service. What lies on the client's machine is not on the nodes: a file of the project becomes a
config, a directory of a few files configs, an empty one a volume, each said so."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from hunqi.apps.compose.context import MAX_CONFIG_BYTES, Context
from hunqi.apps.compose.keys import NEEDS_46
from hunqi.apps.compose.names import external_problem, resource_problem
from hunqi.apps.compose.paths import absolute, inside
from hunqi.apps.compose.report import show, suggest
from hunqi.apps.compose.section import Section, size_bytes
from hunqi.apps.model import Grant, Mount, PayloadSpec, VolumeSpec

MAX_DIRECTORY_FILES: Final = 50
_MAX_CHAIN: Final = 10
_PROPAGATIONS: Final = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_SUBPATH = re.compile(r"[^/\x00-\x1f][^\x00-\x1f]{0,1023}")
_TMPFS_VALUES: Final = {"uid", "gid", "nr_inodes", "nr_blocks"}


def mounts(
    section: Section, context: Context, chain: tuple[str, ...] = ()
) -> tuple[tuple[Mount, ...], tuple[Grant, ...]]:
    """Return the mounts of a service, and the configs that stand for files of the project.

    ``chain`` are the services that take these mounts by ``volumes_from``.
    """
    found: dict[str, Mount] = _from_others(section, context, chain)
    granted: list[Grant] = []
    for item in section.items("volumes"):
        for made in _mount(item, context):
            if isinstance(made, Grant):
                granted.append(made)
            else:
                found[made.target] = made
    for text in section.texts("tmpfs"):
        mount = _tmpfs(section, text)
        if mount is not None:
            found[mount.target] = mount
    size = section.size_bytes("shm_size")
    if size:
        section.changed("shm_size", "a tmpfs of this size at /dev/shm")
        found["/dev/shm"] = Mount(kind="tmpfs", target="/dev/shm", options={"TmpfsOptions": {"SizeBytes": size}})  # noqa: S108
    return tuple(found.values()), tuple(granted)


def _from_others(section: Section, context: Context, chain: tuple[str, ...]) -> dict[str, Mount]:
    """Return the named volumes of the services of ``volumes_from``."""
    found: dict[str, Mount] = {}
    texts = section.texts("volumes_from")
    services = dict(context.root.named("services")) if texts else {}
    for text in texts:
        name, _, mode = text.partition(":")
        if mode not in {"", "ro", "rw"}:
            section.problem("volumes_from", f"{show(text)}: only services of the project have volumes to give")
        elif name in chain or len(chain) > _MAX_CHAIN:
            section.problem("volumes_from", f"{show(name)} takes the volumes of this service")
        elif name in services:
            theirs, _ = mounts(services[name], context, (*chain, section.path.rpartition(".")[2]))
            named = [mount for mount in theirs if mount.kind == "volume" and mount.source]
            if len(named) < len(theirs):
                section.changed("volumes_from", f"of {name} only the named volumes, which can be shared")
            found |= {each.target: replace(each, read_only=each.read_only or mode == "ro") for each in named}
    return found


def _mount(item: Section, context: Context) -> Iterator[Mount | Grant]:
    target = item.text("target")
    if target is None or not absolute(target):
        item.problem("target", f"{show(target)} is no absolute path in the container")
        return
    source = item.text("source") or ""
    match item.text("type"):
        case "volume":
            yield from _volume(item, source, target, context)
        case "bind" if source.startswith("/"):
            yield from _host(item, source, target)
        case "bind" if source:
            yield from _project(item, source, target, context)
        case "bind":
            if "source" not in item:
                item.problem("source", "the path that is mounted is expected")
        case "tmpfs":
            options = {"SizeBytes": item.section("tmpfs").size_bytes("size"), "Mode": _mode(item.section("tmpfs"))}
            yield _made("tmpfs", target, options={"TmpfsOptions": options}, read_only=item.boolean("read_only"))
        case other:
            item.problem("type", f"Swarm's tasks have no mounts of the type {show(other)}; volume, bind and tmpfs are")


def _mode(section: Section) -> int | None:
    node = section.get("mode")
    return section.integer("mode", high=0o7777) if node is not None else None


def _made(
    kind: str, target: str, *, source: str = "", options: dict[str, Any] | None = None, read_only: bool | None = False
) -> Mount:
    kept = {name: {key: held for key, held in inner.items() if held} for name, inner in (options or {}).items()}
    return Mount(
        kind=kind,
        target=target,
        source=source,
        read_only=bool(read_only),
        options={name: inner for name, inner in kept.items() if inner},
    )


def _volume(item: Section, source: str, target: str, context: Context) -> Iterator[Mount]:
    if source and not _known(item, source, context):
        return
    extra = item.section("volume")
    subpath = extra.text("subpath")
    if subpath is not None and (not _SUBPATH.fullmatch(subpath) or ".." in subpath.split("/")):
        extra.problem("subpath", f"{show(subpath)} is no path inside the volume")
    options = {
        "NoCopy": extra.boolean("nocopy"),
        "Labels": {name: value or "" for name, value in extra.pairs("labels").items()},
        "Subpath": subpath,
    }
    if not source:
        item.report.changed(
            item.node, item.path, f"{target} has no name: what is written there is gone with its task; name a volume"
        )
    yield _made(
        "volume", target, source=source, options={"VolumeOptions": options}, read_only=item.boolean("read_only")
    )


def _known(item: Section, source: str, context: Context) -> bool:
    if source in context.volumes:
        return True
    declared = dict(context.root.named("volumes"))
    if source not in declared:
        item.problem("source", f"{show(source)} is not among the volumes of the project{suggest(source, declared)}")
        return False
    section = declared[source]
    if (wrong := resource_problem(context.project.name, source)) is not None:
        section.report.problem(section.node, section.path, wrong)
        return False
    context.volumes[source] = _volume_spec(source, section, context)
    return True


def _volume_spec(name: str, section: Section, context: Context) -> VolumeSpec:
    if section.boolean("external"):
        external = section.text("name") or name
        if (wrong := external_problem(external)) is not None:
            section.problem("name", wrong)
        context.report.privilege(section.node, section.path, f"mounts the volume {show(external)} that is there")
        return VolumeSpec(name=name, external=external)
    if "name" in section:
        section.changed("name", f"the volume is called {context.project.name}_{name}; external names one that exists")
    options = {key: value or "" for key, value in section.pairs("driver_opts").items()}
    driver = section.text("driver") or "local"
    if options or driver != "local":
        context.report.privilege(
            section.node, section.path, f"has a volume of the driver {show(driver)} with options of its own"
        )
    labels = {key: value or "" for key, value in section.pairs("labels").items()}
    return VolumeSpec(name=name, driver=driver, driver_options=options, labels=labels)


def _host(item: Section, source: str, target: str) -> Iterator[Mount]:
    if not absolute(source):
        item.problem("source", f"{show(source)} is no path of a host: write it without ..")
        return
    item.report.privilege(item.node, item.path, f"mounts {source} of the node it runs on")
    extra = item.section("bind")
    recursive = extra.choice("recursive", ("enabled", "disabled", "writable", "readonly"))
    if recursive in {"writable", "readonly"}:
        extra.ignored("recursive", "the engine's own way of read-only mounts")
    options = {
        "Propagation": extra.choice("propagation", _PROPAGATIONS),
        "NonRecursive": recursive == "disabled",
    }
    yield _made("bind", target, source=source, options={"BindOptions": options}, read_only=item.boolean("read_only"))


def _project(item: Section, source: str, target: str, context: Context) -> Iterator[Mount | Grant]:
    """Yield what stands for a file or a directory of the project."""
    path = "" if source == "." else source
    found = context.files.mountable(path)
    if isinstance(found, bytes):
        if item.boolean("read_only") is not True:
            item.changed("source", f"{show(path)} is a config: the container sees it read-only, as it is now")
        yield from _config(item, path, target, found, context)
    elif found:
        yield from _directory(item, path, target, found, context)
    elif found is not None:
        name = f"dir-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
        context.volumes[name] = VolumeSpec(name=name)
        volume = f"{context.project.name}_{name}"
        item.changed("source", f"the empty directory {show(source)} is the volume {volume}; `hunqi app cp` fills it")
        yield _made("volume", target, source=name, read_only=item.boolean("read_only"))


def _directory(item: Section, path: str, target: str, listing: tuple[str, ...], context: Context) -> Iterator[Grant]:
    if len(listing) > MAX_DIRECTORY_FILES:
        item.problem(
            "source",
            f"the {len(listing)} files of the directory {show(path or '.')} are not on the nodes: build them into the"
            " image, or name a volume for data",
        )
        return
    item.changed("source", f"the {len(listing)} files of the directory are configs: read-only, as they are now")
    for entry in listing:
        file = inside(path, entry)
        if not file or (path and not file.startswith(f"{path}/")):
            item.problem("source", f"{show(entry)} is no file of the directory")
            continue
        data = context.files.data(file)
        if data is not None:
            below = file.removeprefix(f"{path}/") if path else file
            yield from _config(item, file, posixpath.join(target, below), data, context)


def _config(item: Section, path: str, target: str, data: bytes, context: Context) -> Iterator[Grant]:
    if not data:
        item.changed("source", f"{show(path)} is empty, which no config is: it holds the end of a line")
        data = b"\n"
    if len(data) >= MAX_CONFIG_BYTES:
        item.problem("source", f"{show(path)} has {len(data)} bytes; a config has {MAX_CONFIG_BYTES - 1} at most")
        return
    name = f"file-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    context.configs[name] = PayloadSpec(name=name, digest=context.keep(data))
    yield Grant(source=name, target=target, mode=0o555 if data.startswith(b"#!") else 0o444)


def _tmpfs(section: Section, text: str) -> Mount | None:
    target, _, options = text.partition(":")
    if not absolute(target):
        section.problem("tmpfs", f"{show(target)} is no absolute path in the container")
        return None
    inner: dict[str, Any] = {}
    further: list[list[str]] = []
    for option in filter(None, options.split(",")):
        name, equals, value = option.partition("=")
        if name == "size":
            inner["SizeBytes"] = size_bytes(value)
            if inner["SizeBytes"] is None:
                section.problem("tmpfs", f"{show(value)} is no size; write 64m")
        elif name == "mode" and re.fullmatch(r"0?o?[0-7]{3,4}", value):
            inner["Mode"] = int(value.replace("o", ""), 8)
        elif re.fullmatch(r"[a-z_]{2,16}", name) and (not equals or name in _TMPFS_VALUES):
            further.append([name, value] if equals else [name])
        else:
            section.problem("tmpfs", f"{show(option)} is no option of a tmpfs")
    if further:
        section.changed("tmpfs", f"{', '.join(each[0] for each in further)}: {NEEDS_46}")
        inner["Options"] = further
    return _made("tmpfs", target, options={"TmpfsOptions": inner})
