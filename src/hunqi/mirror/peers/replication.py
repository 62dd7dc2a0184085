"""What was pushed here is held by a second live node before the client hears of success.

The second node is the repository's first in rank, so that all of an image lies together. The others only hear of moved
tags: they forget what the tags meant before and ask when they are asked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from hunqi.errors import HunqiError
from hunqi.mirror.peers import plan
from hunqi.mirror.peers.model import MAX_NEWS, News, NotReplicatedError, PeerRefusedError, TagNews
from hunqi.mirror.peers.roster import LivePeer, Roster
from hunqi.mirror.sources.errors import SourceError
from hunqi.mirror.sources.health import HealthMemory
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.model import LinkKind, StoredManifest
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Manifest
from hunqi.oci.reference import Reference, Tag

_DEPTH: Final = 4
"""Indexes in indexes that are followed when a node lacks what a manifest names."""
_log: Final = logging.getLogger(__name__)

Bring = Callable[[str, Digest], None]
"""Has a blob of a local repository fetched into this node's store; raises :class:`HunqiError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicator:
    """Blocking; used by the fetcher's threads."""

    roster: Roster
    health: HealthMemory
    catalogue: Catalogue
    files: ContentFiles
    bring: Bring

    def replicate(self, repo: str, digest: Digest, kind: LinkKind, tags: tuple[Tag, ...]) -> None:
        """Return once min(2, live) nodes hold it and every live node knows of its tags.

        Raises :class:`NotReplicatedError` when nodes are live and none could take it.
        """
        taker = self._give_to_one(repo, digest, kind, tags)
        if tags:
            self._spread(repo, tags, but=taker)

    def withdraw(self, repo: str, reference: Reference, kind: LinkKind) -> bool:
        """Have every live node forget what was deleted here; whether any had it. Nodes that are away keep it."""
        had = False
        for peer in self.roster.live():
            try:
                if kind is LinkKind.MANIFEST or isinstance(reference, Tag):
                    had |= peer.client.delete_manifest(repo, reference)
                else:
                    had |= peer.client.delete_blob(repo, reference)
            except (SourceError, PeerRefusedError) as error:
                self._note(peer, error)
                _log.warning("node %s may still hold %s of %s: %s", peer.node, reference, repo, error)
        return had

    def catch_up(self, peer: LivePeer) -> None:
        """Tell a node that was away of all tags and namespaces that were pushed here; raises :class:`HunqiError`."""
        namespaces = tuple(sorted(self.catalogue.pushed_namespaces()))
        tags = self.catalogue.pushed_tags()
        peer.client.tell(News(namespaces=namespaces))
        for page in _pages(
            TagNews(repo=repo, tag=Tag(name), digest=digest, changed_at=at) for repo, name, digest, at in tags
        ):
            peer.client.tell(News(tags=page))

    def _give_to_one(self, repo: str, digest: Digest, kind: LinkKind, tags: tuple[Tag, ...]) -> LivePeer | None:
        reasons: list[str] = []
        for peer in self._in_rank(repo):
            try:
                if kind is LinkKind.MANIFEST:
                    self._give_manifest(peer, repo, digest, tags, depth=0)
                else:
                    self._give_blob(peer, repo, digest)
            except (SourceError, PeerRefusedError) as error:
                self._note(peer, error)
                reasons.append(str(error))
            else:
                return peer
        if reasons and self.roster.live():
            raise NotReplicatedError(f"{digest} of {repo}", reasons)
        return None

    def _give_blob(self, peer: LivePeer, repo: str, digest: Digest) -> None:
        descriptor = self.files.open_for_read(digest)
        if descriptor is None:
            self.bring(repo, digest)
            descriptor = self.files.open_for_read(digest)
        if descriptor is None:
            raise PeerRefusedError(f"{digest} is not here any more")
        try:
            peer.client.keep_blob(repo, digest, descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)

    def _give_manifest(self, peer: LivePeer, repo: str, digest: Digest, tags: tuple[Tag, ...], *, depth: int) -> None:
        stored = self.catalogue.manifest(repo, digest)
        if stored is None:
            raise PeerRefusedError(f"manifest {digest} is not here any more")
        if peer.client.put_manifest(repo, stored, tags):
            return
        if depth > _DEPTH:
            raise PeerRefusedError(f"{digest} lies too deep in indexes")
        self._give_what_it_names(peer, repo, stored, depth=depth)
        if not peer.client.put_manifest(repo, stored, tags):
            raise PeerRefusedError(f"node {peer.node} still lacks what {digest} names")

    def _give_what_it_names(self, peer: LivePeer, repo: str, stored: StoredManifest, *, depth: int) -> None:
        manifest = Manifest.parse(stored.body, stored.media_type)
        for blob in manifest.blobs:
            if blob.is_distributable:
                self._give_blob(peer, repo, blob.digest)
        for child in manifest.manifests:
            self._give_manifest(peer, repo, child.digest, (), depth=depth + 1)

    def _spread(self, repo: str, tags: Iterable[Tag], *, but: LivePeer | None) -> None:
        """Tell all other live nodes; one that cannot be told is down until it has been."""
        news = News(tags=tuple(self._news_of(repo, tags)), namespaces=(repo.partition("/")[0],))
        for peer in self.roster.live():
            if but is not None and peer.node == but.node:
                continue
            try:
                peer.client.tell(news)
            except HunqiError as error:
                _log.warning("node %s was not told of %s: %s", peer.node, repo, error)
                self.roster.lose(peer)

    def _news_of(self, repo: str, tags: Iterable[Tag]) -> Iterator[TagNews]:
        for tag in tags:
            row = self.catalogue.tag(repo, tag)
            if row is not None:
                yield TagNews(repo=repo, tag=tag, digest=row.digest, changed_at=row.changed_at)

    def _in_rank(self, repo: str) -> list[LivePeer]:
        by_node = {peer.node: peer for peer in self.roster.live()}
        return [by_node[node] for node in plan.rank(repo, by_node)]

    def _note(self, peer: LivePeer, error: HunqiError) -> None:
        if isinstance(error, SourceError):
            self.health.failed(peer.source.id, error.blame)


def _pages(news: Iterable[TagNews]) -> Iterator[tuple[TagNews, ...]]:
    page: list[TagNews] = []
    for one in news:
        page.append(one)
        if len(page) == MAX_NEWS:
            yield tuple(page)
            page.clear()
    if page:
        yield tuple(page)
