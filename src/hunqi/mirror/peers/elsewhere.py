"""Local repositories on the other nodes: every live one is asked before anything is unknown.

What comes from another node is kept here as a cached copy, which eviction may take; the two nodes that a push was
given to hold it for good. Tags are never kept: only the nodes that a tag was pushed to know whether it has moved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from hunqi.mirror.names import Target
from hunqi.mirror.peers import plan
from hunqi.mirror.peers.roster import LivePeer, Roster
from hunqi.mirror.sources.errors import NotFound, SourceError, SourceMisbehaves
from hunqi.mirror.sources.health import HealthMemory
from hunqi.mirror.sources.model import Document, ManifestBody, ManifestHead
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.errors import StoreFullError, StoreUnavailableError
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Manifest, ManifestError
from hunqi.oci.reference import Reference

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Blocking and thread-safe. ``node`` is this mirror's mark in hops."""

    roster: Roster
    health: HealthMemory
    catalogue: Catalogue
    node: str

    def manifest(self, repo: str, reference: Reference, *, hops: tuple[str, ...] = ()) -> ManifestBody | None:
        """Return a manifest of a local repository from the first live node that has it, kept here as a copy.

        None: no live node has it. Raises :class:`SourceError` when a live node could not say.
        """
        target, passed = Target(None, repo), (*hops, self.node)
        body = self._first(repo, lambda peer: peer.source.get_manifest(target, reference, hops=passed))
        if body is not None:
            self._keep(repo, body)
        return body

    def manifest_head(self, repo: str, reference: Reference, *, hops: tuple[str, ...] = ()) -> ManifestHead | None:
        """As :meth:`manifest`, without its bytes."""
        target, passed = Target(None, repo), (*hops, self.node)
        return self._first(repo, lambda peer: peer.source.head_manifest(target, reference, hops=passed))

    def lists(self, repo: str, path: str, *, hops: tuple[str, ...] = ()) -> list[Document]:
        """Return every live node's ``tags/list?…`` or ``referrers/…`` of a local repository that it knows.

        Raises :class:`SourceError` when a live node could not say: a list with holes would pass for whole.
        """
        found: list[Document] = []
        for peer in self.roster.live():
            try:
                found.append(peer.source.get_document(Target(None, repo), path, hops=(*hops, self.node)))
            except NotFound:
                continue
            except SourceError as error:
                self.health.failed(peer.source.id, error.blame)
                raise
        return found

    def _first(self, repo: str, ask: Callable[[LivePeer], T]) -> T | None:
        by_node = {peer.node: peer for peer in self.roster.live()}
        failure: SourceError | None = None
        for node in plan.rank(repo, by_node):
            peer = by_node[node]
            try:
                return ask(peer)
            except NotFound:
                continue
            except SourceError as error:
                self.health.failed(peer.source.id, error.blame)
                failure = error
        if failure is not None and self.roster.is_live(failure.source):
            raise failure
        return None

    def _keep(self, repo: str, body: ManifestBody) -> None:
        try:
            manifest = Manifest.parse(body.data, body.media_type)
        except ManifestError as error:
            raise SourceMisbehaves("peer", f"sent a manifest that cannot be kept: {error}") from error
        try:
            self.catalogue.put_manifest(repo, body.data, manifest=manifest, digest=body.digest, pushed=False)
        except (StoreFullError, StoreUnavailableError):
            return  # the client gets it all the same


def owners_above(digest: Digest, node: str, live: list[LivePeer]) -> list[LivePeer]:
    """Return the live nodes that own ``digest`` before this one does, the owner first."""
    by_node = {peer.node: peer for peer in live}
    return [by_node[one] for one in plan.above(str(digest), node, by_node)]
