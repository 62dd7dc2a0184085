"""The dispatcher of a worker: hot answers, then path, admission, endpoint; one error table, one line per request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final

from aiohttp import web

from hunqi.errors import HunqiError, UserError
from hunqi.mirror.access.model import Action, Decision
from hunqi.mirror.names import Target
from hunqi.mirror.resolve.errors import ManifestUnknown
from hunqi.mirror.serve.accounts import AccessLog, Counters
from hunqi.mirror.serve.asking import Asking, NotYourBusinessError, Trace
from hunqi.mirror.serve.blobs import BlobEndpoints, BlobUnknownError
from hunqi.mirror.serve.bodies import SentResponse
from hunqi.mirror.serve.cluster import ClusterEndpoints
from hunqi.mirror.serve.door import Door
from hunqi.mirror.serve.health import HealthEndpoints
from hunqi.mirror.serve.lists import pass_referrers, pass_tags
from hunqi.mirror.serve.manifests import ManifestEndpoints
from hunqi.mirror.serve.paths import (
    BlobPath,
    CatalogPath,
    HealthPath,
    ManifestPath,
    NoSuchPathError,
    PeerPath,
    PingPath,
    ReferrersPath,
    RegistryPath,
    TagsPath,
    TokenPath,
    UploadPath,
    UploadsPath,
    parse_path,
)
from hunqi.mirror.serve.push import PushEndpoints
from hunqi.mirror.serve.token import TokenEndpoint
from hunqi.mirror.serve.wire import error_reply, reply_for, wire_error
from hunqi.oci.digest import Digest
from hunqi.oci.errors import ErrorCode

_log: Final = logging.getLogger(__name__)
_CLIENT_LEFT: Final = 499
"""In access lines: the client left before the answer was whole (nginx's convention)."""
_VERSION_HEADER: Final = {"Docker-Distribution-Api-Version": "registry/2.0"}


class MethodNotAllowedError(NotYourBusinessError):
    """The path is known, the method is not one of its."""

    code: ClassVar[str] = "serve.method_not_allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Answers every request of one process."""

    door: Door
    manifests: ManifestEndpoints
    blobs: BlobEndpoints
    push: PushEndpoints
    peer_push: PushEndpoints
    """For the peers' port: what another node gives this one goes no further."""
    cluster: ClusterEndpoints
    token: TokenEndpoint
    health: HealthEndpoints
    counters: Counters
    access_log: AccessLog | None

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request of the clients' port."""
        return await self._answer(request, from_peer=False)

    async def answer_peer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request of the peers' port, whose senders are nodes of this cluster."""
        return await self._answer(request, from_peer=True)

    async def _answer(self, request: web.BaseRequest, *, from_peer: bool) -> web.StreamResponse:
        at, begun = time.time(), time.perf_counter()
        trace = Trace()
        status, length = _CLIENT_LEFT, 0
        try:
            response = None if from_peer else self._hot(request, trace)
            if response is None:
                response = await self._dispatch(request, trace, from_peer=from_peer)
            status, length = response.status, _length(response)
            return response
        except NotYourBusinessError as error:
            response = _refuse(error)
            status, length = response.status, _length(response)
            return response
        except HunqiError as error:
            response = reply_for(error)
            status, length = response.status, _length(response)
            if status >= 500:
                _log.warning("%s %s: %s", request.method, request.raw_path[:300], error)
            return response
        except ConnectionError:
            status, length = trace.begun if trace.outcome == "cut" else _CLIENT_LEFT, trace.sent
            return _left(request)
        except Exception:
            _log.exception("%s %s failed", request.method, request.raw_path[:300])
            response = error_reply(ErrorCode.UNAVAILABLE, "internal error: see the mirror's log", status=500)
            status, length = response.status, _length(response)
            return response
        finally:
            seconds = time.perf_counter() - begun
            self.counters.count(trace, status=status, length=length, seconds=seconds)
            is_probe = trace.kind == "peer" and status == 200
            if self.access_log is not None and not is_probe:
                self.access_log.write(request, trace, status=status, length=length, seconds=seconds, at=at)

    def _hot(self, request: web.BaseRequest, trace: Trace) -> SentResponse | None:
        if request.method not in {"GET", "HEAD"}:
            return None
        answer = self.manifests.hot.get(request.raw_path)
        if answer is None or not self.door.is_still_named(answer.name, answer.target):
            return None
        try:
            caller = self.door.recall(request)
        except UserError:
            return None
        if caller is None or not self.door.may_pull_now(caller, answer.target):
            return None
        sent = self.manifests.send_hot(request, answer)
        if sent is not None:
            trace.kind, trace.outcome, trace.user = "manifest", "hit", caller.name or "-"
            trace.repository, trace.digest = answer.key, answer.digest_text
            self.manifests.touch(answer.digest)
        return sent

    async def _dispatch(self, request: web.BaseRequest, trace: Trace, *, from_peer: bool) -> web.StreamResponse:
        path = parse_path(request.path)
        match path:
            case PingPath():
                return await self._ping(request, from_peer=from_peer)
            case TokenPath():
                trace.kind = "token"
                return await self.token.answer(request)
            case HealthPath(name=name):
                return await self.health.answer(name)
            case PeerPath():
                trace.kind = "peer"
                if not from_peer:
                    raise NoSuchPathError(f"{request.path} is for the nodes of a cluster, on their own port")
                return await self.cluster.answer(request)
            case CatalogPath():
                return await self._catalog(request, trace)
            case UploadsPath() | UploadPath():
                return await self._upload(request, trace, path, from_peer=from_peer)
            case _:
                return await self._content(request, trace, path, from_peer=from_peer)

    async def _content(
        self, request: web.BaseRequest, trace: Trace, path: RegistryPath, *, from_peer: bool
    ) -> web.StreamResponse:
        method = request.method
        match path, method:
            case ManifestPath(), "GET":
                return await self._manifest(request, trace, path, from_peer=from_peer)
            case ManifestPath(), "HEAD":
                try:
                    return await self._manifest(request, trace, path, from_peer=from_peer)
                except HunqiError as error:
                    if not from_peer and _says_nothing(error) and await self.door.precedes_push(request, path.name):
                        raise ManifestUnknown(path.name, str(path.reference)) from error
                    raise
            case BlobPath(name=name, digest=digest), "HEAD" if not from_peer and await self.door.precedes_push(
                request, name
            ):
                raise BlobUnknownError(f"{name} has no blob {digest}: nobody has pushed to it yet")
            case BlobPath(name=name, digest=digest), "GET" | "HEAD":
                trace.kind = "blob"
                asking = await self.door.admit_pull(request, trace, name=name, reference=None, from_peer=from_peer)
                return await (self.blobs.get if method == "GET" else self.blobs.head)(asking, digest)
            case ((TagsPath(name=name) | ReferrersPath(name=name)), "GET"):
                trace.kind = "list"
                asking = await self.door.admit_pull(request, trace, name=name, reference=None, from_peer=from_peer)
                return await self._list(asking, path)
            case ManifestPath(name=name, reference=reference), "PUT" | "DELETE":
                asking = await self._admit_change(request, trace, name, from_peer=from_peer)
                key, push = asking.target.key, self._push_of(asking)
                if method == "PUT":
                    return await push.put_manifest(request, key, name, reference)
                return await push.delete_manifest(request, key, name, reference)
            case BlobPath(name=name, digest=digest), "DELETE":
                asking = await self._admit_change(request, trace, name, from_peer=from_peer)
                return await self._push_of(asking).delete_blob(request, asking.target.key, name, digest)
            case _:
                raise _not_allowed(method)

    async def _manifest(
        self, request: web.BaseRequest, trace: Trace, path: ManifestPath, *, from_peer: bool
    ) -> web.StreamResponse:
        trace.kind = "manifest"
        name, reference = path.name, path.reference
        asking = await self.door.admit_pull(request, trace, name=name, reference=reference, from_peer=from_peer)
        return await self.manifests.get(asking, reference, head=request.method == "HEAD")

    async def _upload(
        self, request: web.BaseRequest, trace: Trace, path: UploadsPath | UploadPath, *, from_peer: bool
    ) -> web.StreamResponse:
        asking = await self._admit_change(request, trace, path.name, from_peer=from_peer)
        key, name, push = asking.target.key, path.name, self._push_of(asking)
        match path, request.method:
            case UploadsPath(), "POST":
                return await push.start_upload(request, key, name)
            case UploadPath(upload_id=upload_id), "PATCH":
                return await push.patch_upload(request, key, name, upload_id)
            case UploadPath(upload_id=upload_id), "PUT":
                return await push.put_upload(request, key, name, upload_id)
            case UploadPath(upload_id=upload_id), "GET" | "HEAD":
                return await push.get_upload(request, key, name, upload_id)
            case UploadPath(upload_id=upload_id), "DELETE":
                return await push.delete_upload(request, key, name, upload_id)
            case _:
                raise _not_allowed(request.method)

    async def _admit_change(self, request: web.BaseRequest, trace: Trace, name: str, *, from_peer: bool) -> Asking:
        trace.kind = "push"
        is_delete = request.method == "DELETE" and "/blobs/uploads/" not in request.path
        action = Action.DELETE if is_delete else Action.PUSH
        return await self.door.admit_change(request, trace, name=name, action=action, from_peer=from_peer)

    def _push_of(self, asking: Asking) -> PushEndpoints:
        return self.peer_push if asking.via.from_peer else self.push

    async def _list(self, asking: Asking, path: TagsPath | ReferrersPath) -> web.StreamResponse:
        target: Target = asking.target
        if target.is_local:
            request = asking.request
            if isinstance(path, TagsPath):
                return await self.cluster.tags(asking, partial(self.push.tags, request, target.key, path.name))
            own = partial(self.push.referrers, request, target.key, path.name, path.digest)
            return await self.cluster.referrers(asking, own, path.digest)
        if isinstance(path, TagsPath):
            return await pass_tags(asking, self.manifests.fetcher)
        return await pass_referrers(asking, self.manifests.fetcher, path.digest)

    async def _ping(self, request: web.BaseRequest, *, from_peer: bool) -> web.StreamResponse:
        if not from_peer:
            caller = await self.door.caller_of_ping(request)
            if self.door.gate.check_ping(caller) is not Decision.ALLOW:
                raise self.door.challenge_for_ping(request)
        return web.Response(body=b"{}", headers={"Content-Type": "application/json", **_VERSION_HEADER})

    async def _catalog(self, request: web.BaseRequest, trace: Trace) -> web.StreamResponse:
        trace.kind = "list"
        if request.method not in {"GET", "HEAD"}:
            raise _not_allowed(request.method)
        caller = await self.door.caller_of_ping(request)
        trace.user = caller.name or "-"
        if self.door.gate.check_catalogue(caller) is not Decision.ALLOW:
            raise self.door.challenge_for_ping(request)
        return await self.push.catalog(request, partial(self.door.may_see, caller))


def _length(response: web.StreamResponse) -> int:
    if isinstance(response, SentResponse):
        return response.length
    body = response.body if isinstance(response, web.Response) else None
    return len(body) if isinstance(body, bytes) else int(response.content_length or 0)


def _left(request: web.BaseRequest) -> SentResponse:
    """The client has left or was cut: nothing more can be said on this connection."""
    if request.transport is not None:
        request.transport.abort()
    return SentResponse(status=_CLIENT_LEFT, length=0, keep_alive=False)


def _refuse(error: NotYourBusinessError) -> web.Response:
    if isinstance(error, MethodNotAllowedError):
        return error_reply(ErrorCode.UNSUPPORTED, str(error), status=405)
    if error.challenge is None:
        return error_reply(ErrorCode.DENIED, str(error))
    headers = {"WWW-Authenticate": error.challenge, **_VERSION_HEADER}
    return error_reply(ErrorCode.UNAUTHORIZED, str(error), headers=headers)


def _says_nothing(error: HunqiError) -> bool:
    """Whether the upstream refused or could not answer, so that nothing is known of what was asked for."""
    _, status = wire_error(error)
    return status in {401, 403} or status >= 500


def _not_allowed(method: str) -> MethodNotAllowedError:
    return MethodNotAllowedError(f"{method} is not possible here", challenge=None)


class Touches:
    """Which contents are being read and were used since the last time they were handed over; bounded."""

    def __init__(self, *, limit: int = 4096) -> None:
        self._used: dict[Digest, float] = {}
        self._reading: Counter[Digest] = Counter()
        self._limit = limit

    def add(self, digest: Digest) -> None:
        """Note a use now."""
        if len(self._used) < self._limit or digest in self._used:
            self._used[digest] = time.time()

    @contextmanager
    def reading(self, digest: Digest) -> Generator[None]:
        """Note that a client reads ``digest`` for as long as the context lasts."""
        self._reading[digest] += 1
        try:
            yield
        finally:
            self._reading[digest] -= 1
            if not self._reading[digest]:
                del self._reading[digest]

    def being_read(self) -> list[Digest]:
        """Return what clients read now."""
        return list(self._reading)

    def take(self) -> dict[Digest, float]:
        """Return and forget all uses."""
        used, self._used = self._used, {}
        return used


async def report_every(seconds: float, report: Callable[[], None]) -> None:
    """Call ``report`` every ``seconds`` until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        report()
