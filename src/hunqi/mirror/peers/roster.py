"""Who of the configured peers is live, and who is this node itself: a thread per peer asks every second.

A node that refuses the connection is down at once, one that is silent after two tries; what the fetches find out
(:class:`~hunqi.mirror.sources.health.HealthMemory`) counts too. A node that is back, or was started anew, is told
what it may have missed before anything else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hunqi.errors import HunqiError
from hunqi.mirror.peers.client import PeerClient
from hunqi.mirror.peers.model import NodeIdentity
from hunqi.mirror.sources.errors import Blame, SourceError, SourceUnreachable
from hunqi.mirror.sources.health import HealthMemory
from hunqi.mirror.sources.source import Source

PROBE_S: Final = 1.0
SELF_S: Final = 30.0
"""An address that led to this node itself is looked at again after so long."""
SILENT_LIMIT: Final = 2
FIRST_ROUND_S: Final = 1.5
"""Longest wait after the start for what the first round of questions brings."""
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """One address of the configuration: how it is read from, and how it is spoken to."""

    source: Source
    client: PeerClient


@dataclass(frozen=True, slots=True)
class LivePeer:
    """Another node that answers now."""

    node: str
    peer: Peer

    @property
    def source(self) -> Source:
        """How it is read from."""
        return self.peer.source

    @property
    def client(self) -> PeerClient:
        """How it is spoken to."""
        return self.peer.client


@dataclass(slots=True)
class _Watched:
    peer: Peer
    identity: NodeIdentity | None = None
    is_up: bool = False
    is_silent: int = 0
    was_asked: bool = False


class Roster:
    """Thread-safe. ``on_return`` is called in a thread of the roster when a node is there (again)."""

    def __init__(
        self,
        peers: Sequence[Peer],
        *,
        node: str,
        health: HealthMemory,
        on_return: Callable[[LivePeer], None] = lambda _peer: None,
    ) -> None:
        self._watched = [_Watched(peer) for peer in peers]
        self._node = node
        self._health = health
        self._on_return = on_return
        self._changed = threading.Condition()
        self._is_stopped = False
        self._threads = [
            threading.Thread(target=self._watch, args=(one,), name=f"peer {one.peer.source.id}", daemon=True)
            for one in self._watched
        ]

    @property
    def peers(self) -> list[Peer]:
        """All configured peers but this node itself, live or not."""
        with self._changed:
            return [one.peer for one in self._watched if not self._is_self(one)]

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop asking, and close the connections."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(5.0)
        for one in self._watched:
            one.peer.client.close()
            one.peer.source.close()

    def live(self) -> list[LivePeer]:
        """Return the other nodes that are live, each once; shortly after the start waits for the first answers."""
        deadline = time.monotonic() + FIRST_ROUND_S
        with self._changed:
            while not self._is_stopped and not all(one.was_asked for one in self._watched):
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            found: dict[str, LivePeer] = {}
            for one in self._watched:
                if one.is_up and one.identity is not None and not self._is_self(one):
                    found.setdefault(one.identity.node, LivePeer(one.identity.node, one.peer))
        return [peer for peer in found.values() if self._health.state(peer.source.id).down_until_s is None]

    def is_live(self, source_id: str) -> bool:
        """Whether the peer with this source id is live."""
        return any(peer.source.id == source_id for peer in self.live())

    def lose(self, peer: LivePeer) -> None:
        """Count a node as down until it answers again: it missed something that it must be told then."""
        with self._changed:
            for one in self._watched:
                if one.peer is peer.peer:
                    one.is_up = False

    def _watch(self, one: _Watched) -> None:
        while True:
            self._ask(one)
            with self._changed:
                if not self._is_stopped:
                    self._changed.wait_for(lambda: self._is_stopped, SELF_S if self._is_self(one) else PROBE_S)
                if self._is_stopped:
                    return

    def _ask(self, one: _Watched) -> None:
        try:
            identity = one.peer.client.who()
        except SourceError as error:
            self._note_silence(one, error)
        except HunqiError as error:
            self._note(one, up=False)
            _log.warning("%s: %s", one.peer.source.id, error)
        else:
            self._note_answer(one, identity)

    def _note_silence(self, one: _Watched, error: SourceError) -> None:
        one.is_silent += 1
        if one.is_up and not isinstance(error, SourceUnreachable) and one.is_silent < SILENT_LIMIT:
            return
        if one.is_up:
            _log.warning("peer %s is down: %s", one.peer.source.id, error.reason)
        self._health.failed(one.peer.source.id, Blame.HARD)
        self._note(one, up=False)

    def _note_answer(self, one: _Watched, identity: NodeIdentity) -> None:
        is_new = not one.is_up or one.identity != identity
        one.is_silent = 0
        self._health.succeeded(one.peer.source.id)
        with self._changed:
            one.identity = identity
        if is_new and not self._is_self(one):
            _log.info("peer %s is up: node %s", one.peer.source.id, identity.node)
            try:
                self._on_return(LivePeer(identity.node, one.peer))
            except HunqiError as error:
                _log.warning("peer %s could not be told what it missed: %s", one.peer.source.id, error)
                self._note(one, up=False)
                return
        self._note(one, up=True)

    def _note(self, one: _Watched, *, up: bool) -> None:
        with self._changed:
            one.is_up, one.was_asked = up, True
            self._changed.notify_all()

    def _is_self(self, one: _Watched) -> bool:
        return one.identity is not None and one.identity.node == self._node
