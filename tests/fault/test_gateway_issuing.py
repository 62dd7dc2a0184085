"""Certificates are made, renewed and asked for again, over months of virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hunqi.errors import DependencyError
from hunqi.gateway.certificates import Held, LocalAuthority, Source
from hunqi.gateway.issuing import Issuing
from hunqi.gateway.model import Certificate
from testbed.virtual import run_virtual

START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> LocalAuthority:
    return LocalAuthority.make("test", now=START)


class World:
    """The store, the gateways and an ACME authority at once, each as its port has it."""

    def __init__(self, authority: LocalAuthority) -> None:
        self.authority = authority
        self.held: list[Held] = []
        self.hosts: frozenset[str] = frozenset()
        self.served: dict[str, Source] = {}
        self.asked: list[tuple[str, datetime]] = []
        self.refuses = False
        self.broken = False
        self.changed = asyncio.Event()

    def now(self) -> datetime:
        return START + timedelta(seconds=asyncio.get_running_loop().time())

    def route(self, *hosts: str) -> None:
        self.hosts = frozenset(hosts)
        self.changed.set()

    async def load(self) -> Sequence[Held]:
        if self.broken:
            raise DependencyError("the database does not answer")
        return list(self.held)

    async def save(self, held: Held) -> None:
        self.held = [each for each in self.held if (each.source, each.hosts) != (held.source, held.hosts)] + [held]

    async def tls_hosts(self, *, other_than: frozenset[str] | None, wait_s: float) -> frozenset[str]:
        try:
            async with asyncio.timeout(wait_s):
                while self.hosts == other_than:
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            pass
        return self.hosts

    def configure(self, *, certificates: Sequence[Certificate]) -> None:
        by_chain = {each.chain_pem: each.source for each in self.held}
        self.served = {host: by_chain[each.chain_pem] for each in certificates for host in each.hosts}

    async def issue(self, hosts: Sequence[str]) -> Held:
        self.asked.append((hosts[0], self.now()))
        await asyncio.sleep(3.0)
        if self.refuses:
            raise DependencyError("no such host")
        return replace(self.authority.issue(hosts[0], now=self.now()), source=Source.ACME)


class Signer:
    """Signs in this thread: virtual time knows no others."""

    def __init__(self, authority: LocalAuthority) -> None:
        self.issue = authority.issue


def play(authority: LocalAuthority, scenario: Callable[[World, Issuing], Awaitable[None]], monkeypatch) -> None:
    async def here(function: Callable[..., object], *arguments: object, **named: object) -> object:
        return function(*arguments, **named)

    # A thread would take real time, of which the loop's clock knows nothing.
    monkeypatch.setattr(asyncio, "to_thread", here)

    async def whole() -> None:
        world = World(authority)
        issuing = Issuing(world, world, Signer(authority), world, now=world.now)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(issuing.run())
            await scenario(world, issuing)
            running.cancel()

    run_virtual(whole)


def test_a_host_is_served_at_once_and_by_acme_when_that_has_come(
    authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World, issuing: Issuing) -> None:
        await asyncio.sleep(1.0)
        world.route("a.example.com", "b.test")
        await asyncio.sleep(1.0)
        assert world.served == {"a.example.com": Source.LOCAL, "b.test": Source.LOCAL}
        await asyncio.sleep(5.0)
        assert world.served == {"a.example.com": Source.ACME, "b.test": Source.LOCAL}

    play(authority, scenario, monkeypatch)


def test_a_year_passes(authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World, issuing: Issuing) -> None:
        world.route("a.example.com", "b.test")
        for _ in range(365):
            await asyncio.sleep(86_400)
            assert world.served.keys() == {"a.example.com", "b.test"}
            assert all(
                any(each.covers(host) and each.valid(world.now()) for each in world.held) for host in world.served
            )
        assert 5 <= len(world.asked) <= 8

    play(authority, scenario, monkeypatch)


def test_who_is_refused_is_tried_later_and_later(authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World, issuing: Issuing) -> None:
        world.refuses = True
        world.route("a.example.com")
        await asyncio.sleep(86_400)
        times = [at for _, at in world.asked]
        gaps = [(after - before).total_seconds() for before, after in itertools.pairwise(times)]
        assert 6 <= len(times) <= 10
        assert gaps == sorted(gaps)
        assert issuing.refusals["a.example.com"].reason == "no such host"
        assert world.served == {"a.example.com": Source.LOCAL}
        world.refuses = False
        await asyncio.sleep(86_400)
        assert world.served == {"a.example.com": Source.ACME}
        assert issuing.refusals == {}

    play(authority, scenario, monkeypatch)


def test_a_given_certificate_is_taken_up_when_it_is_said_so(
    authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(world: World, issuing: Issuing) -> None:
        world.route("b.test")
        await asyncio.sleep(10.0)
        given = replace(authority.issue("b.test", now=world.now()), source=Source.GIVEN)
        world.held.append(given)
        issuing.wake()
        await asyncio.sleep(0.1)
        assert world.served == {"b.test": Source.GIVEN}

    play(authority, scenario, monkeypatch)


def test_a_store_that_fails_is_asked_again(authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World, issuing: Issuing) -> None:
        world.broken = True
        world.route("b.test")
        await asyncio.sleep(10.0)
        assert world.served == {}
        world.broken = False
        await asyncio.sleep(40.0)
        assert world.served == {"b.test": Source.LOCAL}

    play(authority, scenario, monkeypatch)
