"""One control process: the database, the observer, the controllers of whoever leads, and the API.

Its parts are made in ``parts``. The controllers run while this process holds the lease, and only then may it write what
they write (``parts.Held``); the API answers reads always, and changes where it leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from typing import Final

import uvicorn

from hunqi.api.app import build_api
from hunqi.control.parts import EngineOpener, Parts, now, open_docker, open_parts
from hunqi.control.settings import ControlSettings
from hunqi.errors import HunqiError
from hunqi.kit.memory import give_back_often
from hunqi.nodes.authority import ClusterAuthority
from hunqi.nodes.credentials import read_holding
from hunqi.nodes.model import Member
from hunqi.nodes.renewal import LOOK_S, renew_own
from hunqi.nodes.roster import ROUND_S
from hunqi.nodes.store import NodeStore
from hunqi.state.events import EventLog
from hunqi.state.leases import Lease

_LOOK_S: Final = 2.0
_OFFERED_S: Final = 120.0
"""How long the gateways keep their last table when an app cannot be looked at."""
_STOP_S: Final = 5
_FINISH_S: Final = 1.0
"""For the answers that are under way when this process is to end; streams are cut then."""
_log: Final = logging.getLogger(__name__)


async def run_control(
    settings: ControlSettings, authority: ClusterAuthority, *, engine: EngineOpener = open_docker
) -> None:
    """Serve until SIGTERM or SIGINT. Apps and gateways live on.

    Raises ``StateError`` and its kin for a database that cannot be used, ``OSError`` for a port that is taken.
    """
    listener = _listen(settings.host, settings.port)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with open_parts(settings, authority, engine=engine) as parts:
        await _begin(parts)
        async with asyncio.TaskGroup() as group:
            answered = asyncio.Event()
            serving = group.create_task(_serve(parts, listener, stopped, answered), name="control")
            await stopped.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FINISH_S):
                    await answered.wait()
            serving.cancel()


async def _begin(parts: Parts) -> None:
    """Put this node into the roster."""
    settings = parts.settings
    node = settings.node
    name = socket.gethostname()
    agent = read_holding(settings.agent_tls.cert).identity.name
    member = Member(node=node, name=name, address=settings.agent_address, agent=agent)
    store = NodeStore(parts.database)
    if (await store.roster()).of(node) != member:
        await store.put_member(member, now=now())
    await parts.rosters.load()


async def _serve(parts: Parts, listener: socket.socket, stopped: asyncio.Event, answered: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(parts.observer.run(), name="observer")
        group.create_task(_keep_certificate(parts), name="own certificate")
        group.create_task(give_back_often(), name="giving memory back")
        group.create_task(_follow(parts), name="publisher's snapshots")
        group.create_task(_look_who_leads(parts, stopped), name="who leads")
        by = group.create_task(_stand_by(parts), name="standing by")
        group.create_task(parts.leadership.run(lambda lease: _lead(parts, lease, by)), name="leadership")
        await _answer(parts, listener, stopped)
        answered.set()


async def _keep_certificate(parts: Parts) -> None:
    """Renew this control's own certificate; connections that are there go on by the old one."""
    tls = parts.settings.tls
    while True:
        try:
            if await asyncio.to_thread(renew_own, tls, parts.authority, now=now()):
                parts.agents.reload(tls)
                _log.info("the certificate of control is renewed")
        except (HunqiError, OSError) as error:
            _log.warning("the certificate of control is not renewed yet: %s", error)
        await asyncio.sleep(LOOK_S)


async def _stand_by(parts: Parts) -> None:
    """Know what is asked for here though another leads: the machines, their agents, what the gateways report."""
    async with asyncio.TaskGroup() as group:
        group.create_task(parts.publisher.listen(), name="listening")
        while True:
            with contextlib.suppress(HunqiError):  # the database is away: what was read last stands
                await parts.rosters.look(parts.agents)
            await asyncio.sleep(ROUND_S)


async def _lead(parts: Parts, lease: Lease, standing_by: asyncio.Task[None]) -> None:
    _log.info("leading in epoch %d", lease.epoch)
    parts.leading.note_led()
    standing_by.cancel()
    await asyncio.wait([standing_by])
    await parts.machines.load()
    async with asyncio.TaskGroup() as group:
        group.create_task(_publish(parts), name="publisher")
        group.create_task(parts.rosters.run(parts.agents), name="rosters")
        group.create_task(parts.renewals.run(), name="renewals")
        group.create_task(parts.images.run(), name="images")
        group.create_task(parts.machines.run(), name="nodes")
        group.create_task(parts.certificates.run(), name="certificates")
        group.create_task(parts.apps.run(), name="apps")
        group.create_task(parts.rolling.controller.run(), name="rollouts")
        group.create_task(parts.measured.measurements.run(), name="measurements")
        group.create_task(parts.scaling.scaler.run(), name="elastic scaling")
        group.create_task(parts.measured.history.run(), name="history of measurements")
        group.create_task(parts.hooks.run(), name="webhooks")


async def _publish(parts: Parts) -> None:
    # A table that lacks apps or certificates would take them from the gateways, which serve by the last one until then.
    await parts.certificates.give()
    try:
        async with asyncio.timeout(_OFFERED_S):
            await parts.apps.controller.offered_all()
    except TimeoutError:
        _log.warning("some apps could not be looked at in %.0f s: the gateways are told of the others", _OFFERED_S)
    await parts.publisher.run()


async def _follow(parts: Parts) -> None:
    async for snapshot in parts.observer.follow():
        parts.publisher.observed(snapshot)
        parts.machines.wake()


async def _look_who_leads(parts: Parts, stopped: asyncio.Event) -> None:
    while True:
        with contextlib.suppress(HunqiError):
            await parts.leading.look(parts.leases)
        if parts.leading.was_succeeded:
            # What a leader remembers may be told to no gateway once another has led: the supervisor starts it anew.
            _log.warning("control leads on %s now: this process ends, to begin anew beside it", parts.leading.machine)
            stopped.set()
        await asyncio.sleep(_LOOK_S)


async def _answer(parts: Parts, listener: socket.socket, stopped: asyncio.Event) -> None:
    """Serve the API until ``stopped``, and what has come by then."""
    api = build_api(parts.directory, parts.rooms, EventLog(parts.database), parts.logins)
    config = uvicorn.Config(
        api,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=True,
        ws="websockets-sansio",
        timeout_graceful_shutdown=_STOP_S,
        timeout_keep_alive=30,
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue]  # ours are installed
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]), name="interface")
        await stopped.wait()
        server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(1024)
    listener.setblocking(False)
    return listener
