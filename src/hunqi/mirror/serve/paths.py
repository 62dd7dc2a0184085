"""The URL, parsed once into a value, so that nonsense such as a tag on a blob cannot exist after this.

Source of the shapes: distribution-spec 1.1, "Endpoints".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from hunqi.errors import UserError
from hunqi.mirror.peers.model import NEWS_PATH, NODE_PATH
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Reference, parse_reference


class NoSuchPathError(UserError):
    """The path is none of the registry's."""

    code: ClassVar[str] = "serve.no_such_path"


@dataclass(frozen=True, slots=True)
class PingPath:
    """``/v2/``: is this a registry, and who am I."""


@dataclass(frozen=True, slots=True)
class ManifestPath:
    """``/v2/<name>/manifests/<reference>``."""

    name: str
    reference: Reference


@dataclass(frozen=True, slots=True)
class BlobPath:
    """``/v2/<name>/blobs/<digest>``."""

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class UploadsPath:
    """``/v2/<name>/blobs/uploads/``: where an upload begins."""

    name: str


@dataclass(frozen=True, slots=True)
class UploadPath:
    """``/v2/<name>/blobs/uploads/<id>``: an upload under way."""

    name: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class TagsPath:
    """``/v2/<name>/tags/list``."""

    name: str


@dataclass(frozen=True, slots=True)
class ReferrersPath:
    """``/v2/<name>/referrers/<digest>``."""

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class CatalogPath:
    """``/v2/_catalog``."""


@dataclass(frozen=True, slots=True)
class TokenPath:
    """``/token``: where clients exchange credentials for a bearer token."""


@dataclass(frozen=True, slots=True)
class HealthPath:
    """``/healthz``, ``/readyz``, ``/metrics``."""

    name: str


@dataclass(frozen=True, slots=True)
class PeerPath:
    """``/hunqi/v1/…``: what nodes of a cluster ask each other, on the peers' port only."""


RegistryPath = (
    PingPath
    | ManifestPath
    | BlobPath
    | UploadsPath
    | UploadPath
    | TagsPath
    | ReferrersPath
    | CatalogPath
    | TokenPath
    | HealthPath
    | PeerPath
)

_FIXED: Final[Mapping[str, RegistryPath]] = {
    "/v2": PingPath(),
    "/v2/": PingPath(),
    "/v2/_catalog": CatalogPath(),
    "/token": TokenPath(),
    "/healthz": HealthPath("healthz"),
    "/readyz": HealthPath("readyz"),
    "/metrics": HealthPath("metrics"),
    NODE_PATH: PeerPath(),
    NEWS_PATH: PeerPath(),
}

# Greedy names: "a/blobs/uploads" may itself be a repository, and the last marker decides.
_NAMED: Final[tuple[tuple[re.Pattern[str], Callable[[str, str], RegistryPath]], ...]] = (
    (re.compile(r"/v2/(.+)/blobs/uploads/?()"), lambda name, _: UploadsPath(name)),
    (re.compile(r"/v2/(.+)/blobs/uploads/([^/]+)"), UploadPath),
    (re.compile(r"/v2/(.+)/blobs/([^/]+)"), lambda name, text: BlobPath(name, Digest.parse(text))),
    (re.compile(r"/v2/(.+)/manifests/([^/]+)"), lambda name, text: ManifestPath(name, parse_reference(text))),
    (re.compile(r"/v2/(.+)/referrers/([^/]+)"), lambda name, text: ReferrersPath(name, Digest.parse(text))),
    (re.compile(r"/v2/(.+)/tags/list()"), lambda name, _: TagsPath(name)),
)


def parse_path(path: str) -> RegistryPath:
    """Parse a percent-decoded path.

    Raises :class:`NoSuchPathError`, :class:`~hunqi.oci.digest.DigestError` or :class:`~hunqi.oci.reference.TagError`;
    the name is judged later, by :class:`~hunqi.mirror.names.Names`.
    """
    fixed = _FIXED.get(path)
    if fixed is not None:
        return fixed
    for pattern, build in _NAMED:
        match = pattern.fullmatch(path)
        if match:
            return build(match[1], match[2])
    raise NoSuchPathError(f"{path[:200]!r} is not a path of the registry API: it begins with /v2/")
