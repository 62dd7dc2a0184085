"""The platform on three machines under load: what is changed, killed or cut off loses no request that it need not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from testbed.load import Load, Outcome, Report, load
from testbed.processes import wait_for
from testbed.product import ApiError, Product, eventually, kept_dead, platform, shop
from testbed.programs import ProcessFailedError
from testbed.swarm import THREE_NODES, Bed
from testbed.watched import Watched, watched

pytestmark = [pytest.mark.real, pytest.mark.slow, THREE_NODES]
REST_S = 2.0
SLOW = {"START_DELAY_MS": "1000", "STOP_DELAY_MS": "1000"}


@pytest.fixture(scope="module")
def product(three_nodes: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with platform(three_nodes, tmp_path_factory.mktemp("platform")) as running:
        yield running
    three_nodes.clear()


def test_deploy_rollback_and_scaling_lose_no_request(product: Product) -> None:
    with watched(product, "shop", rest_s=REST_S) as found:
        _redeploy(found, "2")
        product.roll_back("shop", 1)
        product.scale("shop", web=5)
        product.scale("shop", web=2)
    assert not found.failed(), found.figures()
    assert {told.revision for told in found.told.told("start")} == {"0", "2"}


def test_slow_app_with_websockets_is_stopped_by_its_own_signal_with_sockets_open(product: Product) -> None:
    with watched(product, "slow", env=SLOW, drain="2s", websockets=6, rest_s=REST_S) as found:
        _redeploy(found, "2", drain="2s")
    assert not found.failed(), found.figures()
    ends = {held.end for held in found.found.sockets}
    assert ends <= {"closed", "held"}, [(held.end, held.detail) for held in found.found.sockets]
    stops = [told for told in found.told.told("signal") if told.more["signal"] == int(signal.SIGTERM)]
    assert sum(told.more["websockets"] for told in stops) >= 6
    assert {told.task for told in stops} <= {told.task for told in found.told.told("end")}


def test_failing_healthcheck_is_told_with_what_it_said_though_the_tasks_end_in_good_order(product: Product) -> None:
    sick = shop(replicas=1, env={"START_DELAY_MS": "600000"})
    sick = sick.replace("retries: 3", "retries: 2").replace("start_period: 10s", "start_period: 0s")
    sick = sick.replace("      replicas: 1\n", "      replicas: 1\n      restart_policy: {delay: 500ms}\n")
    begun = product.begin_deploy("sick", sick)
    with pytest.raises(ProcessFailedError, match=r'"deploy\.task-failed"') as caught:
        product.await_deploy("sick", begun, timeout_s=90.0)
    assert '"health": "nothing listens"' in str(caught.value)
    assert '"exit_code": 0' in str(caught.value)
    product.remove("sick")


def test_control_dies_for_a_while_and_a_gateway_meanwhile(product: Product) -> None:
    second = product.nodes[1]
    with watched(product, "alone", rest_s=REST_S) as found:
        with kept_dead(product.first, "control"):
            time.sleep(3.0)
            for pid in second.envoy_pids():
                os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            time.sleep(7.0)
        wait_for(lambda: _is_ready(product), timeout_s=60.0, what="control's return")
        _redeploy(found, "2")
    elsewhere = found.found.where(lambda outcome: outcome.target != 1)
    assert not elsewhere.failures, elsewhere.listed()
    assert not found.duplicates()
    there = found.found.where(lambda outcome: outcome.target == 1)
    assert there.failures, "the gateway was not killed"
    assert max(outcome.ended_at for outcome in there.failures) - killed < 5.0, there.listed(30)


def test_machine_that_is_cut_off_costs_no_get_through_the_others(product: Product) -> None:
    lost = product.nodes[2]
    # A manager that returns unsettles the others' election for a minute (Raft without pre-vote): that is Swarm's own.
    product.first.machine.docker("node", "demote", lost.machine.hostname)
    others = tuple((node.machine.address, 80) for node in product.nodes if node is not lost)
    with watched(product, "cut", targets=others, rest_s=REST_S, timeout_s=15.0) as found:
        lost.machine.cut()
        at = time.monotonic()
        try:
            time.sleep(30.0)
        finally:
            lost.machine.heal()
        healed = time.monotonic()
        product.await_tasks("cut", {"web": 3}, timeout_s=120.0)
    away = found.found.between(at - 15.0, healed)
    assert not _of(away, "GET").failures, _of(away, "GET").listed()
    late = [outcome for outcome in away.failures if outcome.ended_at - at > 5.0]
    assert not late, away.listed(30)
    assert not found.duplicates()
    assert len(_tasks_at_last(away.outcomes, lost.machine.hostname, healed)) == 3


def test_docker_that_is_stuck_on_one_machine_is_said_while_apps_are_served_and_others_deployed(
    product: Product,
) -> None:
    stuck = product.nodes[2].machine
    with watched(product, "stuck", rest_s=REST_S, timeout_s=15.0) as found:
        os.kill(stuck.dockerd.pid, signal.SIGSTOP)
        try:
            wait_for(lambda: _said_of(product, stuck.hostname), timeout_s=45.0, what="a word on its Docker")
            product.deploy("beside", shop(host="beside.test", replicas=2), timeout_s=120.0)
        finally:
            os.kill(stuck.dockerd.pid, signal.SIGCONT)
        wait_for(lambda: not _said_of(product, stuck.hostname), timeout_s=60.0, what="its Docker to be well again")
        product.await_tasks("stuck", {"web": 3}, timeout_s=120.0)
        _redeploy(found, "2")
    assert not _of(found.found, "GET").failures, found.figures()
    product.remove("beside")


def _said_of(product: Product, hostname: str) -> list[str]:
    problems = product.api.call("GET", "/v1/status")["problems"]
    return [each for each in problems if each.startswith(f"docker {hostname}: ")]


def _of(report: Report, method: str) -> Report:
    return report.where(lambda outcome: outcome.method == method)


def _tasks_at_last(outcomes: tuple[Outcome, ...], lost: str, until: float) -> set[str]:
    """Return the tasks of the other machines that answered in the last second."""
    return {each.task for each in outcomes if each.ok and each.at > until - 1.0 and not each.task.endswith(f"@{lost}")}


def _redeploy(found: Watched, revision: str, *, drain: str = "15s") -> None:
    compose = shop(host=f"{found.app}.test", env={**found.compose, "REVISION": revision}, drain=drain)
    found.product.deploy(found.app, compose)


def _is_ready(product: Product) -> bool:
    try:
        product.api.call("GET", "/ready")
    except Exception:  # a connection refused, a problem: not yet
        return False
    return True


_GRAY = (
    "x-hunqi: {rollout: {interval: 2s, keep: 5s, "
    "steps: [weight: 10, analysis: 10s, weight: 50, analysis: 5s], "
    "measures: {success-rate: }}}\n"
)


def _released(product: Product, app: str, version: str, errors: int) -> dict[str, Any]:
    """Release a revision under load and return its rollout at its end."""
    file = shop(host=f"{app}.test", replicas=2, env={"TASK": f"{version}@", "ERROR_PERMILLE": str(errors)}, drain="2s")
    begun = product.begin_deploy(app, _GRAY + file)
    shown: dict[str, Any] = {}

    def ended() -> bool:
        try:
            shown.update(product.api.call("GET", f"/v1/apps/{app}/rollout"))
        except ApiError as error:
            if error.status != 404:
                raise
        return shown.get("deploy") == begun["id"] and shown["state"] in {"succeeded", "aborted", "failed", "paused"}

    eventually(ended, timeout_s=120.0, what=lambda: f"the end of the rollout: {shown}")
    return shown


def test_a_bad_revision_is_turned_away_by_what_users_got_and_a_good_one_is_promoted(product: Product) -> None:
    """5 % of the bad one's answers are errors: real gateways count them, and its users go back at once."""
    app = "graded"
    product.deploy(app, shop(host=f"{app}.test", replicas=2, env={"TASK": "old@"}, drain="2s"))
    with load(Load(targets=product.gateways, host=f"{app}.test", rate=200.0)) as running:
        time.sleep(5.0)
        bad = _released(product, app, "bad", 50)
        aborted_at = float(bad["decided_at"]) - time.time() + time.monotonic()
        time.sleep(4.0)
        good = _released(product, app, "good", 0)
        report = running.stop()

    assert bad["state"] == "aborted", bad
    assert bad["problem"]["code"] == "rollout.measure-failed"
    assert "success-rate of web" in bad["problem"]["message"]
    of_bad = [each.at for each in report.outcomes if each.task.startswith("bad")]
    assert len(of_bad) > 50
    assert max(of_bad) - aborted_at < 2.0, "users stayed with it after the decision"
    assert len(of_bad) < 0.2 * len([each for each in report.outcomes if each.at < aborted_at])
    assert good["state"] == "succeeded", good
    assert report.outcomes[-1].task.startswith("good")
    others = [each for each in report.outcomes if not each.ok and not each.task.startswith("bad")]
    assert not others, others[:5]
    product.remove(app)
