"""What the endpoints of a push need from around them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

from aiohttp import web

from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.model import LinkKind
from hunqi.mirror.store.uploads import Uploads
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Manifest
from hunqi.oci.reference import Reference, Tag

MayRead = Callable[[web.BaseRequest, str], Awaitable[bool]]
"""Whether the sender of a request may pull from the repository with this key."""
SourceOf = Callable[[str], str]
"""The key of the repository that a name means in a pull; raises :class:`~hunqi.errors.UserError`."""
AfterCommit = Callable[[str, Digest, LinkKind, tuple[Tag, ...]], Awaitable[None]]
"""Told of (repository, digest, kind, tags) after they are stored here and before the client hears of success."""
AfterDelete = Callable[[str, Reference, LinkKind], Awaitable[bool]]
"""Told of (repository, tag or digest, kind) to be deleted elsewhere too, before the client hears of success.

Whether it was there."""
Bring = Callable[[str, Manifest, Sequence[Digest]], Awaitable[None]]
"""Looks elsewhere for what a manifest that is being pushed to a repository names and this node lacks."""
LocationBase = Callable[[web.BaseRequest], str]
"""What stands before ``/v2/`` in a Location: a scheme and host, or nothing."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPorts:
    """The store, the decisions of others, and the threads in which disk and hashing work is done."""

    catalogue: Catalogue
    uploads: Uploads
    may_read: MayRead
    source_of: SourceOf
    after_commit: AfterCommit
    after_delete: AfterDelete
    bring: Bring
    location_base: LocationBase
    executor: Executor
    stall_timeout_s: float

    async def in_thread(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a blocking call in a thread; it runs to its end also when the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, partial(call, *args, **kwargs))

    def blob_location(self, request: web.BaseRequest, name: str, digest: Digest) -> str:
        """Return where a client pulls a blob."""
        return f"{self.location_base(request)}/v2/{name}/blobs/{digest}"

    def upload_location(self, request: web.BaseRequest, name: str, upload_id: str) -> str:
        """Return where a client goes on with an upload."""
        return f"{self.location_base(request)}/v2/{name}/blobs/uploads/{upload_id}"
