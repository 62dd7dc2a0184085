"""OCI image layouts in tar archives, for machines without a network: what both directions share.

Source: image-spec 1.1, image-layout.md. ``org.opencontainers.image.ref.name`` carries the tag, and containerd's
``io.containerd.image.name`` the full reference, as ``ctr images export`` writes and ``docker load`` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from hunqi.errors import UserError
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Descriptor
from hunqi.oci.reference import Tag

REF_NAME: Final = "org.opencontainers.image.ref.name"
IMAGE_NAME: Final = "io.containerd.image.name"
VISIBILITY: Final = "hunqi.visibility"
"""An annotation of our own: ``private`` for what an upstream does not show to everybody."""
LAYOUT_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
LAYOUT_BODY: Final = b'{"imageLayoutVersion":"1.0.0"}'


class LayoutError(UserError):
    """An archive is not an image layout that can be imported, or an image cannot be exported whole."""

    code: ClassVar[str] = "store.layout"


class ExportIncompleteError(LayoutError):
    """Some content of an image is not stored here; ``missing`` lists it: warm the image first."""

    code: ClassVar[str] = "store.export_incomplete"

    def __init__(self, *, name: str, missing: tuple[Digest, ...]) -> None:
        shown = ", ".join(str(digest) for digest in missing[:3])
        super().__init__(f"{name}: {len(missing)} contents are not stored here ({shown}): warm the image first")
        self.name = name
        self.missing = missing


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportImage:
    """An image to export: where it is, and the full reference to write beside it."""

    repo: str
    digest: Digest
    name: str
    tag: Tag | None = None
    is_private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportTarget:
    """Where a root of an archive goes."""

    repo: str
    tag: Tag | None
    pushed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedImage:
    """A root of an archive that is now stored."""

    descriptor: Descriptor
    target: ImportTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutProgress:
    """How far an export or import is; ``total_bytes`` is None where it cannot be known (reading a stream)."""

    done_bytes: int
    total_bytes: int | None
    digest: Digest
