"""A machine cut off under load: its cable pulled, nobody told. First the worker, then the Swarm's leader.

The load goes to the gateways of the other machines. Full strength is when three tasks of surviving machines answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from tools.bench.model import BenchError, Row
from tools.bench_cluster.session import Session

from testbed.load import Outcome
from testbed.product import Node, Product, eventually
from testbed.watched import Watched

_REPLICAS: Final = 3
_OTHERS_S: Final = 2.5
_STRENGTH_S: Final = {"worker": 20.0, "leader": 50.0}
_AWAY_S: Final = 70.0
_BACK_S: Final = 120.0


def measure(session: Session) -> Iterator[Row]:
    """Yield the rows of a worker that is cut off, and of a leader."""
    product = session.trio()
    yield from _cut(session, product, product.nodes[2], "worker")
    make_leader(product, product.nodes[1])
    yield from _cut(session, product, product.nodes[1], "leader")


def make_leader(product: Product, node: Node) -> None:
    """Have the Swarm led by ``node``: three managers, and the one that led before is demoted for a moment."""
    engine = product.first.machine.docker
    for name in names_of(product):
        engine("node", "promote", name)
    for _ in range(5):
        eventually(lambda: leader_of(node) != "", timeout_s=60.0, what=lambda: "a leader of the Swarm")
        leader = leader_of(node)
        if leader == node.machine.hostname:
            return
        node.machine.docker("node", "demote", leader)
        eventually(
            lambda leader=leader: leader_of(node) not in {"", leader}, timeout_s=60.0, what=lambda: "another leader"
        )
        node.machine.docker("node", "promote", leader)
        time.sleep(3.0)
    raise BenchError(f"{node.machine.hostname} does not lead")


def names_of(product: Product) -> list[str]:
    """Return the host names of all nodes."""
    return [node.machine.hostname for node in product.nodes]


def leader_of(asked: Node) -> str:
    """Return the host name of the Swarm's leader, as a manager sees it; empty while there is none."""
    shown = asked.machine.docker("node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}", check=False).stdout
    return next((line.split()[0] for line in shown.splitlines() if line.endswith("Leader")), "")


def _cut(session: Session, product: Product, lost: Node, role: str) -> Iterator[Row]:
    others = tuple((node.machine.address, 80) for node in product.nodes if node is not lost)
    name = f"cut-{role}"
    with session.watched(name, targets=others, timeout_s=15.0) as found:
        session.say(f"{name}: the cable is out")
        lost.machine.cut()
        at = time.monotonic()
        try:
            time.sleep(_AWAY_S)
        finally:
            lost.machine.heal()
        session.say(f"{name}: coming back")
        healed = time.monotonic()
        product.await_tasks(name, {"web": _REPLICAS}, timeout_s=_BACK_S)
    yield from _rows(found, lost, role, at, healed)


def _rows(found: Watched, lost: Node, role: str, at: float, healed: float) -> Iterator[Row]:
    away = found.found.between(at - 15.0, healed)
    safe = away.where(lambda outcome: outcome.method == "GET")
    yield Row(
        name=f"a {role} cut off: failed GETs through the other gateways",
        value=len(safe.failures),
        bar=0.0,
        unit="failed",
        digits=0,
        figures=safe.summary() + (f"; first: {' · '.join(safe.listed(3).splitlines())}" if safe.failures else ""),
    )
    other = away.where(lambda outcome: outcome.method != "GET")
    last = max((outcome.ended_at - at for outcome in other.failures), default=0.0)
    yield Row(
        name=f"a {role} cut off: last failure of another method, from the cut",
        value=last,
        bar=_OTHERS_S,
        unit="s",
        figures=f"{other.summary()}; {len(found.duplicates())} came twice",
    )
    strength = strong_again(found.found.outcomes, lost.machine.hostname, at, healed)
    yield Row(
        name=f"a {role} cut off: full strength, from the cut",
        value=strength,
        bar=_STRENGTH_S[role],
        unit="s",
        digits=1,
        figures=f"when {_REPLICAS} tasks of the other machines answer; on return "
        f"{len(found.found.between(healed, float('inf')).failures)} failed",
    )


def strong_again(outcomes: tuple[Outcome, ...], lost: str, at: float, until: float) -> float:
    """Return the seconds from ``at`` until the third task that is not on ``lost`` answers; infinite if none does."""
    answered: set[str] = set()
    for outcome in sorted(outcomes, key=lambda each: each.ended_at):
        if outcome.ok and at <= outcome.ended_at < until and not outcome.task.endswith(f"@{lost}"):
            answered.add(outcome.task)
            if len(answered) == _REPLICAS:
                return outcome.ended_at - at
    return float("inf")
