"""What workers may ask of the fetcher about the other nodes of the cluster."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, ParamSpec, TypeVar

from hunqi.errors import HunqiError, UserError
from hunqi.kit.rpc import Call, Op, Payload, Session
from hunqi.mirror.fetch.fetch import Fetch
from hunqi.mirror.fetch.state import FetchStatus
from hunqi.mirror.names import Target
from hunqi.mirror.peers.elsewhere import Elsewhere
from hunqi.mirror.peers.replication import Replicator
from hunqi.mirror.sources.errors import NotFound
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.model import LinkKind
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Tag, parse_reference

P = ParamSpec("P")
R = TypeVar("R")
StartFetch = Callable[[Target, Digest], Fetch]
_log: Final = logging.getLogger(__name__)


class UnknownManifestError(UserError):
    """The local repository has no such manifest, here or on a live peer."""

    code: ClassVar[str] = "serve.manifest_unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCalls:
    """The ops about local repositories on other nodes."""

    catalogue: Catalogue
    replicator: Replicator
    elsewhere: Elsewhere
    start_fetch: StartFetch
    executor: Executor

    def ops(self) -> Mapping[str, Op]:
        """Return the ops by name."""
        return {
            "mirror.replicate": self._replicate,
            "mirror.withdraw": self._withdraw,
            "mirror.bring": self._bring,
            "mirror.elsewhere": self._elsewhere,
        }

    def local_manifest(self, target: Target, text: str, *, head: bool, hops: tuple[str, ...]) -> Payload:
        """Return a local repository's manifest from another node, as ``mirror.manifest`` answers.

        Blocks. Raises :class:`UnknownManifestError` and what a live node could not say.
        """
        reference, repo = parse_reference(text), target.repository
        if head:
            seen = self.elsewhere.manifest_head(repo, reference, hops=hops)
            digest = None if seen is None else seen.digest
            if seen is None or digest is None:
                raise UnknownManifestError(f"{repo} has no manifest {reference}")
            return _resolved(digest, seen.media_type, seen.size or 0, None)
        body = self.elsewhere.manifest(repo, reference, hops=hops)
        if body is None:
            raise UnknownManifestError(f"{repo} has no manifest {reference}")
        return _resolved(body.digest, body.media_type, len(body.data), body.data)

    def bring_blob(self, repo: str, digest: Digest) -> None:
        """Fetch a blob of a local repository from another node and keep it as pushed; blocks.

        Raises :class:`HunqiError` when no live node gives it.
        """
        fetch = self.start_fetch(Target(None, repo), digest)
        while (state := fetch.wait(60.0)).status is FetchStatus.RUNNING:
            pass
        if state.status is not FetchStatus.DONE:
            raise state.error if isinstance(state.error, HunqiError) else NotFound("peers", f"no node has {digest}")
        self.catalogue.add_link(repo, digest, kind=LinkKind.BLOB, pushed=True)

    async def _replicate(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        tags = tuple(Tag.parse(name) for name in payload["tags"])
        kind, digest = LinkKind[payload["kind"]], Digest.parse(payload["digest"])
        await self._in_thread(self.replicator.replicate, payload["repo"], digest, kind, tags)
        return {}

    async def _withdraw(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        reference, kind = parse_reference(payload["reference"]), LinkKind[payload["kind"]]
        return {"had": await self._in_thread(self.replicator.withdraw, payload["repo"], reference, kind)}

    async def _bring(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        repo: str = payload["repo"]
        for text in payload["blobs"]:
            await self._in_thread(self._try, self.bring_blob, repo, Digest.parse(text))
        for text in payload["manifests"]:
            await self._in_thread(self._try, self._bring_manifest, repo, Digest.parse(text))
        return {}

    async def _elsewhere(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        found = await self._in_thread(
            self.elsewhere.lists, payload["repository"], payload["path"], hops=tuple(payload["hops"])
        )
        return {
            "documents": [
                {
                    "body": base64.b64encode(one.data).decode(),
                    "content_type": one.content_type,
                    "link_header": one.link_header,
                    "filters_applied": one.filters_applied,
                    "stale": False,
                    "age_s": 0.0,
                }
                for one in found
            ]
        }

    def _bring_manifest(self, repo: str, digest: Digest) -> None:
        if self.elsewhere.manifest(repo, digest) is not None:
            self.catalogue.add_link(repo, digest, kind=LinkKind.MANIFEST, pushed=True)

    def _try(self, bring: Callable[[str, Digest], None], repo: str, digest: Digest) -> None:
        try:
            bring(repo, digest)
        except HunqiError as error:
            # The push itself says what is missing.
            _log.info("%s of %s could not be brought from another node: %s", digest, repo, error)

    async def _in_thread(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self.executor, partial(call, *args, **kwargs))


def _resolved(digest: Digest, media_type: str, size: int, body: bytes | None) -> Payload:
    return {
        "digest": str(digest),
        "media_type": media_type,
        "size": size,
        "stale": False,
        "age_s": 0.0,
        "body": None if body is None else base64.b64encode(body).decode(),
    }
