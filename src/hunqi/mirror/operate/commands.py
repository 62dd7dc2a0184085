"""The ops under ``operate.``: short ones answer at once; long ones tell how far they are and stop with the caller."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, ParamSpec, TypeVar

from hunqi.kit.rpc import Call, Op, Payload, Session
from hunqi.mirror.operate.archives import export_archive, import_archive
from hunqi.mirror.operate.model import OperateWorld, find_digest
from hunqi.mirror.operate.upkeep import Emit, StoppedByCallerError, collect, verify_all, warm_images
from hunqi.mirror.store.gc import remove_unlinked
from hunqi.mirror.store.inventory import images, stat
from hunqi.mirror.store.removal import remove_image
from hunqi.oci.reference import Tag

P = ParamSpec("P")
R = TypeVar("R")
_EMIT_S: Final = 60.0
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class OperateCommands:
    """Answers the operator's command line."""

    world: OperateWorld

    def ops(self) -> Mapping[str, Op]:
        """Return the ops by name."""
        return {
            "operate.describe": self._describe,
            "operate.ls": self._ls,
            "operate.stat": self._stat,
            "operate.pin": self._pin,
            "operate.unpin": self._unpin,
            "operate.rm": self._rm,
            "operate.reload": self._reload,
            "operate.gc": partial(self._work, collect),
            "operate.verify": partial(self._work, verify_all),
            "operate.warm": partial(self._work, warm_images),
            "operate.export": partial(self._work, export_archive),
            "operate.import": partial(self._work, import_archive),
        }

    async def _describe(self, _session: Session, _call: Call, _payload: Payload) -> Payload:
        settings = self.world.settings
        return {
            "listen": str(self.world.address),
            "tls": settings.tls is not None,
            "upstreams": [{"name": origin.name, "url": origin.url} for origin in settings.upstreams],
            "default_upstream": settings.default_upstream,
            "process": os.getpid(),
        }

    async def _ls(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        if payload.get("repo"):
            return await self._in_thread(self._tags, str(payload["repo"]))
        return await self._in_thread(
            self._repositories,
            str(payload.get("repo_prefix") or ""),
            payload.get("after"),
            int(payload.get("limit") or _PAGE),
        )

    def _tags(self, repo: str) -> Payload:
        rows = images(self.world.catalogue, self.world.usage, repo)
        return {
            "tags": [
                {
                    "tag": row.tag,
                    "digest": str(row.digest),
                    "size": row.total_bytes,
                    "pushed": row.pushed,
                    "last_used": row.last_used_at,
                    "pinned": row.pinned is not None,
                    "pin_reason": row.pinned,
                }
                for row in rows
            ]
        }

    def _repositories(self, prefix: str, after: str | None, limit: int) -> Payload:
        found: list[Payload] = []
        last = after
        while len(found) < limit:
            page = self.world.catalogue.repositories(after=last, limit=_PAGE)
            for repo in page:
                if repo.startswith(prefix) and len(found) < limit:
                    found.append(self._repository(repo))
            if len(page) < _PAGE:
                break
            last = page[-1]
        return {"repositories": found}

    def _repository(self, repo: str) -> Payload:
        rows = list(images(self.world.catalogue, self.world.usage, repo))
        used = [row.last_used_at for row in rows if row.last_used_at is not None]
        first, slash, _ = repo.partition("/")
        return {
            "name": repo,
            "kind": "mirrored" if slash and first in self.world.names.upstreams else "local",
            "tags": sum(1 for row in rows if row.tag is not None),
            "manifests": len({row.digest for row in rows}),
            "bytes": sum(row.stored_bytes for row in rows),
            "last_used": max(used, default=None),
        }

    async def _stat(self, _session: Session, _call: Call, _payload: Payload) -> Payload:
        found = await self._in_thread(stat, self.world.catalogue)
        return {
            "repositories": found.repositories,
            "tags": found.tags,
            "manifests": found.manifests,
            "blobs": found.blobs,
            "pins": found.pins,
            "uploads": found.uploads,
            "cached_bytes": found.totals.cached_bytes,
            "cache_max_bytes": self.world.settings.space.cache_max,
            "pushed_bytes": found.totals.pushed_bytes,
            "disk_free_bytes": found.disk_free_bytes,
            **await self._in_thread(self.world.live),
        }

    async def _pin(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        target, _, digest = find_digest(self.world, payload["image"])
        reason = str(payload.get("reason") or "by the operator")
        await self._in_thread(self.world.catalogue.pin, target.key, digest, reason)
        return {"digest": str(digest)}

    async def _unpin(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        target, _, digest = find_digest(self.world, payload["image"])
        was_pinned = await self._in_thread(self.world.catalogue.unpin, target.key, digest)
        return {"digest": str(digest), "was_pinned": was_pinned}

    async def _rm(self, _session: Session, _call: Call, payload: Payload) -> Payload:
        return await self._in_thread(self._remove, str(payload["image"]))

    def _remove(self, image: str) -> Payload:
        target, reference, digest = find_digest(self.world, image)
        tag = reference if isinstance(reference, Tag) else None
        removed = remove_image(self.world.catalogue, target.key, digest, tag)
        freed = remove_unlinked(self.world.catalogue) if removed.links else 0
        return {"digest": str(digest), "only_tag": removed.links == 0, "freed_bytes": freed}

    async def _reload(self, _session: Session, _call: Call, _payload: Payload) -> Payload:
        self.world.reload()
        return {}

    async def _work(
        self,
        work: Callable[[OperateWorld, Payload, Emit], Payload],
        _session: Session,
        call: Call,
        payload: Payload,
    ) -> Payload:
        """Run long work in a thread; its events wait for a slow caller, and a caller that left stops it."""
        loop = asyncio.get_running_loop()
        left = False

        def emit(event: Payload) -> None:
            if left:
                raise StoppedByCallerError("the caller left")
            asyncio.run_coroutine_threadsafe(call.emit(event), loop).result(_EMIT_S)

        try:
            return await self._in_thread(work, self.world, payload, emit)
        finally:
            left = True

    async def _in_thread(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self.world.executor, partial(call, *args, **kwargs))
