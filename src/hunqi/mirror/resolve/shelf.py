"""What read-ahead and warming see of the store and of resolving."""

from __future__ import annotations

from collections.abc import Sequence

from hunqi.mirror.names import Target
from hunqi.mirror.resolve.errors import ManifestUnknown
from hunqi.mirror.resolve.resolver import Resolver
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Manifest, ManifestError
from hunqi.oci.reference import Reference


class Shelf:
    """Manifests as values. Thread-safe."""

    def __init__(self, catalogue: Catalogue, resolver: Resolver) -> None:
        self._catalogue = catalogue
        self._resolver = resolver

    def manifests_of(self, key: str, blob: Digest) -> Sequence[tuple[Digest, Manifest]]:
        """Return the image manifests of repository ``key`` that name ``blob``, the latest stored first."""
        found: list[tuple[float, Digest, Manifest]] = []
        for digest in self._catalogue.manifests_containing(blob, repo=key):
            link, manifest = self._catalogue.link(key, digest), self._parse(key, digest)
            if link is not None and manifest is not None and not manifest.is_index:
                found.append((link.created_at, digest, manifest))
        found.sort(key=lambda one: one[0], reverse=True)
        return [(digest, manifest) for _, digest, manifest in found]

    def is_stored(self, digest: Digest) -> bool:
        """Whether the content is here, whoever links it."""
        return self._catalogue.content(digest) is not None

    def open_manifest(self, target: Target, reference: Reference) -> tuple[Digest, Manifest]:
        """Return a manifest, fetched if need be; raises what :meth:`Resolver.manifest` raises."""
        resolved = self._resolver.manifest(target.upstream or "", target.repository, reference)
        if resolved.body is not None:
            return resolved.digest, Manifest.parse(resolved.body, resolved.media_type)
        manifest = self._parse(target.key, resolved.digest)
        if manifest is None:
            raise ManifestUnknown(target.key, str(reference))
        return resolved.digest, manifest

    def _parse(self, key: str, digest: Digest) -> Manifest | None:
        stored = self._catalogue.manifest(key, digest)
        if stored is None:
            return None
        try:
            return Manifest.parse(stored.body, stored.media_type)
        except ManifestError:
            return None
