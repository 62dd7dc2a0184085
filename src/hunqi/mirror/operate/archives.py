"""Images to and from OCI layout archives, for machines without a network."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hunqi.errors import UserError
from hunqi.kit.rpc import Payload
from hunqi.mirror.names import Target
from hunqi.mirror.operate.model import ArchiveFileError, OperateWorld, find_digest, split_image
from hunqi.mirror.operate.upkeep import Emit
from hunqi.mirror.store.layout import (
    IMAGE_NAME,
    REF_NAME,
    VISIBILITY,
    ExportImage,
    ImportedImage,
    ImportTarget,
    LayoutError,
    LayoutProgress,
)
from hunqi.mirror.store.layout_export import export_images
from hunqi.mirror.store.layout_import import import_layout
from hunqi.oci.manifest import Descriptor
from hunqi.oci.reference import Tag


def export_archive(world: OperateWorld, payload: Payload, emit: Emit) -> Payload:
    """Write images to the file ``path``; a file that could not be finished is removed."""
    path = Path(payload["path"])
    wanted = [_export_image(world, image) for image in payload["images"]]
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("wb") as file:
            size = export_images(world.catalogue, wanted, file, referrers=True, progress=_tell(emit))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        raise ArchiveFileError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    return {"path": str(path), "bytes": size}


def import_archive(world: OperateWorld, payload: Payload, emit: Emit) -> Payload:
    """Read the archive ``path``; ``as`` says where its image goes, else the archive's own names do.

    An upstream's repository of which nothing was decided yet becomes public by that, unless the archive or ``private``
    says otherwise: without a network nobody could ask.
    """
    path = Path(payload["path"])
    into = payload.get("as")

    def naming(roots: Sequence[Descriptor]) -> Sequence[ImportTarget | None]:
        return targets_of(world, roots, None if into is None else str(into))

    try:
        with path.open("rb") as file:
            imported = import_layout(world.catalogue, file, naming=naming, progress=_tell(emit))
    except OSError as error:
        raise ArchiveFileError(f"{path} cannot be read by the mirror: {error.strerror}") from error
    return {"images": [_show(world, one, private=bool(payload.get("private"))) for one in imported]}


def targets_of(world: OperateWorld, roots: Sequence[Descriptor], into: str | None) -> list[ImportTarget | None]:
    """Return where each root of an archive goes; None for those that have no name, as signatures have none.

    Raises :class:`LayoutError`, or what names raise.
    """
    if into is None:
        found = [_by_own_name(world, root) for root in roots]
        if not any(found):
            raise LayoutError("the archive does not name its image: say where it goes with --as NAME:TAG")
        return found
    target, tag = _target(world, into)
    named = [root for root in roots if _own_names(world, root) != (None, None)] or list(roots)
    if len(named) != 1 and tag is not None:
        raise LayoutError(f"the archive has {len(named)} images: leave the tag out of --as, and each keeps its own")
    tags = [tag or _own_names(world, root)[1] or Tag("latest") for root in named]
    if len(set(tags)) != len(tags):
        raise LayoutError("two images of the archive have the same tag: leave --as out, and each keeps its name")
    chosen = {id(root): tag for root, tag in zip(named, tags, strict=True)}
    return [
        ImportTarget(repo=target.key, tag=chosen[id(root)], pushed=target.is_local) if id(root) in chosen else None
        for root in roots
    ]


def _by_own_name(world: OperateWorld, root: Descriptor) -> ImportTarget | None:
    name, tag = _own_names(world, root)
    if name is None:
        return None
    try:
        target, _ = _target(world, name.partition("@")[0])
    except UserError as error:
        raise LayoutError(f"{error}; or import it under another name with --as NAME:TAG") from error
    return ImportTarget(repo=target.key, tag=tag, pushed=target.is_local)


def _own_names(world: OperateWorld, root: Descriptor) -> tuple[str | None, Tag | None]:
    """Return the name and the tag that an archive gives to a root, as containerd, Docker and podman write them."""
    name, reference = root.annotations.get(IMAGE_NAME), root.annotations.get(REF_NAME)
    if name is None and reference is not None and "/" in reference:
        name = reference
    text = name if name is not None else f"-:{reference}" if reference is not None else None
    if text is None:
        return None, None
    try:
        _, tag, digest = split_image(world.names, world.address, text)
    except UserError as error:
        raise LayoutError(f"the archive names an image {text[:200]!r}: {error}") from error
    return name, tag if tag or digest else Tag("latest")


def _target(world: OperateWorld, text: str) -> tuple[Target, Tag | None]:
    """Read where to import: into an upstream's repository where that is named, else as a push would."""
    name, tag, digest = split_image(world.names, world.address, text)
    if digest is not None:
        raise LayoutError(f"{text}: an image is imported under a tag, its digest follows from its bytes")
    if name.partition("/")[0] in world.names.upstreams:
        return world.names.resolve(name), tag
    return world.names.resolve_push(name), tag


def _show(world: OperateWorld, image: ImportedImage, *, private: bool) -> Payload:
    target = image.target
    shown: Payload = {
        "image": f"{target.repo}:{target.tag}" if target.tag else f"{target.repo}@{image.descriptor.digest}",
        "digest": str(image.descriptor.digest),
    }
    if target.pushed:
        return shown | {"visibility": "local"}
    decided = world.catalogue.visibility(target.repo)
    if decided is None:
        private = private or image.descriptor.annotations.get(VISIBILITY) == "private"
        world.catalogue.set_visibility(target.repo, not private, time.time())
    return shown | {"visibility": "public" if (decided.public if decided else not private) else "private"}


def _export_image(world: OperateWorld, image: str) -> ExportImage:
    target, reference, digest = find_digest(world, image)
    tag = reference if isinstance(reference, Tag) else None
    decided = None if target.is_local else world.catalogue.visibility(target.key)
    return ExportImage(
        repo=target.key,
        digest=digest,
        name=f"{target.key}:{tag}" if tag else f"{target.key}@{digest}",
        tag=tag,
        is_private=not target.is_local and decided is not None and not decided.public,
    )


def _tell(emit: Emit) -> Callable[[LayoutProgress], None]:
    def tell(progress: LayoutProgress) -> None:
        emit({"done": progress.done_bytes, "total": progress.total_bytes or progress.done_bytes})

    return tell
