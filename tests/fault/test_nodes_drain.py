"""Emptying nodes, with control killed before and after each of its acts: nobody is ever short of tasks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from hunqi.engine.errors import ConflictError
from hunqi.nodes.errors import NodeNotFoundError, NodeRefusedError
from hunqi.nodes.model import Intent
from hunqi.state.database import open_database
from support_nodes import Bench, KilledError, bench, service_spec, start

ACTS = 9
"""A drain with one service: pause, mark, scale, mark, drain, mark, scale, mark, mark."""


@contextlib.asynccontextmanager
async def swarm(directory: Path, *, nodes: int = 3) -> AsyncGenerator[Bench]:
    async with open_database(str(directory / "state.db")) as database:
        yield bench(database, nodes=nodes)


async def least_running(it: Bench, name: str) -> int:
    return sum(services.count(name) for services in (await it.look()).values())


async def test_a_drain_starts_elsewhere_first_and_ends_with_as_many_as_before(tmp_path: Path) -> None:
    async with swarm(tmp_path) as it:
        await start(it, service_spec("shop_web-r1"))
        controller = it.controller()
        await controller.drain("node2")
        assert await it.live(controller)
        found = await it.look()
        assert found["node2"] == []
        assert sorted(found["node1"] + found["node3"]) == ["shop_web-r1"] * 3
        assert await it.replicas("shop_web-r1") == 3
        assert (await it.node("node2")).availability == "drain"
        assert controller.surge().extra == {}
        assert any("before node2 is drained" in each for each in it.told)
        assert it.told[-1] == "node2: node2 is empty"
        assert it.acts == ACTS + 1  # and the wish itself


@pytest.mark.parametrize("death", [n / 2 for n in range(4, 2 * (ACTS + 2))])
async def test_control_may_die_anywhere(tmp_path: Path, death: float) -> None:
    async with swarm(tmp_path) as it:
        await start(it, service_spec("shop_web-r1"), service_spec("shop_db-r1", 1, drained=False))
        first = it.controller()
        await first.drain("node2")
        it.die_at = death
        with contextlib.suppress(KilledError):
            for _ in range(60):
                assert await least_running(it, "shop_web-r1") >= 3
                await first.tick()
                it.clock[0] += 1
                await it.end_drained()
        it.die_at = float("inf")
        second = it.controller()
        for _ in range(60):
            assert await least_running(it, "shop_web-r1") >= 3
            if not await it.live(second, rounds=1):
                continue
            break
        found = await it.look()
        assert found["node2"] == []
        assert sum(services.count("shop_web-r1") for services in found.values()) == 3
        assert await it.replicas("shop_web-r1") == 3
        assert second.surge().extra == {}


async def test_the_surge_is_told_as_long_as_it_is_meant(tmp_path: Path) -> None:
    async with swarm(tmp_path) as it:
        await start(it, service_spec("shop_web-r1"))
        controller = it.controller()
        seen: list[tuple[int | None, int]] = []

        async def note() -> None:
            seen.append((await it.replicas("shop_web-r1"), controller.surge().extra.get("shop_web-r1", 0)))

        inner = it.act

        async def act(*args: object) -> object:
            await note()
            result = await inner(*args)  # type: ignore[arg-type]
            await note()
            return result

        it.act = act  # type: ignore[method-assign]
        await controller.drain("node2")
        await it.live(controller)
        # A reconciler that adds the surge to what is asked for never works against the controller.
        assert all(replicas in {3, 4} and (replicas == 3 + extra or extra in {0, 1}) for replicas, extra in seen)
        assert (4, 1) in seen
        assert seen[-1] == (3, 0)
        up, down = seen.index((4, 1)), len(seen) - 1 - seen[::-1].index((4, 0))
        assert all(extra == 1 for replicas, extra in seen[:up] if replicas == 4)
        assert all(extra == 0 for _, extra in seen[down:])


async def test_nothing_is_stopped_before_the_gateways_find_the_others_healthy(tmp_path: Path) -> None:
    async with swarm(tmp_path) as it:
        await start(it, service_spec("shop_web-r1"))
        await it.look()
        before = set(it.running)
        controller = it.controller()
        await controller.drain("node2")
        await controller.tick()
        await it.look()
        it.unhealthy = it.running - before
        for _ in range(20):
            assert not await it.live(controller, rounds=1)
        assert (await it.node("node2")).availability == "pause"
        assert "2 of 3 healthy elsewhere" in controller.sentence((await it.node("node2")).id)
        it.unhealthy = set()
        assert await it.live(controller)
        assert (await it.node("node2")).availability == "drain"


async def test_where_there_is_no_room_it_is_said_and_force_goes_on(tmp_path: Path) -> None:
    async with swarm(tmp_path) as it:
        room = {"Resources": {"Reservations": {"MemoryBytes": 5 * 2**30}}}
        await start(it, service_spec("shop_web-r1", 3, **room))
        controller = it.controller()
        await controller.drain("node2")
        for _ in range(5):
            assert not await it.live(controller, rounds=1)
        sentence = controller.sentence((await it.node("node2")).id)
        assert "it needs 5.00 GiB of memory reserved, node1 has 3.00 GiB free" in sentence, sentence
        assert "--force" in sentence
        await controller.drain("node2", force=True)
        assert await it.live(controller)
        assert (await it.look())["node2"] == []
        assert await it.replicas("shop_web-r1") == 3


async def test_services_that_must_not_run_twice_are_not_surged(tmp_path: Path) -> None:
    async with swarm(tmp_path) as it:
        await start(it, service_spec("shop_db-r1", 1, drained=False), service_spec("shop_web-r1", 1))
        name = next(node for node, services in (await it.look()).items() if "shop_db-r1" in services)
        controller = it.controller()
        await controller.drain(name)
        for _ in range(20):
            assert await it.replicas("shop_db-r1") == 1
            assert await least_running(it, "shop_db-r1") <= 1
            if await it.live(controller, rounds=1):
                break
        assert (await it.look())[name] == []


async def test_a_drain_that_is_taken_back_leaves_no_trace(tmp_path: Path) -> None:
    for rounds in range(1, 8):
        directory = tmp_path / str(rounds)
        directory.mkdir()
        async with swarm(directory) as it:
            await start(it, service_spec("shop_web-r1"))
            controller = it.controller()
            await controller.drain("node2")
            for _ in range(rounds):
                await it.live(controller, rounds=1)
            await controller.activate("node2")
            assert await it.live(controller)
            assert (await it.node("node2")).availability == "active"
            assert await it.replicas("shop_web-r1") == 3
            assert controller.surge().extra == {}
            assert await least_running(it, "shop_web-r1") >= 3


async def test_two_nodes_at_once(tmp_path: Path) -> None:
    async with swarm(tmp_path, nodes=4) as it:
        await start(it, service_spec("shop_web-r1", 4))
        controller = it.controller()
        await controller.drain("node2")
        await controller.drain("node3")
        for _ in range(60):
            assert await least_running(it, "shop_web-r1") >= 4
            if await it.live(controller, rounds=1):
                break
        found = await it.look()
        assert (found["node2"], found["node3"]) == ([], [])
        assert await it.replicas("shop_web-r1") == 4


async def test_somebody_elses_drain_gets_one_more_at_once_and_it_goes_again(tmp_path: Path) -> None:
    async with swarm(tmp_path) as it:
        await start(it, service_spec("shop_web-r1"))
        await it.look()
        await it.swarm.nodes.update(await it.node("node2"), availability="drain")
        controller = it.controller()
        await controller.tick()
        assert await it.replicas("shop_web-r1") == 4
        assert controller.surge().extra == {"shop_web-r1": 1}
        assert await it.live(controller)
        assert await it.replicas("shop_web-r1") == 3
        assert controller.surge().extra == {}
        found = await it.look()
        assert sorted(found["node1"] + found["node3"]) == ["shop_web-r1"] * 3
        assert (await it.node("node2")).availability == "drain", "what somebody else wants is left"


async def test_a_conflict_is_looked_at_again(tmp_path: Path) -> None:
    async with swarm(tmp_path) as it:
        await start(it, service_spec("shop_web-r1"))
        controller = it.controller()
        inner, failures = it.act, [ConflictError("out of sequence")] * 3

        async def act(call: object, args: object, more: object) -> object:
            if failures and "intent" not in getattr(call, "__name__", ""):
                raise failures.pop()
            return await inner(call, args, more)  # type: ignore[arg-type]

        await controller.drain("node2")
        it.act = act  # type: ignore[method-assign, assignment]
        assert await it.live(controller)
        assert (await it.look())["node2"] == []


async def test_a_user_who_scales_meanwhile_is_not_overruled(tmp_path: Path) -> None:
    async with swarm(tmp_path) as it:
        await start(it, service_spec("shop_web-r1"))
        controller = it.controller()
        await controller.drain("node2")
        await it.live(controller, rounds=1)
        service = await it.swarm.services.inspect("shop_web-r1")
        await it.swarm.services.update(service.id, service.version, service_spec("shop_web-r1", 7))
        await it.live(controller)
        assert await it.replicas("shop_web-r1") == 7


async def test_a_node_is_removed_once_it_is_empty_and_down(tmp_path: Path) -> None:
    async with swarm(tmp_path) as it:
        it.swarm.add_node("worker1", role="worker")
        await start(it, service_spec("shop_web-r1", 4))
        controller = it.controller()
        await controller.remove("worker1")
        for _ in range(20):
            await it.live(controller, rounds=1)
        assert (await it.look())["worker1"] == []
        assert "docker swarm leave" in controller.sentence((await it.node("worker1")).id)
        it.swarm.lose_node("worker1")
        await it.live(controller)
        assert "worker1" not in {node.hostname for node in await it.swarm.nodes.list()}
        assert Intent.REMOVE not in {each.intent for each in (await it.store.records()).values()}


async def test_managers_are_not_removed_and_strangers_not_found(tmp_path: Path) -> None:
    async with swarm(tmp_path) as it:
        controller = it.controller()
        with pytest.raises(NodeRefusedError, match="hunqi node set node1 --role worker"):
            await controller.remove("node1")
        with pytest.raises(NodeNotFoundError):
            await controller.drain("nowhere")


async def test_control_is_gone_from_the_swarm_of_a_node_that_left(tmp_path: Path) -> None:
    async with swarm(tmp_path) as it:
        it.swarm.add_node("worker1", role="worker")
        controller = it.controller()
        await controller.drain("worker1")
        node = await it.node("worker1")
        it.swarm.lose_node("worker1")
        await it.swarm.nodes.remove(node.id, force=True)
        await it.live(controller)
        assert node.id not in await it.store.records()
