"""The fetcher process: owns sources, fetches, freshness, space and the operator's socket of one data directory."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from hunqi.errors import HunqiError
from hunqi.kit.memory import give_back_often, keep_one_arena
from hunqi.kit.rpc import Payload, RpcServer
from hunqi.mirror.access.gate import Gate
from hunqi.mirror.fetch.fetch import Fetch
from hunqi.mirror.fetch.fetches import Fetches
from hunqi.mirror.fetch.ports import FetchPorts
from hunqi.mirror.fetch.state import FetchStatus
from hunqi.mirror.names import Names, Target
from hunqi.mirror.operate.commands import OperateCommands
from hunqi.mirror.operate.model import OperateWorld
from hunqi.mirror.peers.elsewhere import Elsewhere, owners_above
from hunqi.mirror.peers.plan import rank
from hunqi.mirror.peers.replication import Replicator
from hunqi.mirror.peers.roster import LivePeer, Roster
from hunqi.mirror.process.calls import Caching, WorkerCalls
from hunqi.mirror.process.child import allow_many_files, begin_logging, node_id, stop_event
from hunqi.mirror.process.counting import Counting
from hunqi.mirror.process.metrics import Metrics, World, as_payload
from hunqi.mirror.process.peer_calls import PeerCalls
from hunqi.mirror.process.progress import Progress, error_data
from hunqi.mirror.process.relaying import RELAY_SOCKET, Relaying
from hunqi.mirror.process.sourcing import MAX_OWNERS, Sourcing, Way
from hunqi.mirror.process.space import Space
from hunqi.mirror.process.supervisor import ChildContext
from hunqi.mirror.process.worker import FETCHER_SOCKET
from hunqi.mirror.resolve.read_ahead import ReadAhead
from hunqi.mirror.resolve.resolver import Resolver, Surroundings
from hunqi.mirror.resolve.shelf import Shelf
from hunqi.mirror.sources.model import RemoteBlob
from hunqi.mirror.sources.source import Source
from hunqi.mirror.store.catalogue import Catalogue
from hunqi.mirror.store.content import ContentFiles
from hunqi.mirror.store.errors import StoreFullError
from hunqi.mirror.store.eviction import Eviction
from hunqi.mirror.store.leftovers import LeftoverAges, collect_leftovers
from hunqi.mirror.store.model import LinkKind
from hunqi.mirror.store.uploads import Uploads
from hunqi.mirror.store.usage import Usage
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import Descriptor

_log: Final = logging.getLogger(__name__)
_THREADS: Final = 64
_STOP_S: Final = 10.0
_SPACE_S: Final = 2.0
_LEFTOVERS_S: Final = 3600.0
_PART_AGE_S: Final = 7 * 86400.0
_SWITCH_S: Final = 0.0005
"""A first byte passes through four threads; of 5 ms, Python's default, each may wait for one (docs/adr/0004)."""


def run_fetcher(context: ChildContext) -> None:
    """Fetch until told to stop; the main function of the fetcher process."""
    begin_logging()
    keep_one_arena()
    sys.setswitchinterval(_SWITCH_S)
    allow_many_files()
    asyncio.run(_Process(context).run())


class _Process:
    def __init__(self, context: ChildContext) -> None:
        settings = context.settings
        self._context = context
        self._settings = settings
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="call")
        self._catalogue = Catalogue.open(settings.data_dir)
        self._files = ContentFiles(self._catalogue)
        self._uploads = Uploads(self._catalogue, self._files)
        self._usage = Usage.open(settings.data_dir)
        self._sourcing = Sourcing(settings, node=node_id(settings.data_dir))
        self._counting = Counting()
        self._ports = FetchPorts(
            candidates=self._counting.around(self._sourcing.of_blob),
            commit=self._commit,
            adopt=self._adopt,
            blame=lambda source, digest: _log.warning("%s sent wrong bytes for %s", source, digest),
            health=self._sourcing.health,
        )
        self._fetches = Fetches(data_dir=settings.data_dir, ports=self._ports, settings=settings.fetch)
        self._space = Space(
            settings=settings.space,
            catalogue=self._catalogue,
            eviction=Eviction(self._catalogue, self._usage),
            part_bytes=self._fetches.part_bytes,
            in_use=lambda: {fetch.digest for fetch in self._fetches.active()} | self._being_read(),
        )
        self._caching = Caching()
        self._resolver = Resolver(
            Surroundings(
                catalogue=self._catalogue,
                sources=self._sourcing.of_upstream,
                owners=self._owners,
                has_peers=lambda: bool(self._roster.live()),
                health=self._sourcing.health,
                with_credentials=self._sourcing.with_credentials,
                background=self._submit,
                clock=time.time,
                node=self._sourcing.node,
            ),
            settings.tags,
        )
        self._shelf = Shelf(self._catalogue, self._resolver)
        self._roster = Roster(
            self._sourcing.peers, node=self._sourcing.node, health=self._sourcing.health, on_return=self._catch_up
        )
        self._sourcing.peers_of = self._peers_of
        self._peer_calls = self._cluster()
        self._metrics = Metrics(self._world)
        self._has_proved: Callable[[str, Digest], bool] = lambda _repo, _digest: False
        self._being_read: Callable[[], frozenset[Digest]] = frozenset

    async def run(self) -> None:
        stop = stop_event(self._context.parent)
        loop = asyncio.get_running_loop()
        calls = self._calls(Progress(loop, on_full=self._note_full))
        self._has_proved, self._being_read = calls.has_proved, calls.being_read
        relaying = Relaying(self._settings.data_dir / RELAY_SOCKET, ports=self._ports, note_way=self._note_way)
        relaying.start()
        self._roster.start()
        server = RpcServer(
            self._settings.data_dir / FETCHER_SOCKET,
            {**calls.ops(), **self._peer_calls.ops(), **self._commands(calls).ops()},
            on_notice=calls.take_notice,
            on_close=calls.close,
            describe_error=error_data,
        )
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(server.run()),
                    group.create_task(self._every(_SPACE_S, self._space.keep_marks)),
                    group.create_task(self._every(_LEFTOVERS_S, self._collect)),
                    group.create_task(give_back_often()),
                ]
                await stop.wait()
                for task in tasks:
                    task.cancel()
        finally:
            await asyncio.to_thread(relaying.stop)
            await asyncio.to_thread(self._roster.stop)
            await asyncio.to_thread(self._fetches.stop, _STOP_S)
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._sourcing.close()

    def _calls(self, progress: Progress) -> WorkerCalls:
        calls: WorkerCalls

        def read_ahead(target: Target, blob: Descriptor, done: Callable[[], None]) -> None:
            if not self._caching.is_on():
                done()
                return
            fetch = calls.start_fetch(target, blob.digest, size=blob.size, background=True)
            self._executor.submit(self._when_ended, fetch, done)

        calls = WorkerCalls(
            catalogue=self._catalogue,
            usage=self._usage,
            resolver=self._resolver,
            sourcing=self._sourcing,
            fetches=self._fetches,
            progress=progress,
            read_ahead=ReadAhead(
                shelf=self._shelf, settings=self._settings.fetch, clock=time.time, start_fetch=read_ahead
            ),
            metrics=self._metrics,
            caching=self._caching,
            executor=self._executor,
            peer_calls=self._peer_calls,
        )
        return calls

    def _cluster(self) -> PeerCalls:
        health, node = self._sourcing.health, self._sourcing.node
        return PeerCalls(
            catalogue=self._catalogue,
            replicator=Replicator(
                roster=self._roster,
                health=health,
                catalogue=self._catalogue,
                files=self._files,
                bring=self._bring,
            ),
            elsewhere=Elsewhere(roster=self._roster, health=health, catalogue=self._catalogue, node=node),
            start_fetch=self._fetch_local,
            executor=self._executor,
        )

    def _bring(self, repo: str, digest: Digest) -> None:
        self._peer_calls.bring_blob(repo, digest)

    def _fetch_local(self, target: Target, digest: Digest) -> Fetch:
        self._sourcing.set_way(digest, Way())
        blob = RemoteBlob(upstream=target.upstream, repository=target.repository, digest=digest)
        return self._fetches.join(blob, repo=target.key, size=None)

    def _catch_up(self, peer: LivePeer) -> None:
        self._peer_calls.replicator.catch_up(peer)

    def _peers_of(self, blob: RemoteBlob) -> Sequence[Source]:
        """Return whom to ask before the world: of a mirrored blob its owner, of a local one every live node."""
        live = self._roster.live()
        if blob.upstream is None:
            by_node = {peer.node: peer for peer in live}
            return [by_node[node].source for node in rank(blob.repository, by_node)]
        return self._owners(blob.digest)

    def _owners(self, digest: Digest) -> list[Source]:
        live = self._roster.live()
        return [peer.source for peer in owners_above(digest, self._sourcing.node, live)[:MAX_OWNERS]]

    def _commands(self, calls: WorkerCalls) -> OperateCommands:
        settings = self._settings
        gate = Gate.open(
            settings.access,
            settings.data_dir,
            was_pushed=lambda namespace: namespace in self._catalogue.pushed_namespaces(),
        )
        return OperateCommands(
            OperateWorld(
                settings=settings,
                address=self._context.address,
                catalogue=self._catalogue,
                uploads=self._uploads,
                usage=self._usage,
                names=Names(
                    upstreams=frozenset(origin.name for origin in settings.upstreams),
                    default_upstream=settings.default_upstream,
                    is_local_namespace=gate.is_local_namespace,
                ),
                shelf=self._shelf,
                fetch=lambda target, blob: calls.start_fetch(target, blob.digest, size=blob.size, background=False),
                show=lambda target, digest: calls.show(target, digest, ()),
                live=self._live,
                evict=self._space.keep_marks,
                excess=self._space.excess,
                reload=lambda: os.kill(os.getppid(), signal.SIGHUP),
                executor=self._executor,
            )
        )

    def _live(self) -> Payload:
        world = self._world()
        return {
            **as_payload(self._metrics.totals()),
            "caching": world.caching,
            "evicted_bytes": world.evicted_bytes,
            "part_bytes": world.part_bytes,
            "sources": [
                {
                    "id": source.id,
                    "kind": source.kind.value,
                    "up": world.source_up[source.id],
                    "speed": world.source_speed.get(source.id),
                    "fetched_bytes": world.bytes_by_source.get(source.id, 0),
                    "quota": world.quota_remaining.get(source.id),
                    "quota_limit": world.quota_limit.get(source.id),
                }
                for source in self._sources()
            ],
            "fetches": [
                {
                    "digest": str(fetch.digest),
                    "size": fetch.state().size,
                    "done_bytes": sum(end - start for start, end in fetch.state().extents),
                }
                for fetch in self._fetches.active()
            ],
        }

    def _when_ended(self, fetch: Fetch, done: Callable[[], None]) -> None:
        while (status := fetch.wait(60.0).status) is FetchStatus.RUNNING:
            pass
        if status is FetchStatus.NO_SPACE:
            self._note_full()
        done()

    def _commit(self, part: Path, digest: Digest, size: int, repos: Sequence[str]) -> None:
        fetch = self._fetches.get(digest)
        # Read-ahead joins for whatever a manifest names: those that did not prove that they have it are not linked.
        begun_for = repos[0] if fetch is None else fetch.repo
        shown = [repo for repo in repos if repo == begun_for or self._has_proved(repo, digest)]
        links = [(repo, LinkKind.BLOB, False) for repo in shown]
        try:
            self._files.commit(part, digest, size, links=links)
        except StoreFullError:
            self._note_full()
            raise
        self._sourcing.forget_way(digest)

    def _adopt(self, digest: Digest, repos: Sequence[str]) -> bool:
        """Spare a download of what came into the store meanwhile, for repositories that may show it."""
        if self._catalogue.content(digest) is None:
            return False
        for repo in repos:
            if self._catalogue.link(repo, digest) is None and not (
                self._has_proved(repo, digest)
                and self._catalogue.add_link(repo, digest, kind=LinkKind.BLOB, pushed=False)
            ):
                return False
        return True

    def _note_full(self) -> None:
        if not self._caching.is_on():
            return
        self._caching.turn_off()
        _log.warning("the disk is full: streaming through without keeping, and making room")
        self._executor.submit(self._space.make_room)

    def _note_way(self, digest: Digest, payload: Payload) -> None:
        self._sourcing.set_way(digest, Way(hops=tuple(payload["hops"]), from_peer=payload["from_peer"]))

    def _submit(self, work: Callable[[], None]) -> None:
        self._executor.submit(_log_failure, work)

    async def _every(self, seconds: float, work: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._executor, work)
            except HunqiError as error:
                _log.warning("housekeeping failed, trying again later: %s", error)
            await asyncio.sleep(seconds)

    def _collect(self) -> None:
        ages = LeftoverAges(upload_s=self._settings.space.upload_max_age_s)
        found = collect_leftovers(self._catalogue, self._uploads, ages)
        freed = self._fetches.collect_leftovers(_PART_AGE_S)
        if found or freed:
            _log.info("collected leftovers: %s, %d bytes of old parts", found, freed)

    def _sources(self) -> list[Source]:
        return [*(peer.source for peer in self._roster.peers), *self._sourcing.all()]

    def _world(self) -> World:
        totals, health = self._catalogue.totals(), self._sourcing.health
        sources = self._sources()
        states = {source.id: health.state(source.id) for source in sources}
        quotas = {source.id: rate for source in sources if (rate := source.quota.rate) is not None}
        return World(
            bytes_by_source=self._counting.by_source(),
            fetches_in_flight=len(self._fetches.active()),
            source_up={name: state.down_until_s is None for name, state in states.items()},
            source_speed={name: state.speed for name, state in states.items() if state.speed is not None},
            quota_remaining={name: rate.remaining for name, rate in quotas.items() if rate.remaining is not None},
            quota_limit={name: rate.limit for name, rate in quotas.items() if rate.limit is not None},
            cached_bytes=totals.cached_bytes,
            pushed_bytes=totals.pushed_bytes,
            part_bytes=self._fetches.part_bytes(),
            cache_max_bytes=self._settings.space.cache_max,
            evicted_bytes=self._space.evicted_bytes,
            caching=self._caching.is_on(),
        )


def _log_failure(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        _log.exception("work in the background failed")
