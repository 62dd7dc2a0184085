"""When a service is given up: its tasks must have ended since the deploy began it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hunqi.apps.model import ServiceSpec
from hunqi.apps.standing import Standing, judge
from hunqi.engine.model import Service, Task, TaskState
from support_apps import service

AT = datetime(2026, 1, 1, tzinfo=UTC)


def ended(number: int, state: TaskState) -> Task:
    return Task(
        id=f"t{number}",
        service_id="s1",
        node_id="n1",
        slot=1,
        state=state,
        desired_state=TaskState.SHUTDOWN,
        message="",
        error="",
        exit_code=0,
        container_id=None,
        pid=None,
        addresses={},
        image="",
        created_at="",
        updated_at=AT.replace(second=number).isoformat().replace("+00:00", ".123456789Z"),
    )


def given_up(spec: ServiceSpec, state: TaskState, *, begun: float) -> str | None:
    held = Service(id="s1", version=1, name="shop_job-r1", labels={}, spec={}, created_at="", updated_at="")
    tasks = tuple(ended(number, state) for number in (1, 3, 2))
    standing = Standing(service=held, key="job", revision=1, tasks=tasks, down=frozenset())
    judged = judge(spec, standing, 1, None, gateways=False, settled_before=0.0, begun=begun)
    return judged.failed.id if judged.failed else None


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.COMPLETE])
def test_last_of_three_that_ended_is_shown_but_not_for_what_was_before(state: TaskState) -> None:
    spec = service("job")
    assert given_up(spec, state, begun=AT.timestamp()) == "t3"
    assert given_up(spec, state, begun=AT.timestamp() + 60.0) is None


def test_what_may_end_in_good_order_is_not_given_up_for_it() -> None:
    spec = service("job", template={"RestartPolicy": {"Condition": "on-failure"}})
    assert given_up(spec, TaskState.COMPLETE, begun=0.0) is None
    assert given_up(spec, TaskState.FAILED, begun=0.0) == "t3"
