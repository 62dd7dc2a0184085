"""Parts of control that are its own: which task is entered, what is kept of certificates, the fence of a leader."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hunqi.api.ports import TaskRef
from hunqi.apps.errors import ServiceNotFoundError
from hunqi.apps.operations import Change, TaskView
from hunqi.control.certificates import CertificateNotFoundError, Certificates
from hunqi.control.entering import choose
from hunqi.control.leading import LEASE, Holder, Leading
from hunqi.control.parts import Held
from hunqi.gateway.certificates import BadCertificateError, LocalAuthority, Source
from hunqi.gateway.model import Certificate
from hunqi.nodes.model import Member, Roster
from hunqi.state.database import Database, open_database
from hunqi.state.errors import LeaseLostError, SealBrokenError
from hunqi.state.events import EventLog
from hunqi.state.leases import Leadership, Lease, Leases
from hunqi.state.sealing import Sealer

ANN = Change(actor="ann", reason="it is ours")
KEY = secrets.token_bytes(32)
NOW = datetime.now(UTC)


def task(name: str, *, service: str = "web", revision: int = 1, healthy: bool | None = True) -> TaskView:
    return TaskView(
        id=name,
        service=service,
        revision=revision,
        slot=1,
        node="node1",
        state="running",
        desired="running",
        healthy=healthy,
        message="",
        exit_code=None,
        image="x",
        since="",
        container=f"c-{name}",
        node_id="n1",
    )


def test_the_healthiest_task_of_the_newest_revision_is_entered() -> None:
    tasks = [task("a", revision=2, healthy=False), task("b"), task("c", revision=2), task("d", service="db")]
    assert choose(tasks, TaskRef(service="web")).id == "c"
    assert choose(tasks, TaskRef(service="db")).id == "d"


def test_a_task_is_named_by_the_beginning_of_its_id_if_that_is_clear() -> None:
    tasks = [task("abc1"), task("abc2"), task("xyz")]
    assert choose(tasks, TaskRef(task="x")).id == "xyz"
    with pytest.raises(ServiceNotFoundError, match="write more"):
        choose(tasks, TaskRef(task="abc"))
    with pytest.raises(ServiceNotFoundError, match="no task"):
        choose(tasks, TaskRef(task="q"))


def test_a_service_without_tasks_is_said() -> None:
    with pytest.raises(ServiceNotFoundError, match="'db'"):
        choose([task("a")], TaskRef(service="db"))


@dataclass
class Served:
    """What the publisher was given."""

    certificates: tuple[Certificate, ...] = ()
    challenges: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def configure(self, *, certificates: tuple[Certificate, ...]) -> None:
        self.certificates = certificates


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    async with open_database(str(tmp_path / "control.db")) as opened:
        yield opened


def certificates(database: Database, served: Served, key: bytes = KEY) -> Certificates:
    return Certificates(database, Sealer(key), served, cluster="c1", now=lambda: NOW)  # type: ignore[arg-type]


async def test_a_given_certificate_is_kept_sealed_and_served(database: Database) -> None:
    served = Served()
    held = LocalAuthority.make("somebody", now=NOW).issue("shop.example.com", now=NOW)
    made = await certificates(database, served).add(held.chain_pem, held.key_pem, ANN)
    assert (made.hosts, made.source) == (("shop.example.com",), "given")

    again = certificates(database, served)
    await again.give()
    assert [each.hosts for each in served.certificates] == [("shop.example.com",)]
    assert served.certificates[0].key_pem == held.key_pem
    raw = (Path(str(database.url.path))).read_bytes() + b"".join(
        path.read_bytes() for path in Path(str(database.url.path)).parent.glob("*-wal")
    )
    assert held.key_pem.encode()[40:80] not in raw
    with pytest.raises(SealBrokenError):
        await certificates(database, served, secrets.token_bytes(32)).load()


async def test_a_key_of_another_certificate_is_refused_and_nothing_is_kept(database: Database) -> None:
    authority = LocalAuthority.make("somebody", now=NOW)
    one, other = authority.issue("a.example.com", now=NOW), authority.issue("b.example.com", now=NOW)
    kept = certificates(database, Served())
    with pytest.raises(BadCertificateError):
        await kept.add(one.chain_pem, other.key_pem, ANN)
    assert await kept.certificates() == []


async def test_a_renewed_one_replaces_the_old_and_a_given_one_stays(database: Database) -> None:
    authority = LocalAuthority.make("local", now=NOW)
    kept = certificates(database, Served())
    given = authority.issue("a.example.com", now=NOW)
    await kept.add(given.chain_pem, given.key_pem, ANN)
    for later in (0, 1):
        await kept.save(authority.issue("a.example.com", now=NOW + timedelta(days=later)))
    found = await kept.load()
    assert sorted(each.source for each in found) == [Source.GIVEN, Source.LOCAL]


async def test_the_local_authority_is_made_once_for_all_controls(database: Database) -> None:
    first = await certificates(database, Served()).authority()
    assert await certificates(database, Served()).authority() == first


async def test_removing_is_told_with_its_actor(database: Database) -> None:
    held = LocalAuthority.make("somebody", now=NOW).issue("a.example.com", now=NOW)
    kept = certificates(database, Served())
    made = await kept.add(held.chain_pem, held.key_pem, ANN)
    await kept.remove(made.id, ANN)
    with pytest.raises(CertificateNotFoundError):
        await kept.remove(made.id, ANN)
    events = await EventLog(database).read()
    assert [(each.kind, each.actor) for each in events] == [
        ("certificate.added", "ann"),
        ("certificate.removed", "ann"),
    ]


async def test_only_the_leader_writes(database: Database) -> None:
    @dataclass
    class Leadership:
        lease: Lease | None = None

    leadership = Leadership()
    fenced = database.fenced(Held(leadership))  # type: ignore[arg-type]
    with pytest.raises(LeaseLostError):
        async with fenced.begin():
            pass
    leadership.lease = replace(Lease(name="control", holder="x", epoch=1))
    with pytest.raises(LeaseLostError):  # nobody has given it
        async with fenced.begin():
            pass


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("10.0.0.1", "http://10.0.0.1:7000"),
        ("control.internal", "http://control.internal:7000"),
        ("fd00::1", "http://[fd00::1]:7000"),
        ("0.0.0.0", "http://10.0.0.9:7000"),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("localhost", ""),
    ],
)
def test_a_leader_is_known_by_its_node_and_by_a_url_of_use_to_others(host: str, url: str) -> None:
    holder = Holder.at("n1", host, 7000, own_address="10.0.0.9:7001")
    assert holder == Holder(node="n1", url=url)
    assert Holder.parse(str(holder)) == holder


async def test_who_leads_is_told_by_url_else_by_machine(database: Database) -> None:
    one, two = Holder(node="n1", url=""), Holder(node="n2", url="")
    roster = Roster(members=(Member(node="n1", name="ann", address="10.0.0.1:7001", agent="a"),))
    ours = Leases(database, holder=str(two))
    leading = Leading(Leadership(ours, name=LEASE), two, lambda: roster)
    await leading.look(ours)
    assert (leading.address, leading.machine, leading.was_seen) == (None, None, False)

    lease = await Leases(database, holder=str(one)).acquire(LEASE)
    await leading.look(ours)
    assert lease is not None
    assert (leading.address, leading.machine, leading.was_seen) == (None, "ann", True)
    assert not leading.was_succeeded  # it never led
    leading.note_led()
    assert leading.was_succeeded

    await Leases(database, holder=str(one)).release(lease)
    await leading.look(ours)
    assert (leading.machine, leading.was_seen, leading.was_succeeded) == (None, True, False)
