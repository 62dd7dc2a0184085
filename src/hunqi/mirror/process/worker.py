"""A worker process: one event loop, one shared port, the endpoints, and a connection to the fetcher."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from aiohttp import web

from hunqi.kit.memory import give_back_often
from hunqi.kit.rpc import Payload, RpcClient
from hunqi.mirror.access.gate import Gate
from hunqi.mirror.names import Names
from hunqi.mirror.peers.model import NodeIdentity
from hunqi.mirror.process.child import allow_many_files, begin_logging, node_id, stop_event
from hunqi.mirror.process.holding import shared_listener
from hunqi.mirror.process.relaying import RELAY_SOCKET
from hunqi.mirror.process.supervisor import ChildContext
from hunqi.mirror.serve.accounts import AccessLog, Counters
from hunqi.mirror.serve.blobs import BlobEndpoints
from hunqi.mirror.serve.cluster import ClusterEndpoints
from hunqi.mirror.serve.door import Door
from hunqi.mirror.serve.fetcher import FetcherClient, FetchState
from hunqi.mirror.serve.follow import Followers, open_part_or_content
from hunqi.mirror.serve.health import HealthEndpoints
from hunqi.mirror.serve.logins import Logins
from hunqi.mirror.serve.manifests import HotAnswers, ManifestEndpoints
from hunqi.mirror.serve.push import PushEndpoints
from hunqi.mirror.serve.relayed import Relays
from hunqi.mirror.serve.token import TokenEndpoint
from hunqi.mirror.serve.wire import error_reply
from hunqi.mirror.serve.worker import Touches, Worker, report_every
from hunqi.mirror.settings import Address, MirrorSettings, TlsFiles
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.model import LinkKind
from hunqi.mirror.store.uploads import Uploads
from hunqi.oci.digest import Digest
from hunqi.oci.errors import ErrorCode
from hunqi.oci.manifest import Manifest
from hunqi.oci.reference import Reference, Tag

FETCHER_SOCKET: Final = "fetcher.sock"
_PUSH_THREADS: Final = 8
_TOUCH_S: Final = 1.0
_REPORT_S: Final = 1.0
_KEEP_ALIVE_S: Final = 75.0
_LEAVE_S: Final = 1.0
"""Longest wait for the next request on a connection that is open when the worker leaves."""
_LEAVE_STEP_S: Final = 0.02
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def run_worker(context: ChildContext) -> None:
    """Serve until told to stop; the main function of a worker process."""
    begin_logging()
    allow_many_files()
    asyncio.run(_Process(context).run())


class _Process:
    def __init__(self, context: ChildContext) -> None:
        self._context = context
        settings = context.settings
        self._settings = settings
        self._catalogue = Catalogue.open(settings.data_dir)
        self._files = ContentFiles(self._catalogue)
        self._rpc = RpcClient(settings.data_dir / FETCHER_SOCKET, on_notice=self._on_notice)
        self._fetcher = FetcherClient(self._rpc)
        self._followers = Followers(self._fetcher, open_file=partial(_open, settings.data_dir, self._files))
        self._counters = Counters()
        self._touches = Touches()
        self._told_reading = False
        self._executor = ThreadPoolExecutor(_PUSH_THREADS, thread_name_prefix="push")
        self._lost_fetcher = asyncio.Event()
        self._leaving = asyncio.Event()
        self._sharing = context.sharing
        self._shared_anew = asyncio.Event()
        self._accepting: dict[int, tuple[web.SockSite, socket.socket]] = {}
        self._tls: ssl.SSLContext | None = None
        self._clients: web.ServerRunner | None = None
        self._to_part = 0
        """So many connections are to end with their next answers, since another worker may take them."""
        self._log = _access_log(settings)

    async def run(self) -> None:
        context = self._context
        stop = stop_event(context.parent)
        worker = self._build()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._rpc.run()),
                group.create_task(self._rejoin()),
                group.create_task(report_every(_TOUCH_S, self._hand_over_touches)),
                group.create_task(report_every(_REPORT_S, self._hand_over_counts)),
                group.create_task(give_back_often()),
            ]
            runners = [await self._serve(worker.answer)]
            if context.peer_address is not None:
                runners.append(await self._serve_peers(worker.answer_peer, context.peer_address))
            tasks.append(group.create_task(self._share(runners[0])))
            os.write(context.ready, b".")
            await stop.wait()
            await self._leave(runners)
            self._hand_over_touches()
            self._hand_over_counts()
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
        self._executor.shutdown(wait=True)
        if self._log is not None:
            self._log.flush()

    def _build(self) -> Worker:
        settings, catalogue = self._settings, self._catalogue
        gate = Gate.open(settings.access, settings.data_dir, was_pushed=self._was_pushed)
        names = Names(
            upstreams=frozenset(origin.name for origin in settings.upstreams),
            default_upstream=settings.default_upstream,
            is_local_namespace=gate.is_local_namespace,
        )
        door = Door(
            gate=gate,
            logins=Logins(gate),
            names=names,
            catalogue=catalogue,
            fetcher=self._fetcher,
            node_id=node_id(settings.data_dir),
            visibility_s=settings.tags.visibility_s,
            origins={origin.name: origin for origin in settings.upstreams},
            credentialed=frozenset(
                origin.name
                for origin in (*settings.upstreams, *settings.relays)
                if origin.credentials_file is not None or origin.credential_helper is not None
            ),
        )
        uploads = Uploads(catalogue, self._files)
        return Worker(
            door=door,
            manifests=ManifestEndpoints(
                catalogue=catalogue,
                fetcher=self._fetcher,
                hot=HotAnswers(catalogue),
                tags=settings.tags,
                touch=self._touches.add,
            ),
            blobs=BlobEndpoints(
                catalogue=catalogue,
                files=self._files,
                fetcher=self._fetcher,
                followers=self._followers,
                relays=Relays(settings.data_dir / RELAY_SOCKET),
                touch=self._touches.add,
                reading=self._touches.reading,
            ),
            push=PushEndpoints(
                catalogue=catalogue,
                uploads=uploads,
                may_read=door.may_read_for_mount,
                source_of=lambda name: names.resolve(name).key,
                after_commit=self._after_commit,
                after_delete=self._after_delete,
                bring=self._bring,
                location_base=lambda _request: "",
                executor=self._executor,
            ),
            peer_push=PushEndpoints(
                catalogue=catalogue,
                uploads=uploads,
                may_read=_any_node_may,
                source_of=lambda name: names.resolve_push(name).key,
                after_commit=_done,
                after_delete=_nobody_had_it,
                bring=_done,
                location_base=lambda _request: "",
                executor=self._executor,
            ),
            cluster=ClusterEndpoints(
                identity=NodeIdentity(door.node_id, self._context.instance),
                catalogue=catalogue,
                fetcher=self._fetcher,
                has_peers=bool(settings.peers.urls),
            ),
            token=TokenEndpoint(gate, door),
            health=HealthEndpoints(fetcher=self._fetcher, counters=self._counters, worker=self._context.index),
            counters=self._counters,
            access_log=self._log,
        )

    async def _serve(self, handler: Answer) -> web.ServerRunner:
        self._clients = runner = await self._runner(handler)
        self._tls = _tls(self._settings.tls)
        await self._accept(runner)
        asyncio.get_running_loop().add_reader(self._context.told, self._on_told)
        return runner

    def _on_told(self) -> None:
        """Take in how many workers share the sockets now."""
        told = os.read(self._context.told, 64)
        if not told:  # the supervisor has ended, or is ending us
            asyncio.get_running_loop().remove_reader(self._context.told)
            return
        before, self._sharing = self._sharing, told[-1]
        open_here = len(self._clients.server.connections) if self._clients and self._clients.server else 0
        self._to_part = max(0, open_here - open_here * before // self._sharing)
        self._shared_anew.set()

    async def _share(self, runner: web.ServerRunner) -> None:
        while True:
            await self._shared_anew.wait()
            self._shared_anew.clear()
            await self._accept(runner)

    async def _accept(self, runner: web.ServerRunner) -> None:
        """Accept from the sockets that are this worker's, and no more from the others."""
        listeners = self._context.listeners
        mine = set(range(self._context.index, len(listeners), self._sharing))
        for number in sorted(mine - self._accepting.keys()):
            listener = socket.socket(fileno=os.dup(listeners[number]))
            site = web.SockSite(runner, listener, ssl_context=self._tls)
            self._accepting[number] = site, listener
            await site.start()
        leaving = [self._accepting.pop(number) for number in self._accepting.keys() - mine]
        for _, listener in leaving:
            asyncio.get_running_loop().remove_reader(listener)
        if leaving:
            await asyncio.sleep(_LEAVE_STEP_S)
        for site, _ in leaving:
            await site.stop()

    def _parts(self) -> bool:
        """Whether the connection of the request that has come now ends with its answer."""
        if self._to_part == 0:
            return self._leaving.is_set()
        self._to_part -= 1
        return True

    async def _serve_peers(self, handler: Answer, address: Address) -> web.ServerRunner:
        peers = self._settings.peers
        runner = await self._runner(_named(handler, frozenset(peers.names)) if peers.names else handler)
        site = web.SockSite(runner, shared_listener(address), ssl_context=_tls(peers.tls))
        await site.start()
        return runner

    async def _runner(self, handler: Answer) -> web.ServerRunner:
        server = web.Server(
            handler,
            request_factory=partial(_Request, self._leaving, self._parts),
            access_log=None,
            handler_cancellation=True,
            auto_decompress=False,
            keepalive_timeout=_KEEP_ALIVE_S,
        )
        # aiohttp waits twice so long: for answers and uploads, then, uploads broken off, for answers alone.
        half_s = max(0.05, (self._settings.drain_s - _LEAVE_S) / 2)
        runner = web.ServerRunner(server, shutdown_timeout=half_s)
        await runner.setup()
        return runner

    async def _leave(self, runners: list[web.ServerRunner]) -> None:
        """Accept no more, answer what was sent already, and say with each answer that it is the connection's last."""
        self._leaving.set()
        asyncio.get_running_loop().remove_reader(self._context.told)
        for _, listener in self._accepting.values():
            asyncio.get_running_loop().remove_reader(listener)
        await asyncio.sleep(_LEAVE_STEP_S)  # asyncio drops whom it accepted in the very step in which a server closes
        for runner in runners:
            for site in list(runner.sites):
                await site.stop()
        for descriptor in self._context.listeners:
            os.close(descriptor)
        deadline = asyncio.get_running_loop().time() + _LEAVE_S
        while any(runner.server and runner.server.connections for runner in runners):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(_LEAVE_STEP_S)
        for runner in runners:
            await runner.cleanup()

    def _on_notice(self, topic: str, payload: Payload) -> None:
        if topic == "progress":
            self._followers.on_progress(FetchState.from_payload(payload))

    async def _rejoin(self) -> None:
        self._rpc.on_connect = self._lost_fetcher.set
        while True:
            await self._lost_fetcher.wait()
            self._lost_fetcher.clear()
            await self._followers.rejoin()

    def _was_pushed(self, namespace: str) -> bool:
        return namespace in self._catalogue.pushed_namespaces()

    async def _after_commit(self, repo: str, digest: Digest, kind: LinkKind, tags: tuple[Tag, ...]) -> None:
        if self._settings.peers.urls:
            await self._fetcher.replicate(repo, digest, kind=kind.name, tags=tuple(tag.name for tag in tags))

    async def _after_delete(self, repo: str, reference: Reference, kind: LinkKind) -> bool:
        if not self._settings.peers.urls:
            return False
        return await self._fetcher.withdraw(repo, reference, kind=kind.name)

    async def _bring(self, repo: str, manifest: Manifest, missing: Sequence[Digest]) -> None:
        if self._settings.peers.urls:
            children = [child.digest for child in manifest.manifests if child.digest in missing]
            blobs = [digest for digest in missing if digest not in children]
            await self._fetcher.bring(repo, blobs=blobs, manifests=children)

    def _hand_over_touches(self) -> None:
        used, being_read = self._touches.take(), self._touches.being_read()
        if used or being_read or self._told_reading:
            self._fetcher.touched(used, being_read=being_read)
        self._told_reading = bool(being_read)

    def _hand_over_counts(self) -> None:
        self._fetcher.report(self._context.index, {"worker": self._context.index, "report": self._counters.report()})


async def _any_node_may(_request: web.BaseRequest, _repo: str) -> bool:
    return True


async def _done(*_told: object) -> None:
    """What comes from another node goes no further."""


async def _nobody_had_it(_repo: str, _reference: Reference, _kind: LinkKind) -> bool:
    return False


class _Request(web.BaseRequest):
    """A request whose connection ends with its answer once the worker is leaving, or ``parts`` says so."""

    def __init__(
        self,
        leaving: asyncio.Event,
        parts: Callable[[], bool],
        message: Any,
        payload: Any,
        protocol: Any,
        writer: Any,
        task: asyncio.Task[None],
    ) -> None:  # the types of the parts are aiohttp's own
        super().__init__(message, payload, protocol, writer, task, asyncio.get_running_loop())
        self._leaving = leaving
        self._is_last = parts()

    @property
    def keep_alive(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]  # cached there, not here
        """Whether the connection takes another request."""
        return super().keep_alive and not self._is_last and not self._leaving.is_set()


def _named(handler: Answer, names: frozenset[str]) -> Answer:
    """Let in whose certificate has one of the names: that of a node which was removed is good for a while still."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        certificate: Any = request.transport.get_extra_info("peercert") if request.transport else None
        held: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ()) if certificate else ()
        if names.isdisjoint(value for kind, value in held if kind == "DNS"):
            return error_reply(ErrorCode.DENIED, "this node is not of the cluster (any more)", status=403)
        return await handler(request)

    return answer


def _tls(files: TlsFiles | None) -> ssl.SSLContext | None:
    if files is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert_file, files.key_file)
    if files.ca_file is not None:
        context.load_verify_locations(files.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _open(data_dir: Path, files: ContentFiles, digest: Digest) -> BinaryIO | None:
    part = data_dir / "parts" / f"{digest.algorithm}-{digest.hex}.part"
    return open_part_or_content(part, files.path(digest))


def _access_log(settings: MirrorSettings) -> AccessLog | None:
    if settings.access_log is None:
        return AccessLog(sys.stdout.fileno())
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    return AccessLog(os.open(settings.access_log, flags, 0o640))
