"""A node that is being emptied asks apps for more tasks meanwhile: the planner gives them, and takes them back."""

from __future__ import annotations

from dataclasses import replace

from hunqi.apps.plan import plan
from hunqi.apps.steps import ScaleService
from support_apps import World, spec, web


def test_the_surge_is_kept_while_it_is_meant_and_goes_with_it() -> None:
    world = World()
    world.release(spec(web(replicas=2)))
    world.settle()

    def scaled(extra: dict[str, int]) -> list[int]:
        at = world.situation()
        made = plan(replace(at, facts=replace(at.facts, surge=extra)))
        return [step.replicas for step in made.steps if isinstance(step, ScaleService)]

    assert scaled({}) == []
    assert scaled({"shop_web-r1": 1}) == [3], "added by whoever comes first"
    held = world.services["shop_web-r1"]
    world.services["shop_web-r1"] = replace(held, spec={**held.spec, "Mode": {"Replicated": {"Replicas": 3}}})
    assert scaled({"shop_web-r1": 1}) == [], "what the node's emptying has added stays"
    assert scaled({}) == [2]
