"""Servings and snapshots, made short."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hunqi.apps.model import AppSpec, Attachment, RouteSpec, ServiceSpec
from hunqi.apps.serving import Backend, Serving, Share
from hunqi.engine.model import Network, Node, Service, Snapshot, Task, TaskState


def service(name: str = "web", *, port: int = 8080, **changes: object) -> ServiceSpec:
    made = ServiceSpec(
        name=name,
        image="i",
        networks=(Attachment(network="default"),),
        routes=(RouteSpec(port=port, hosts=(f"{name}.test",)),),
        internal="gateway",
        internal_ports=(port,),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def serving(
    app: str = "shop", *, revision: int = 1, services: Iterable[ServiceSpec] = (), **changes: object
) -> Serving:
    specs = tuple(services) or (service(),)
    names = {each.name: f"{app}_{each.name}-r{revision}" for each in specs}
    made = Serving(
        app=app,
        spec=AppSpec(name=app, services={each.name: each for each in specs}),
        networks={"default": f"{app}_default"},
        backends=tuple(
            Backend(name=names[each.name], service=each.name, revision=revision, spec=each) for each in specs
        ),
        shares={name: (Share(backend=backend),) for name, backend in names.items()},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def task(number: int, app: str = "shop", backend: str = "shop_web-r1", **changes: object) -> Task:
    made = Task(
        id=f"{backend}.{number}",
        service_id=f"id-{backend}",
        node_id="n1",
        slot=number,
        state=TaskState.RUNNING,
        desired_state=TaskState.RUNNING,
        message="",
        error="",
        exit_code=None,
        container_id=None,
        pid=None,
        addresses={f"net-{app}_default": f"10.{sum(map(ord, app)) % 250}.{hash_of(backend)}.{number}"},
        image="i",
        created_at="",
        updated_at="",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def hash_of(text: str) -> int:
    return sum(position * ord(each) for position, each in enumerate(text, 1)) % 250


def snapshot(tasks: dict[str, list[Task]], apps: Iterable[str] = ("shop",), nodes: Iterable[Node] = ()) -> Snapshot:
    """``tasks``: Swarm service → its tasks."""
    return Snapshot(
        services={
            name: Service(id=f"id-{name}", version=1, name=name, labels={}, spec={}, created_at="", updated_at="")
            for name in tasks
        },
        tasks={f"id-{name}": tuple(each) for name, each in tasks.items()},
        nodes={each.id: each for each in nodes},
        networks={
            f"{app}_default": Network(
                id=f"net-{app}_default",
                name=f"{app}_default",
                driver="overlay",
                scope="swarm",
                attachable=True,
                labels={},
                subnets=(f"10.{sum(map(ord, app)) % 250}.0.0/16",),
            )
            for app in apps
        },
        secrets={},
        configs={},
        taken_at=0.0,
    )
