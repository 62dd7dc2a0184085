"""Manifests and indexes, read leniently and never re-encoded (image-spec 1.1; Docker schema 2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, cast

from hunqi.errors import UserError
from hunqi.oci.digest import Digest, DigestError

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES: Final = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
"""What a request to an upstream accepts, most telling first."""
INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
NONDISTRIBUTABLE: Final = frozenset(
    {
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    }
)
MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024
"""Bytes; the size that distribution-spec 1.1 says registries should take at least."""


class ManifestError(UserError):
    """The bytes are not a manifest or index that a registry can keep."""

    code: ClassVar[str] = "oci.manifest_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A pointer to content: media type, digest, size in bytes."""

    media_type: str
    digest: Digest
    size: int
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])
    urls: tuple[str, ...] = ()
    platform: str | None = None
    """``os/architecture[/variant]``, of an index's children."""

    @property
    def is_distributable(self) -> bool:
        """False for foreign layers, which registries need not hold."""
        return self.media_type not in NONDISTRIBUTABLE and not self.urls


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a registry needs to know of a manifest or an index; the bytes themselves stay as they came."""

    media_type: str
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_index(self) -> bool:
        """Whether this points at other manifests rather than at layers."""
        return self.media_type in INDEX_TYPES

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config first, then the layers, in order."""
        return (*((self.config,) if self.config else ()), *self.layers)

    @property
    def referrer_type(self) -> str | None:
        """The ``artifactType`` of this manifest's entry in a referrers list: its own, else its config's media type."""
        if self.artifact_type:
            return self.artifact_type
        return self.config.media_type if self.config and not self.is_index else None

    @classmethod
    def parse(cls, data: bytes, content_type: str = "") -> Manifest:
        """Parse ``data``; ``content_type`` is the header it came with, ``mediaType`` inside must agree with it.

        Raises :class:`ManifestError`. Unknown fields are ignored; Docker schema 1 is refused.
        """
        try:
            decoded = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"the manifest is not JSON: {error}") from error
        if not isinstance(decoded, dict):
            raise ManifestError("the manifest is not a JSON object")
        document = cast("dict[str, object]", decoded)
        if document.get("schemaVersion") != 2:
            raise ManifestError("schemaVersion must be 2: push with a client that speaks Docker schema 2 or OCI")
        return cls(
            media_type=_media_type(document, content_type.partition(";")[0].strip()),
            config=_optional(document, "config"),
            layers=_several(document, "layers"),
            manifests=_several(document, "manifests"),
            subject=_optional(document, "subject"),
            artifact_type=_text(document, "artifactType"),
            annotations=_annotations(document),
        )


def _media_type(document: Mapping[str, object], header: str) -> str:
    inside = _text(document, "mediaType")
    if inside and header in MANIFEST_TYPES and inside != header:
        raise ManifestError(f"Content-Type says {header} and mediaType says {inside}: make them the same")
    if inside:
        return inside
    if header and header not in {"application/json", "application/octet-stream", "text/plain"}:
        return header
    return OCI_INDEX if "manifests" in document else OCI_MANIFEST


def _text(document: Mapping[str, object], key: str) -> str | None:
    value = document.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ManifestError(f"{key} must be a string")
    return value


def _annotations(document: Mapping[str, object]) -> dict[str, str]:
    value = document.get("annotations")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ManifestError("annotations must be an object of strings")
    pairs = cast("dict[str, object]", value)
    return {key: str(text) for key, text in pairs.items()}


def _optional(document: Mapping[str, object], key: str) -> Descriptor | None:
    value = document.get(key)
    return None if value is None else _descriptor(value, key)


def _several(document: Mapping[str, object], key: str) -> tuple[Descriptor, ...]:
    value = document.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ManifestError(f"{key} must be a list")
    return tuple(_descriptor(item, key) for item in cast("list[object]", value))


def _descriptor(value: object, key: str) -> Descriptor:
    if not isinstance(value, dict):
        raise ManifestError(f"{key}: a descriptor must be an object")
    document = cast("dict[str, object]", value)
    size = document.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or size >= 2**63:
        raise ManifestError(f"{key}: size must be a whole number of bytes")
    try:
        digest = Digest.parse(_text(document, "digest") or "")
    except DigestError as error:
        raise ManifestError(f"{key}: {error}") from error
    urls = document.get("urls")
    return Descriptor(
        media_type=_text(document, "mediaType") or "application/octet-stream",
        digest=digest,
        size=size,
        artifact_type=_text(document, "artifactType"),
        annotations=_annotations(document),
        urls=tuple(str(url) for url in cast("list[object]", urls)) if isinstance(urls, list) else (),
        platform=_platform(document.get("platform")),
    )


def _platform(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    document = cast("dict[str, object]", value)
    parts = [str(document[key]) for key in ("os", "architecture", "variant") if document.get(key)]
    return "/".join(parts) or None
