"""Images to and from OCI layout archives, for machines without a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hunqi.kit.rpc import Payload
from hunqi.mirror.operate.model import ArchiveFileError, OperateWorld, find_digest, parse_image
from hunqi.mirror.operate.upkeep import Emit
from hunqi.mirror.store.layout import IMAGE_NAME, REF_NAME, ExportImage, ImportTarget, LayoutProgress
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
    """Read the archive ``path``; ``as`` names the repository, else the archive's own names do."""
    path = Path(payload["path"])
    into = payload.get("as")

    def naming(root: Descriptor) -> ImportTarget | None:
        return _import_target(world, root, None if into is None else str(into))

    try:
        with path.open("rb") as file:
            imported = import_layout(world.catalogue, file, naming=naming, progress=_tell(emit))
    except OSError as error:
        raise ArchiveFileError(f"{path} cannot be read: {error.strerror}") from error
    return {
        "images": [
            {
                "image": f"{one.target.repo}:{one.target.tag}" if one.target.tag else one.target.repo,
                "digest": str(one.descriptor.digest),
            }
            for one in imported
        ]
    }


def _export_image(world: OperateWorld, image: str) -> ExportImage:
    target, reference, digest = find_digest(world, image)
    tag = reference if isinstance(reference, Tag) else None
    name = f"{target.key}:{tag}" if tag else f"{target.key}@{digest}"
    return ExportImage(repo=target.key, digest=digest, name=name, tag=tag)


def _import_target(world: OperateWorld, root: Descriptor, into: str | None) -> ImportTarget | None:
    annotations = root.annotations
    name, tag_text = annotations.get(IMAGE_NAME), annotations.get(REF_NAME)
    if into is not None:
        target, _ = parse_image(world.names, world.address, into)
        tag = Tag.parse(tag_text) if tag_text else None
        return ImportTarget(repo=target.key, tag=tag, pushed=_is_local(world, target.key))
    if name is None:
        return None
    target, reference = parse_image(world.names, world.address, name)
    tag = reference if isinstance(reference, Tag) else None
    return ImportTarget(repo=target.key, tag=tag, pushed=_is_local(world, target.key))


def _is_local(world: OperateWorld, key: str) -> bool:
    first, slash, _ = key.partition("/")
    return not (slash and first in world.names.upstreams)


def _tell(emit: Emit) -> Callable[[LayoutProgress], None]:
    def tell(progress: LayoutProgress) -> None:
        emit({"done": progress.done_bytes, "total": progress.total_bytes or progress.done_bytes})

    return tell
