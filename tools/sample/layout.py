"""An OCI layout archive of several images (image-spec 1.1), as ``hunqi mirror import`` reads it."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sample.layers import Image, Layer

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_EPOCH: Final = "2024-01-01T00:00:00Z"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def write_archive(images: Sequence[Image], path: Path) -> None:
    """Write the archive, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    held: set[str] = set()
    roots: list[dict[str, object]] = []
    with tarfile.open(part, "w") as archive:

        def put(data: bytes, media_type: str) -> dict[str, object]:
            described = {"mediaType": media_type, "digest": _digest(data), "size": len(data)}
            _add(archive, held, str(described["digest"]), data)
            return described

        for image in images:
            for layer in image.layers:
                _add_layer(archive, held, layer)
            manifest = {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": put(_config(image), _CONFIG),
                "layers": [_described(layer) for layer in image.layers],
            }
            root = put(_json(manifest), _MANIFEST)
            roots.append({**root, "annotations": _names(image.name)})
        _plain(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _plain(archive, "index.json", _json({"schemaVersion": 2, "manifests": roots}))
    part.replace(path)


def _names(name: str) -> dict[str, str]:
    return {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }


def _config(image: Image) -> bytes:
    return _json(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": _EPOCH,
            "config": dict(image.config),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
            "history": [{"created": _EPOCH, "created_by": "make sample"} for _ in image.layers],
        }
    )


def _described(layer: Layer) -> dict[str, object]:
    return {"mediaType": _LAYER, "digest": layer.digest, "size": layer.size_bytes}


def _add_layer(archive: tarfile.TarFile, held: set[str], layer: Layer) -> None:
    if layer.digest not in held:
        held.add(layer.digest)
        archive.add(layer.path, arcname=_blob(layer.digest), filter=_anonymous)


def _add(archive: tarfile.TarFile, held: set[str], digest: str, data: bytes) -> None:
    if digest not in held:
        held.add(digest)
        _plain(archive, _blob(digest), data)


def _plain(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def _blob(digest: str) -> str:
    algorithm, _, text = digest.partition(":")
    return f"blobs/{algorithm}/{text}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
