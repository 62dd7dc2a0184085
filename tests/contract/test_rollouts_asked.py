"""Rollouts by the interface, the client and the command line."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from test_cli_cluster import Terminal

from hunqi.apps.rollout_spec import RolloutSpec, Step, StepKind, Strategy
from hunqi.apps.shifting import Shift
from hunqi.client.errors import RefusedError
from hunqi.rollouts.analysis.model import Finding, Outcome
from hunqi.rollouts.model import Course, Pause, Phase, Why
from hunqi.rollouts.states import State
from support_api import BLOG, SHOP, World, run_world

FINDINGS = (
    Finding(
        measure="success-rate",
        service="web",
        outcome=Outcome.SUCCESS,
        sentence="1.2 % failed, 1.1 % of the old one's",
        numbers={"new": 0.012, "old": 0.011},
        samples_new=1200,
        samples_old=22_800,
    ),
    Finding(
        measure="p99",
        service="web",
        outcome=Outcome.WAITING,
        sentence="too few requests",
        numbers={"new": 84.0, "old": 80.0},
    ),
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with run_world(tmp_path) as running:
        pause = Pause(why=Why.STEP, since=1.0, sentence="a step pauses it")
        shift = Shift(number=3, weight=500, decided_at=1e9)
        course = Course(step=1, phase=Phase.WAITING, shift=shift, in_force=3, pause=pause, findings=FINDINGS)
        steps = (Step(kind=StepKind.WEIGHT, weight=500), Step(kind=StepKind.PAUSE))
        running.rooms.roll(SHOP, State.PAUSED, course, RolloutSpec(steps=steps))
        running.rooms.roll(BLOG, State.STEPPING, course, RolloutSpec())
        yield running


@pytest.fixture
def hunqi(world: World, tmp_path: Path) -> Terminal:
    home = tmp_path / "home"
    home.mkdir()
    return Terminal(world=world, home=home, token=world.tokens["developer"])


async def test_a_rollout_is_seen_and_steered_by_the_client(world: World) -> None:
    async with world.client("developer") as client:
        assert [each["app"] async for each in client.rollouts.all()] == [SHOP], "only what one may see"
        shown = await client.rollouts.show(SHOP)
        assert (shown["state"], shown["weight"], shown["in_force"], shown["paused"]) == ("paused", 5.0, True, "step")
        assert [step["state"] for step in shown["steps"]] == ["done", "now", "to-do"]
        assert len([look async for look in client.rollouts.looks(SHOP)]) == 12
        with pytest.raises(RefusedError) as caught:
            await client.rollouts.say(SHOP, "approve")
        assert caught.value.problem_code == "rollout.refused"
        assert "resume" in str(caught.value)
        assert (await client.rollouts.say(SHOP, "resume", reason="well"))["state"] == "stepping"
        assert (await client.rollouts.promote(SHOP, full=True, force=True))["state"] == "promoting"
    async with world.client("viewer") as client:
        with pytest.raises(RefusedError) as caught:
            await client.rollouts.say(SHOP, "pause")
        assert caught.value.problem_code == "auth.denied"


async def test_what_is_asked_for_at_a_deploy_arrives(world: World, hunqi: Terminal) -> None:
    (hunqi.home / "compose.yaml").write_text("name: shop\nservices: {web: {image: a}}\n")

    said = await hunqi("app", "deploy", "--rollout", "gray", "--steps", "0.5,10%,50", "--detach")

    assert said.code == 0, said.err
    asked = world.rooms.submissions[-1].rollout
    assert asked is not None
    assert asked.strategy is Strategy.GRAY
    assert [step.weight for step in asked.steps if step.kind is StepKind.WEIGHT] == [50, 1000, 5000]
    for wrong in (
        ("--rollout", "grey"),
        ("--steps", "a"),
        ("--steps", "50,5"),
        ("--rollout", "direct", "--steps", "5"),
    ):
        said = await hunqi("app", "deploy", *wrong, "--detach")
        assert said.code == 1, wrong


async def test_show_says_where_it_is_what_was_found_and_what_is_next(hunqi: Terminal) -> None:
    said = await hunqi("rollout", "show", SHOP, "--plot")

    assert said.code == 0, said.err
    assert "revision 1 → 2, paused at 5 %" in said.out
    assert "hunqi rollout resume shop" in said.out
    assert re.search(r"✓ +1 +weight +5 % of users", said.out)
    assert re.search(r"▶ +2 +pause", said.out)
    assert re.search(r"success-rate +web +98.8 % +98.9 % +1,200", said.out)
    assert "error rate of web" in said.out
    assert "p99 of web" in said.out
    assert re.search(r"[\u2801-\u28ff]{5}", said.out), "no line was drawn"


async def test_the_plot_is_an_svg_too(hunqi: Terminal) -> None:
    said = await hunqi("rollout", "show", SHOP, "--svg", "release.svg")

    assert said.code == 0, said.err
    root = ET.parse(hunqi.home / "release.svg").getroot()
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 5, "weight, and both revisions' errors and latency"
    assert all(len(line.attrib["points"].split()) >= 12 for line in lines)


async def test_every_verb_from_the_command_line(world: World, hunqi: Terminal) -> None:
    assert "shop" in (await hunqi("rollout", "ls")).out
    assert (await hunqi.json("rollout", "resume", SHOP))["state"] == "stepping"
    assert (await hunqi.json("rollout", "pause", SHOP, "--reason", "lunch"))["sentence"].endswith("lunch")  # type: ignore[attr-defined]
    assert (await hunqi.json("rollout", "promote", SHOP))["step"] == 2
    refused = await hunqi("rollout", "promote", SHOP, "--full", "--force")
    assert refused.code == 1
    assert "--yes" in refused.err
    assert (await hunqi.json("rollout", "promote", SHOP, "--full"))["state"] == "stepping"
    refused = await hunqi("rollout", "approve", SHOP)
    assert "rollout abort shop" in refused.err
    assert (await hunqi.json("rollout", "abort", SHOP, "--reason", "no"))["state"] == "aborting"
    assert (await hunqi.json("rollout", "retry", SHOP, "--detach"))["app"] == SHOP
    assert (await hunqi.json("rollout", "undo", SHOP, "--detach"))["app"] == SHOP
    watched = await _ended(world, hunqi)
    assert "aborted" in watched


async def _ended(world: World, hunqi: Terminal) -> str:
    world.rooms.roll(SHOP, State.ABORTED, Course(sentence="p99 fails"))
    said = await hunqi("rollout", "show", SHOP, "--watch")
    assert said.code == 0, said.err
    return said.out
