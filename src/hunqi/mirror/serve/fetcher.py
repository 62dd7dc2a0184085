"""What a worker asks of the fetcher process, with the values that come back."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from hunqi.kit.rpc import Payload, RpcClient, RpcError, RpcLostError
from hunqi.mirror.names import Target
from hunqi.oci.digest import Digest
from hunqi.oci.reference import Reference

_MANIFEST_S: Final = 60.0
_FETCH_S: Final = 60.0
_REPLICATE_S: Final = 900.0
"""A pushed blob may be many gigabytes, and goes to another node before its push is acknowledged."""
_LOST_PAUSES_S: Final = (0.05, 0.2, 0.5)


class FetchStatus(Enum):
    """How a fetch stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    NO_SPACE = "no-space"


@dataclass(frozen=True, slots=True, kw_only=True)
class Via:
    """The way that a question came: it must not go back along it."""

    hops: tuple[str, ...] = ()
    """The mirrors that it passed."""
    from_peer: bool = False
    """A node of this cluster asks: peers are not asked in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchState:
    """A fetch as the fetcher announced it; ``extents`` are ``(start, end)``, sorted and apart."""

    digest: Digest
    epoch: str
    """The fetcher process that tells."""
    generation: str
    """Changes when bytes that were announced are no longer there."""
    sequence: int
    """Later states of one fetcher process have higher numbers."""
    status: FetchStatus
    size: int | None
    extents: tuple[tuple[int, int], ...]
    kept: tuple[tuple[int, int], ...]
    """What of them an earlier process left: the same bytes as its readers got."""
    verified: bool
    """The digest is right: the last bytes may be given out."""
    error: RpcError | None

    def continues(self, other: FetchState) -> bool:
        """Whether no announced byte was thrown away since ``other``, but what another process did not keep."""
        return self.generation == other.generation

    def is_later_than(self, other: FetchState) -> bool:
        """Whether this tells more than ``other``; what another process tells does so always."""
        return self.epoch != other.epoch or self.sequence > other.sequence

    @classmethod
    def from_payload(cls, payload: Payload) -> FetchState:
        """Read what the fetcher sent."""
        error = payload["error"]
        return cls(
            digest=Digest.parse(payload["digest"]),
            epoch=payload["epoch"],
            generation=payload["generation"],
            sequence=payload["sequence"],
            status=FetchStatus(payload["status"]),
            size=payload["size"],
            extents=tuple((start, end) for start, end in payload["extents"]),
            kept=tuple((start, end) for start, end in payload["kept"]),
            verified=payload["verified"],
            error=RpcError(error["code"], error["message"], error["data"]) if error else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedManifest:
    """Which manifest a reference means now."""

    digest: Digest
    media_type: str
    size: int
    stale: bool
    age_s: float
    body: bytes | None
    """Only where it could not be stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedDocument:
    """A list of an upstream (tags, referrers)."""

    body: bytes
    content_type: str
    link_header: str | None
    filters_applied: str | None
    stale: bool
    age_s: float


class FetcherClient:
    """Typed calls to the fetcher; every method may raise ``RpcError`` and ``RpcUnavailableError``.

    A question whose fetcher went away is put again to the next one: a reload or a death costs a client nothing.
    """

    def __init__(self, rpc: RpcClient) -> None:
        self._rpc = rpc

    async def manifest(self, target: Target, reference: Reference, *, head: bool, via: Via) -> ResolvedManifest:
        """Resolve a tag or digest of a repository, fetching the manifest unless ``head``."""
        payload = _where(target) | {"reference": str(reference), "head": head} | _along(via)
        answer = await self._ask("mirror.manifest", payload, timeout_s=_MANIFEST_S)
        return ResolvedManifest(
            digest=Digest.parse(answer["digest"]),
            media_type=answer["media_type"],
            size=answer["size"],
            stale=answer["stale"],
            age_s=answer["age_s"],
            body=None if answer["body"] is None else base64.b64decode(answer["body"]),
        )

    async def is_public(self, target: Target, reference: Reference | None) -> bool:
        """Return whether anybody may see the upstream repository."""
        payload = _where(target) | {"reference": None if reference is None else str(reference)}
        answer = await self._ask("mirror.visibility", payload, timeout_s=_MANIFEST_S)
        return bool(answer["public"])

    async def link_blob(self, target: Target, digest: Digest, *, via: Via) -> int:
        """Let the repository show a stored blob if its source says that it has it; return the size in bytes."""
        return await self._size("mirror.link_blob", target, digest, via)

    async def blob_size(self, target: Target, digest: Digest, *, via: Via) -> int:
        """Return the size of a blob that is not stored, without downloading it."""
        return await self._size("mirror.blob_size", target, digest, via)

    async def fetch(self, target: Target, digest: Digest, *, start: int, via: Via, readers: int) -> FetchState:
        """Start or join the fetch of a blob; its progress comes as ``progress`` notices from now on."""
        payload = _where(target) | {"digest": str(digest), "start": start, "readers": readers} | _along(via)
        return FetchState.from_payload(await self._ask("mirror.fetch", payload, timeout_s=_FETCH_S))

    async def document(self, target: Target, path: str, *, via: Via) -> PassedDocument:
        """Return an upstream's list; ``path`` is ``tags/list?…`` or ``referrers/<digest>?…``."""
        payload = _where(target) | {"path": path} | _along(via)
        return _document(await self._ask("mirror.document", payload, timeout_s=_MANIFEST_S))

    async def elsewhere(self, target: Target, path: str, *, via: Via) -> list[PassedDocument]:
        """Return the lists of a local repository that the other live nodes know; ``path`` is as in :meth:`document`."""
        payload = _where(target) | {"path": path} | _along(via)
        answer = await self._rpc.call("mirror.elsewhere", payload, timeout_s=_MANIFEST_S)
        return [_document(one) for one in answer["documents"]]

    async def bring(self, repo: str, *, blobs: Sequence[Digest], manifests: Sequence[Digest]) -> None:
        """Have what a push names, and other live nodes hold, stored here as pushed; what nobody has is left out."""
        payload: Payload = {
            "repo": repo,
            "blobs": [str(one) for one in blobs],
            "manifests": [str(m) for m in manifests],
        }
        await self._rpc.call("mirror.bring", payload, timeout_s=_REPLICATE_S)

    async def replicate(self, repo: str, digest: Digest, *, kind: str, tags: tuple[str, ...]) -> None:
        """Return once another live node holds what was pushed, at once where there is no other."""
        payload: Payload = {"repo": repo, "digest": str(digest), "kind": kind, "tags": list(tags)}
        await self._rpc.call("mirror.replicate", payload, timeout_s=_REPLICATE_S)

    async def withdraw(self, repo: str, reference: Reference, *, kind: str) -> bool:
        """Have the other live nodes forget what was deleted here; whether one of them had it."""
        payload: Payload = {"repo": repo, "reference": str(reference), "kind": kind}
        answer = await self._rpc.call("mirror.withdraw", payload, timeout_s=_MANIFEST_S)
        return bool(answer["had"])

    async def scrape(self, report: Payload) -> str:
        """Return the metrics of all workers as OpenMetrics text."""
        answer = await self._rpc.call("mirror.scrape", report, timeout_s=10.0)
        return str(answer["text"])

    async def ping(self) -> None:
        """Raise unless the fetcher answers."""
        await self._rpc.call("mirror.ping", {}, timeout_s=2.0)

    def set_readers(self, digest: Digest, count: int) -> None:
        """Tell how many clients of this worker read a fetch."""
        self._rpc.notify("readers", str(digest), {"digest": str(digest), "count": count})

    def want(self, digest: Digest, start: int, end: int) -> None:
        """Tell that a client waits for bytes ahead of the fill."""
        self._rpc.notify("want", f"{digest}@{start}", {"digest": str(digest), "start": start, "end": end})

    def first_blob(self, target: Target, digest: Digest) -> None:
        """Tell that a client began to read a blob: the rest of its image may be read ahead."""
        self._rpc.notify("first_blob", f"{target.key}@{digest}", _where(target) | {"digest": str(digest)})

    def touched(self, digests: Mapping[Digest, float], *, being_read: Collection[Digest]) -> None:
        """Tell when contents were last used (seconds since the epoch), and which are being read now."""
        used = [[str(digest), used_at] for digest, used_at in digests.items()]
        topic = str(used[0][1]) if used else ""
        self._rpc.notify("touched", topic, {"used": used, "reading": [str(digest) for digest in being_read]})

    def report(self, worker: int, report: Payload) -> None:
        """Hand over this worker's counters."""
        self._rpc.notify("report", str(worker), report)

    async def _ask(self, op: str, payload: Payload, *, timeout_s: float) -> Payload:
        for pause_s in _LOST_PAUSES_S:
            try:
                return await self._rpc.call(op, payload, timeout_s=timeout_s)
            except RpcLostError:
                # The one that is stopping may take a connection once more.
                await asyncio.sleep(pause_s)
        return await self._rpc.call(op, payload, timeout_s=timeout_s)

    async def _size(self, op: str, target: Target, digest: Digest, via: Via) -> int:
        payload = _where(target) | {"digest": str(digest)} | _along(via)
        answer = await self._ask(op, payload, timeout_s=_MANIFEST_S)
        return int(answer["size"])


def _document(answer: Payload) -> PassedDocument:
    return PassedDocument(
        body=base64.b64decode(answer["body"]),
        content_type=answer["content_type"],
        link_header=answer["link_header"],
        filters_applied=answer["filters_applied"],
        stale=answer["stale"],
        age_s=answer["age_s"],
    )


def _along(via: Via) -> Payload:
    return {"hops": list(via.hops), "from_peer": via.from_peer}


def _where(target: Target) -> Payload:
    return {"upstream": target.upstream, "repository": target.repository}
