"""``x-hunqi.scale``: what a file may say, and what is said of one that is wrong."""

from __future__ import annotations

import pytest
import yaml

from hunqi.apps.compose.compile import compile_project
from hunqi.apps.compose.project import InvalidError, Project
from hunqi.apps.scale_spec import DEFAULT_DOWN, DEFAULT_UP, Policy, PolicyKind, ScaleSpec, Select, Target, Zero
from hunqi.kit.codec import dumps, loads

ROUTED = {"routes": [{"host": "shop.example.com", "port": 80}]}


def compiled(scale: object, service: dict[str, object] | None = None, *, routed: bool = True) -> ScaleSpec:
    own = {**(ROUTED if routed else {}), "scale": scale}
    text = yaml.safe_dump({"services": {"web": {"image": "shop/web:1", "x-hunqi": own, **(service or {})}}})
    spec = compile_project(
        Project(name="shop", files={"compose.yaml": text.encode()}, entry=("compose.yaml",), tcp_ports=(20000, 20099))
    ).spec.services["web"]
    assert spec.scale is not None
    return spec.scale


def test_everything_that_can_be_said_arrives_and_survives_storage() -> None:
    scale = compiled(
        {
            "min": 2,
            "max": 20,
            "cpu": "70%",
            "memory": "400m",
            "rps": 50,
            "concurrency": 12.5,
            "p95_ms": 300,
            "queue": {"query": "api/jobs", "per_replica": 30},
            "schedule": [{"cron": "0 8 * * 1-5", "min": 4, "timezone": "Europe/Berlin"}],
            "behavior": {
                "up": {"window": "30s", "select": "min", "policies": [{"type": "tasks", "value": 2, "period": "1m"}]},
                "down": {"tolerance": 0.2},
            },
            "zero": {"cooldown": "10m"},
            "predict": True,
        },
        {"deploy": {"resources": {"reservations": {"cpus": "0.5"}}}},
    )
    assert (scale.min, scale.max, scale.cpu, scale.memory) == (2, 20, Target(percent=70), Target(amount=400 * 2**20))
    assert (scale.rps, scale.concurrency, scale.p95_ms, scale.predict) == (50, 12.5, 300, True)
    assert scale.behavior.up.policies == (Policy(kind=PolicyKind.TASKS, value=2, period_s=60),)
    assert (scale.behavior.up.window_s, scale.behavior.up.select) == (30, Select.MIN)
    assert scale.zero == Zero(cooldown_s=600)
    assert loads(ScaleSpec, dumps(scale)) == scale


def test_only_values_which_need_to_be_customized_are_specified_and_merged_with_the_defaults() -> None:
    scale = compiled({"max": 9, "rps": 1, "behavior": {"down": {"window": "1m"}}})
    assert scale.behavior.up == DEFAULT_UP
    assert (scale.behavior.down.window_s, scale.behavior.down.policies) == (60, DEFAULT_DOWN.policies)


def test_a_min_of_0_allows_zero_and_one_is_the_fewest_else() -> None:
    scale = compiled({"min": 0, "max": 3})
    assert (scale.min, scale.zero, scale.lowest) == (1, Zero(), 0)
    assert compiled({"min": 2, "max": 3, "zero": True}).lowest == 0


@pytest.mark.parametrize(
    ("scale", "service", "said"),
    [
        ({"min": 1}, {}, "max is missing"),
        ({"max": 5}, {}, "name what moves it"),
        ({"max": 5, "p95_ms": 100}, {}, "never for fewer"),
        ({"min": 6, "max": 5, "rps": 1}, {}, "0 ≤ min ≤ max"),
        ({"max": 5, "cpu": "70%"}, {}, "reserves no cpu"),
        ({"max": 5, "cpu": "much"}, {}, "write 70% or 0.5"),
        ({"max": 5, "rpz": 3}, {}, "rps"),
        ({"max": 5, "rps": 0}, {}, "more than 0"),
        ({"max": 5, "rps": 1, "schedule": [{"cron": "8 o'clock", "min": 1}]}, {}, "no schedule of five fields"),
        ({"max": 5, "rps": 1, "schedule": [{"cron": "0 8 * * *", "min": 1, "timezone": "Mars"}]}, {}, "no time zone"),
        ({"max": 5, "rps": 1, "schedule": [{"cron": "0 8 * * *"}]}, {}, "a min, a max or both"),
        ({"max": 5, "rps": 1, "behavior": {"down": {"window": "2h"}}}, {}, "at most 3600s"),
        ({"max": 5, "rps": 1}, {"volumes": ["data:/data"]}, "lies on one node"),
        ({"max": 5, "rps": 1}, {"deploy": {"mode": "global"}}, "no replicas"),
        ({"min": 0, "max": 5, "queue": {"query": "jobs", "per_replica": 3}}, {}, "at zero no task of web counts"),
        ({"max": 5, "queue": {"query": "sum(jobs)", "per_replica": 3}}, {}, "name of a metric"),
        ({"max": 5, "predict": True, "memory": "10m"}, {}, "history foretells"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(scale: object, service: dict[str, object], said: str) -> None:
    files = {"volumes": {"data": {}}} if "volumes" in service else {}
    text = yaml.safe_dump(
        {"services": {"web": {"image": "shop/web:1", "x-hunqi": {**ROUTED, "scale": scale}, **service}}, **files}
    )
    with pytest.raises(InvalidError, match=said):
        compile_project(
            Project(
                name="shop", files={"compose.yaml": text.encode()}, entry=("compose.yaml",), tcp_ports=(20000, 20099)
            )
        )


def test_what_gets_no_requests_is_not_scaled_by_them() -> None:
    with pytest.raises(InvalidError, match="nobody counts them"):
        compiled({"max": 5, "rps": 3}, routed=False)
    with pytest.raises(InvalidError, match="nothing would wake"):
        compiled({"min": 0, "max": 5, "cpu": "0.5"}, routed=False)
