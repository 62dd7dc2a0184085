"""One suite for Docker in Swarm mode and for the fake: what the rooms above may rely on."""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import ip_address, ip_network

import pytest

from hunqi.engine.errors import ConflictError, EngineRefusedError, InUseError, NotFoundError
from hunqi.engine.model import Network, Service, Task, TaskState
from hunqi.engine.ports import WatchedEngine
from support_engine import DONE, FAILS, LABELS, NOWHERE, WAIT_S, engine, running, spec, until
from testbed.sample import SAMPLE

__all__ = ["engine"]


async def in_state(engine: WatchedEngine, service: str, state: TaskState) -> Task:
    async def look() -> Task | None:
        return next((task for task in await engine.tasks.list(services=[service]) if task.state is state), None)

    return await until(look, f"a task of {service} {state}")


async def allocated(engine: WatchedEngine, network: str) -> Network:
    async def look() -> Network | None:
        found = await engine.networks.inspect(network)
        return found if found.subnets and found.driver else None

    return await until(look, f"{network} to get its subnet")


async def gone(engine: WatchedEngine, service: str) -> bool:
    async def look() -> bool | None:
        # By the service's id they cannot be asked for once it is removed.
        return not any(task.service_id == service for task in await engine.tasks.list()) or None

    return await until(look, "all tasks gone")


async def scaled(engine: WatchedEngine, service: Service, replicas: int) -> None:
    changed = {**service.spec, "Mode": {"Replicated": {"Replicas": replicas}}}
    await engine.services.update(service.id, service.version, changed)


async def test_a_service_is_created_found_scaled_and_removed(engine: WatchedEngine) -> None:
    network = await engine.networks.create("shop_default", labels=LABELS)
    id_ = await engine.services.create(spec("shop_web-r1", Networks=[{"Target": "shop_default"}]))
    service = await engine.services.inspect("shop_web-r1")
    assert (service.id, service.name, dict(service.labels), service.replicas) == (id_, "shop_web-r1", LABELS, 1)
    assert service.network_ids == (network,)
    assert [each.id for each in await engine.services.list(LABELS)] == [id_]
    assert await engine.services.list({"io.hunqi.cluster": "another"}) == []

    (task,) = await running(engine, id_)
    (subnet,) = (await allocated(engine, network)).subnets
    assert ip_address(task.addresses[network]) in ip_network(subnet)
    assert task.image == SAMPLE
    assert task.labels["io.hunqi.cluster"] == "contract"
    assert task.container_id
    assert task.node_id == (await engine.nodes.inspect("self")).id

    await scaled(engine, await engine.services.inspect(id_), 2)
    both = await running(engine, id_, 2)
    assert {each.slot for each in both} == {1, 2}
    assert len({each.addresses[network] for each in both}) == 2

    await engine.services.remove(id_)
    with pytest.raises(NotFoundError):
        await engine.services.inspect(id_)
    assert await gone(engine, id_)


async def test_an_update_from_an_old_look_is_a_conflict(engine: WatchedEngine) -> None:
    id_ = await engine.services.create(spec("shop_web-r1", replicas=0))
    seen = await engine.services.inspect(id_)
    await scaled(engine, seen, 0)
    with pytest.raises(ConflictError):
        await scaled(engine, seen, 1)
    assert (await engine.services.inspect(id_)).version > seen.version


async def test_what_means_nothing_is_refused_by_kind(engine: WatchedEngine) -> None:
    await engine.services.create(spec("taken", replicas=0))
    with pytest.raises(ConflictError):
        await engine.services.create(spec("taken", replicas=0))
    with pytest.raises(EngineRefusedError):
        await engine.services.create(spec("no/name"))
    with pytest.raises(NotFoundError):
        await engine.services.create(spec("lost", Networks=[{"Target": "nowhere"}]))
    reference = {
        "SecretID": "x" * 25,
        "SecretName": "nothing",
        "File": {"Name": "n", "UID": "0", "GID": "0", "Mode": 292},
    }
    with pytest.raises(EngineRefusedError):
        await engine.services.create(spec("secretless", container={"Secrets": [reference]}))
    for wrong in ("", "..", "a/b"):
        with pytest.raises((NotFoundError, EngineRefusedError)):
            await engine.services.inspect(wrong)


async def test_a_task_that_fails_says_how_and_is_replaced(engine: WatchedEngine) -> None:
    id_ = await engine.services.create(spec("fails", FAILS, RestartPolicy={"Delay": 100_000_000}))
    task = await in_state(engine, id_, TaskState.FAILED)
    assert task.exit_code == 3
    assert "non-zero exit (3)" in task.error

    async def again() -> bool | None:
        return len(await engine.tasks.list(services=[id_])) > 2 or None

    assert await until(again, "more attempts")


async def test_a_task_that_may_not_be_restarted_is_not(engine: WatchedEngine) -> None:
    id_ = await engine.services.create(spec("once", FAILS, RestartPolicy={"Condition": "none"}))
    await in_state(engine, id_, TaskState.FAILED)
    await asyncio.sleep(0.5)
    assert len(await engine.tasks.list(services=[id_])) == 1


async def test_a_task_whose_image_is_nowhere_is_rejected(engine: WatchedEngine) -> None:
    id_ = await engine.services.create(spec("nowhere", NOWHERE, RestartPolicy={"Condition": "none"}))
    assert "No such image" in (await in_state(engine, id_, TaskState.REJECTED)).error


async def test_a_task_that_fits_nowhere_waits_and_says_why(engine: WatchedEngine) -> None:
    wanted = {
        "labelled": {"Placement": {"Constraints": ["node.labels.disk == ssd"]}},
        "large": {"Resources": {"Reservations": {"MemoryBytes": 2**50}}},
    }
    reasons = {"labelled": "scheduling constraints not satisfied", "large": "insufficient resources"}
    for name, template in wanted.items():
        id_ = await engine.services.create(spec(name, **template))

        async def waiting(service: str = id_) -> Task | None:
            tasks = await engine.tasks.list(services=[service])
            return next((task for task in tasks if task.error), None)

        task = await until(waiting, f"{name} to say why")
        assert task.state is TaskState.PENDING
        assert "no suitable node" in task.error
        assert reasons[name] in task.error


async def test_a_node_gets_a_label_and_what_waited_for_it_runs(engine: WatchedEngine) -> None:
    id_ = await engine.services.create(spec("labelled", Placement={"Constraints": ["node.labels.disk==ssd"]}))
    node = await engine.nodes.inspect("self")
    await engine.nodes.update(node, labels={"disk": "ssd"})
    with pytest.raises(ConflictError):
        await engine.nodes.update(node, labels={})
    assert await running(engine, id_)
    node = await engine.nodes.inspect(node.hostname)
    assert dict(node.labels) == {"disk": "ssd"}
    assert (node.role, node.availability, node.state, node.is_leader, node.ready) == (
        "manager", "active", "ready", True, True,
    )  # fmt: skip
    assert node.memory_bytes > 2**20
    assert node.nano_cpus >= 10**9
    await engine.nodes.update(node, labels={})
    with pytest.raises(EngineRefusedError):
        await engine.nodes.remove(node.id)


async def test_a_drained_node_loses_its_tasks_and_gets_them_back(engine: WatchedEngine) -> None:
    id_ = await engine.services.create(spec("web"))
    (before,) = await running(engine, id_)
    await engine.nodes.update(await engine.nodes.inspect("self"), availability="drain")
    try:
        await in_state(engine, id_, TaskState.SHUTDOWN)

        async def waiting() -> bool | None:
            return any("no suitable node" in task.error for task in await engine.tasks.list(services=[id_])) or None

        assert await until(waiting, "the replacement to wait")
    finally:
        await engine.nodes.update(await engine.nodes.inspect("self"), availability="active")
    (after,) = await running(engine, id_)
    assert after.id != before.id


async def test_tasks_are_listed_by_what_is_asked(engine: WatchedEngine) -> None:
    one = await engine.services.create(spec("one"))
    two = await engine.services.create({**spec("two"), "Labels": {**LABELS, "io.hunqi.app": "shop"}})
    (first,), (second,) = await running(engine, one), await running(engine, two)
    assert {task.id for task in await engine.tasks.list(services=[one, two])} == {first.id, second.id}
    assert [task.id for task in await engine.tasks.list(services=["two"])] == [second.id]
    assert [task.id for task in await engine.tasks.list(ids=[first.id])] == [first.id]
    assert [task.id for task in await engine.tasks.list({"io.hunqi.app": "shop"})] == [second.id]
    assert len(await engine.tasks.list(desired=["running"])) == 2
    assert await engine.tasks.list(desired=["shutdown"]) == []
    assert (await engine.tasks.inspect(first.id)).service_id == one
    with pytest.raises(NotFoundError):
        await engine.tasks.list(services=["nothing"])
    with pytest.raises(NotFoundError):
        await engine.tasks.inspect("nothing")


async def test_a_surplus_task_that_ignores_its_signal_serves_on_for_its_grace(engine: WatchedEngine) -> None:
    container = {"StopSignal": "SIGURG", "StopGracePeriod": 2_000_000_000}
    id_ = await engine.services.create(spec("web", container=container))
    (task,) = await running(engine, id_)
    await scaled(engine, await engine.services.inspect(id_), 0)

    async def leaving() -> Task | None:
        now = await engine.tasks.inspect(task.id)
        return now if now.desired_state is not TaskState.RUNNING else None

    left = await until(leaving, "the task to be unwanted")
    assert (left.state, left.desired_state) == (TaskState.RUNNING, TaskState.REMOVE)
    assert await gone(engine, id_)


async def test_a_changed_template_replaces_the_task(engine: WatchedEngine) -> None:
    id_ = await engine.services.create(spec("web"))
    (before,) = await running(engine, id_)
    service = await engine.services.inspect(id_)
    await engine.services.update(id_, service.version, spec("web", container={"Env": ["A=1"]}))

    async def replaced() -> Task | None:
        tasks = [task for task in await engine.tasks.list(services=[id_]) if task.serving]
        return next((task for task in tasks if task.id != before.id), None)

    assert (await until(replaced, "the new task")).version > before.version
    assert (await engine.tasks.inspect(before.id)).state is TaskState.SHUTDOWN


async def test_a_job_completes_and_is_not_started_again(engine: WatchedEngine) -> None:
    body = spec("job", DONE)
    body["Mode"] = {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}
    del body["EndpointSpec"]
    body["TaskTemplate"]["RestartPolicy"] = {"Condition": "none"}
    id_ = await engine.services.create(body)
    assert (await in_state(engine, id_, TaskState.COMPLETE)).exit_code == 0
    await asyncio.sleep(0.3)
    assert len(await engine.tasks.list(services=[id_])) == 1


async def test_networks_are_made_once_and_removed_when_nobody_is_on_them(engine: WatchedEngine) -> None:
    id_ = await engine.networks.create("shop_default", labels=LABELS)
    with pytest.raises(ConflictError):
        await engine.networks.create("shop_default", labels=LABELS)
    await allocated(engine, id_)
    (network,) = await engine.networks.list(LABELS)
    assert (network.id, network.name, network.driver, network.scope) == (id_, "shop_default", "overlay", "swarm")
    assert network.attachable
    fixed = await engine.networks.create("shop_fixed", labels=LABELS, subnet="10.77.0.0/20", internal=True)
    assert (await allocated(engine, fixed)).subnets == ("10.77.0.0/20",)
    service = await engine.services.create(spec("web", Networks=[{"Target": id_}]))
    await running(engine, service)
    with pytest.raises(InUseError):
        await engine.networks.remove(id_)
    await engine.services.remove(service)
    assert await gone(engine, service)

    async def removed() -> bool | None:
        with contextlib.suppress(InUseError):
            await engine.networks.remove("shop_default")
            return True
        return None

    assert await until(removed, "the network free")
    with pytest.raises(NotFoundError):
        await engine.networks.inspect(id_)
    with pytest.raises(NotFoundError):
        await engine.networks.remove(id_)


async def test_secrets_and_configs_are_kept_until_nobody_refers_to_them(engine: WatchedEngine) -> None:
    secret = await engine.secrets.create("shop_key-1", b"\0topsecret", labels=LABELS)
    config = await engine.configs.create("shop_conf-1", b"a = 1\n", labels=LABELS)
    for payloads, id_, name, data in (
        (engine.secrets, secret, "shop_key-1", None),
        (engine.configs, config, "shop_conf-1", b"a = 1\n"),
    ):
        with pytest.raises(ConflictError):
            await payloads.create(name, b"x", labels=LABELS)
        (held,) = await payloads.list(LABELS)
        assert (held.id, held.name, held.data, dict(held.labels)) == (id_, name, data, LABELS)
        assert (await payloads.inspect(name)).id == id_
        with pytest.raises(NotFoundError):
            await payloads.inspect("nothing")
        expanded = await payloads.create(f"{name}-expanded", b"{{.Node.Hostname}}", labels=LABELS, template="golang")
        assert ((await payloads.inspect(expanded)).template, held.template) == ("golang", "")
        await payloads.remove(expanded)
    file = {"Name": "key", "UID": "0", "GID": "0", "Mode": 292}
    references = [{"SecretID": secret, "SecretName": "shop_key-1", "File": file}]
    service = await engine.services.create(spec("web", container={"Secrets": references}))
    with pytest.raises(InUseError):
        await engine.secrets.remove(secret)
    await engine.services.remove(service)
    await engine.secrets.remove(secret)
    await engine.configs.remove("shop_conf-1")
    with pytest.raises(NotFoundError):
        await engine.secrets.remove(secret)


async def test_what_happens_to_services_is_told(engine: WatchedEngine) -> None:
    async with engine.system.events(kinds=["service", "network", "node"]) as events:
        id_ = await engine.services.create(spec("web", replicas=0))
        await scaled(engine, await engine.services.inspect(id_), 0)
        network = await engine.networks.create("shop_default")
        await engine.services.remove(id_)
        seen: list[tuple[str, str, str, str]] = []
        async with asyncio.timeout(WAIT_S):
            async for event in events:
                assert event.scope == "swarm"
                seen.append((event.kind, event.action, event.id, event.attributes["name"]))
                if event.action == "remove":
                    break
    assert ("service", "create", id_, "web") in seen
    assert ("service", "update", id_, "web") in seen
    assert ("network", "create", network, "shop_default") in seen
    assert seen[-1] == ("service", "remove", id_, "web")


async def test_logs_say_whose_line_it_is(engine: WatchedEngine) -> None:
    id_ = await engine.services.create(spec("web"))
    (task,) = await running(engine, id_)

    async def written() -> bool | None:
        async with engine.tasks.logs(task.id) as lines:
            return [line async for line in lines] != [] or None

    assert await until(written, "a line")
    async with engine.services.logs(id_, follow=True) as lines, asyncio.timeout(WAIT_S):
        line = await anext(aiter(lines))
    assert line.text.startswith("started")
    assert (line.stream, line.task, line.node, line.service) == ("stdout", task.id, task.node_id, id_)
    assert line.time.startswith("20")
    with pytest.raises(NotFoundError):
        async with engine.services.logs("nothing"):
            pass
