"""``x-hunqi.rollout``: every step and measure as written, and every fault with its line."""

from __future__ import annotations

import textwrap

import pytest

from hunqi.apps.compose.compile import compile_project
from hunqi.apps.compose.project import InvalidError, Project
from hunqi.apps.lanes import KeyKind, LaneKey, LaneMatch, Match
from hunqi.apps.model import AppSpec
from hunqi.apps.rollout_spec import MeasureKind, MeasureSpec, RolloutSpec, Step, StepKind, Strategy
from hunqi.kit.codec import dumps, loads


def compiled(rollout: str) -> RolloutSpec | None:
    text = (
        f"services: {{web: {{image: shop/web}}, db: {{image: shop/db}}}}\nx-hunqi:\n{textwrap.indent(rollout, '  ')}\n"
    )
    project = Project(name="shop", files={"compose.yaml": text}, entry=("compose.yaml",))
    spec = compile_project(project).spec
    assert loads(AppSpec, dumps(spec)) == spec
    return spec.rollout


def faults(rollout: str) -> list[tuple[int, str, str]]:
    with pytest.raises(InvalidError) as caught:
        compiled(rollout)
    return [(note.line, note.path, note.instead) for note in caught.value.problems]


@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_word_is_enough(strategy: Strategy) -> None:
    assert compiled(f"rollout: {strategy}") == RolloutSpec(strategy=strategy)


def test_nothing_is_nothing() -> None:
    assert compiled("drain: 5s") is None


def test_every_step_as_it_is_written() -> None:
    found = compiled(
        """
rollout:
  steps:
    - match: {headers: {X-Beta: "1"}, cookies: {t: {present: true}}, query: {v: {prefix: "2"}}, source: 10.1.0.0/16}
    - match: [{users: 5%}, {headers: {x-a: {regex: "a+"}}}]
    - match: {}
    - mirror: 10%
    - scale: {web: 3}
    - scale: 50%
    - weight: 0.25
    - pause
    - pause: 1m30s
    - weight: 5%
    - analysis
    - analysis: 30s
    - analysis: {measures: [success-rate], for: 2m}
    - approve
    - run: {service: web, command: [migrate, --check], timeout: 5m}
    - run: {service: db, command: "sh -c 'echo a b'"}
"""
    )
    assert found is not None
    beta = LaneMatch(
        headers=(Match(name="x-beta", value="1"),),
        cookies=(Match(name="t", kind="present"),),
        query=(Match(name="v", kind="prefix", value="2"),),
        sources=("10.1.0.0/16",),
    )
    several = (LaneMatch(users=500), LaneMatch(headers=(Match(name="x-a", kind="regex", value="a+"),)))
    assert found.steps == (
        Step(kind=StepKind.MATCH, matches=(beta,)),
        Step(kind=StepKind.MATCH, matches=several),
        Step(kind=StepKind.MATCH),
        Step(kind=StepKind.MIRROR, mirror=1000),
        Step(kind=StepKind.SCALE, replicas={"web": 3}),
        Step(kind=StepKind.SCALE, percent=50),
        Step(kind=StepKind.WEIGHT, weight=25),
        Step(kind=StepKind.PAUSE),
        Step(kind=StepKind.PAUSE, for_s=90.0),
        Step(kind=StepKind.WEIGHT, weight=500),
        Step(kind=StepKind.ANALYSIS),
        Step(kind=StepKind.ANALYSIS, for_s=30.0),
        Step(kind=StepKind.ANALYSIS, measures=("success-rate",), for_s=120.0),
        Step(kind=StepKind.APPROVE),
        Step(kind=StepKind.RUN, service="web", command=("migrate", "--check"), for_s=300.0),
        Step(kind=StepKind.RUN, service="db", command=("sh", "-c", "echo a b")),
    )


def test_every_measure_in_its_unit() -> None:
    found = compiled(
        """
rollout:
  strategy: blue-green
  key: {header: X-Account}
  interval: 2s
  keep: 1h
  undo_window: 5
  measures:
    success-rate: {at_least: 99.5%, confidence: 99%}
    p99: {at_most: 500ms, tolerance: 50%, min_samples: 20, failures: 1, inconclusive: 0, errors: 2}
    memory: {at_most: 512m, services: web}
    restarts:
    orders: {metric: orders_failed_total, interval: 10s, delay: 1m}
    queue: {promql: "sum(queue)", source: main, at_most: 100}
    http: /health
"""
    )
    assert found == RolloutSpec(
        strategy=Strategy.BLUE_GREEN,
        key=LaneKey(kind=KeyKind.HEADER, name="x-account"),
        interval_s=2.0,
        keep_s=3600.0,
        undo_window=5,
        measures=(
            MeasureSpec(name="success-rate", kind=MeasureKind.SUCCESS_RATE, at_least=0.995, confidence=0.99),
            MeasureSpec(
                name="p99",
                kind=MeasureKind.P99,
                at_most=500.0,
                tolerance=0.5,
                min_samples=20,
                failure_limit=1,
                inconclusive_limit=0,
                error_limit=2,
            ),
            MeasureSpec(name="memory", kind=MeasureKind.MEMORY, at_most=512 * 2.0**20, services=("web",)),
            MeasureSpec(name="restarts", kind=MeasureKind.RESTARTS),
            MeasureSpec(
                name="orders",
                kind=MeasureKind.METRIC,
                query="orders_failed_total",
                interval_s=10.0,
                initial_delay_s=60.0,
            ),
            MeasureSpec(
                name="queue", kind=MeasureKind.PROMQL, query="sum(queue)", source="main", at_most=100.0, compare=False
            ),
            MeasureSpec(name="http", kind=MeasureKind.HTTP, query="/health", compare=False),
        ),
    )


@pytest.mark.parametrize(
    ("written", "path", "words"),
    [
        ("rollout: grey", "x-hunqi.rollout", "none of gray"),
        ("rollout: {stepz: []}", "x-hunqi.rollout.stepz", "did you mean 'steps'"),
        ("rollout: {steps: 5}", "x-hunqi.rollout.steps", "list"),
        ("rollout: {steps: [wieght: 5]}", "x-hunqi.rollout.steps[0].wieght", "did you mean 'weight'"),
        ("rollout: {steps: [weight]}", "x-hunqi.rollout.steps[0]", "needs a value"),
        ("rollout: {steps: [stop]}", "x-hunqi.rollout.steps[0]", "no step"),
        ("rollout: {steps: [{weight: 5, pause: 3s}]}", "x-hunqi.rollout.steps[0]", "one thing"),
        ("rollout: {steps: [weight: 101]}", "x-hunqi.rollout.steps[0].weight", "0 to 100"),
        ("rollout: {steps: [weight: 0.001]}", "x-hunqi.rollout.steps[0].weight", "two decimals"),
        ("rollout: {steps: [weight: 0]}", "x-hunqi.rollout.steps[0].weight", "above 0"),
        ("rollout: {steps: [weight: 10, weight: 5]}", "x-hunqi.rollout.steps[1]", "only rise"),
        ("rollout: {steps: [pause: 30]}", "x-hunqi.rollout.steps[0].pause", "write 30s"),
        ("rollout: {steps: [pause: soon]}", "x-hunqi.rollout.steps[0].pause", "no duration"),
        ("rollout: {steps: [match: {header: {a: b}}]}", "x-hunqi.rollout.steps[0].match.header", "did you mean"),
        ("rollout: {steps: [match: {source: home}]}", "x-hunqi.rollout.steps[0].match.source", "no network"),
        ("rollout: {steps: [match: [{}]]}", "x-hunqi.rollout.steps[0].match[0]", "no condition"),
        ("rollout: {steps: [scale: {wep: 1}]}", "x-hunqi.rollout.steps[0].scale.wep", "did you mean 'web'"),
        ("rollout: {steps: [scale: 0%]}", "x-hunqi.rollout.steps[0].scale", "above 0"),
        ("rollout: {steps: [run: {command: a}]}", "x-hunqi.rollout.steps[0].run.service", "missing"),
        ("rollout: {steps: [run: {service: wep}]}", "x-hunqi.rollout.steps[0].run.service", "did you mean 'web'"),
        ("rollout: {steps: [approve: me]}", "x-hunqi.rollout.steps[0].approve", "no value"),
        ("rollout: {steps: [analysis: {measures: [p98]}]}", "x-hunqi.rollout.steps[0].analysis.measures", "no measure"),
        ("rollout: {strategy: direct, steps: [pause]}", "x-hunqi.rollout.steps[0]", "direct has no steps"),
        ("rollout: {strategy: blue-green, steps: [weight: 5]}", "x-hunqi.rollout.steps[0]", "all users at once"),
        ("rollout: {key: {cookie: a, header: b}}", "x-hunqi.rollout.key", "one of"),
        ("rollout: {key: {cookie: 'a;b'}}", "x-hunqi.rollout.key.cookie", "no name"),
        ("rollout: {interval: 10ms}", "x-hunqi.rollout.interval", "1s to 1h"),
        ("rollout: {measures: {sucess-rate: {}}}", "x-hunqi.rollout.measures.sucess-rate", "did you mean"),
        ("rollout: {measures: {p99: {at_most: fast}}}", "x-hunqi.rollout.measures.p99.at_most", "500ms"),
        ("rollout: {measures: {p99: {atmost: 5ms}}}", "x-hunqi.rollout.measures.p99.atmost", "did you mean"),
        ("rollout: {measures: {p99: {compare: false}}}", "x-hunqi.rollout.measures.p99.compare", "nothing would ever"),
        ("rollout: {measures: {q: {promql: up}}}", "x-hunqi.rollout.measures.q.source", "which server"),
        ("rollout: {measures: {http: health}}", "x-hunqi.rollout.measures.http.http", "begins with /"),
    ],
)
def test_faults_name_their_place_and_the_way_out(written: str, path: str, words: str) -> None:
    found = faults(written)
    assert [line for line, _, _ in found if line != 3] == []
    assert any(at == path and words in text for _, at, text in found), found


def test_all_faults_are_told_together() -> None:
    found = faults(
        """
rollout:
  interval: 0s
  steps:
    - weight: 200
    - nap
  measures:
    p99: {at_most: x}
"""
    )
    assert [line for line, _, _ in found] == [5, 7, 8, 10]


def test_a_service_has_no_rollout_of_its_own() -> None:
    text = "services:\n  web:\n    image: a\n    x-hunqi: {rollout: gray}\n"
    with pytest.raises(InvalidError) as caught:
        compile_project(Project(name="shop", files={"compose.yaml": text}, entry=("compose.yaml",)))
    assert "no field 'rollout'" in caught.value.problems[0].instead
