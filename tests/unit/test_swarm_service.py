"""A service as the Engine API has it: names, labels, drains, what counts as a change, what Swarm must not expand."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.apps.metrics_spec import MetricsSpec
from hunqi.apps.model import (
    AppSpec,
    Attachment,
    Dependency,
    Grant,
    HealthSpec,
    Mode,
    Mount,
    NetworkSpec,
    Order,
    PayloadSpec,
    Protocol,
    RouteSpec,
    ServiceSpec,
    VolumeSpec,
)
from hunqi.apps.scale_spec import ScaleSpec
from hunqi.apps.swarm import (
    Target,
    Targets,
    literal,
    network_body,
    payload_body,
    payload_name,
    service_hash,
    service_name,
    swarm_service,
    volume_name,
)

ROUTE = RouteSpec(port=8080, hosts=("shop.example.com",))
WEB = ServiceSpec(
    name="web",
    image="shop/web:1",
    replicas=3,
    networks=(Attachment(network="default", aliases=("www",)),),
    routes=(ROUTE,),
    internal="gateway",
    internal_ports=(8080, 9090),
    stop_signal="SIGQUIT",
    stop_grace_s=20.0,
    drain_s=30.0,
)
DB = ServiceSpec(
    name="db",
    image="postgres:15",
    networks=(Attachment(network="default", aliases=("database",), driver_options={"a": "b"}),),
    mounts=(
        Mount(kind="volume", source="data", target="/data"),
        Mount(kind="volume", source="shared", target="/shared", read_only=True),
        Mount(kind="volume", target="/scratch"),
        Mount(kind="tmpfs", target="/tmp", options={"TmpfsOptions": {"SizeBytes": 1}}),
        Mount(kind="bind", source="/srv", target="/srv"),
    ),
    secrets=(Grant(source="key", target="key", mode=0o400),),
    configs=(Grant(source="conf", target="/etc/x.conf"),),
    template={
        "ContainerSpec": {"Env": ["A=1"], "Labels": {"team": "x"}},
        "Placement": {"Constraints": ["node.role==worker"]},
    },
)
APP = AppSpec(
    name="shop",
    services={"web": WEB, "db": DB},
    networks={"default": NetworkSpec(name="default"), "host": NetworkSpec(name="host", external="host")},
    volumes={
        "data": VolumeSpec(name="data", labels={"backup": "yes"}),
        "shared": VolumeSpec(name="shared", external="nfs"),
    },
    secrets={"key": PayloadSpec(name="key", digest="sha256:" + "a" * 64)},
    configs={"conf": PayloadSpec(name="conf", digest="sha256:" + "b" * 64)},
)
TARGETS = Targets(
    networks={"default": "net1", "host": "net2"},
    secrets={"key": Target(id="s1", name="shop_key-a")},
    configs={"conf": Target(id="c1", name="shop_conf-b")},
)


def made(service: ServiceSpec, **more: Any) -> dict[str, Any]:
    return swarm_service(APP, service, revision=7, cluster="cluster-1", targets=TARGETS, **more)


def container(service: ServiceSpec, **more: Any) -> dict[str, Any]:
    return made(service, **more)["TaskTemplate"]["ContainerSpec"]


def test_a_service_is_named_and_labelled_as_ours() -> None:
    body = made(WEB, image="127.0.0.1:5000/docker.io/shop/web@sha256:1")

    assert body["Name"] == "shop_web-r7"
    assert body["Labels"] | {"io.hunqi.hash": "*"} == {
        "io.hunqi.cluster": "cluster-1",
        "io.hunqi.app": "shop",
        "io.hunqi.service": "web",
        "io.hunqi.revision": "7",
        "io.hunqi.kind": "service",
        "io.hunqi.hash": "*",
    }
    assert body["Labels"]["io.hunqi.hash"] == service_hash(APP, WEB, "127.0.0.1:5000/docker.io/shop/web@sha256:1")
    assert body["TaskTemplate"]["ContainerSpec"]["Image"] == "127.0.0.1:5000/docker.io/shop/web@sha256:1"
    assert body["Mode"] == {"Replicated": {"Replicas": 3}}
    assert body["EndpointSpec"] == {"Mode": "dnsrr"}


def test_a_drained_service_gets_a_signal_that_programs_ignore_and_the_time_of_both() -> None:
    spec = container(WEB)

    assert spec["StopSignal"] == "SIGURG"
    assert spec["StopGracePeriod"] == 50 * 10**9
    assert spec["Labels"] == {
        "io.hunqi.cluster": "cluster-1",
        "io.hunqi.app": "shop",
        "io.hunqi.service": "web",
        "io.hunqi.revision": "7",
        "io.hunqi.stop-signal": "SIGQUIT",
        "io.hunqi.stop-grace": "20",
        "io.hunqi.drain": "30",
        "io.hunqi.ports": "8080,9090",
    }


def test_other_services_are_stopped_by_their_own_signal() -> None:
    volume = (Mount(kind="volume", source="data", target="/data"),)
    for service in (replace(WEB, routes=(), internal="tasks"), replace(WEB, mounts=volume)):
        spec = container(service)

        assert spec["StopSignal"] == "SIGQUIT"
        assert spec["StopGracePeriod"] == 20 * 10**9
        assert "io.hunqi.drain" not in spec["Labels"]


def test_without_a_signal_of_its_own_that_of_the_image_holds() -> None:
    assert "StopSignal" not in container(DB)
    assert "io.hunqi.stop-signal" not in container(DB)["Labels"]
    assert "io.hunqi.stop-signal" not in container(replace(WEB, stop_signal=""))["Labels"]


def test_http_services_leave_their_name_to_the_gateway() -> None:
    assert made(WEB)["TaskTemplate"]["Networks"] == [{"Target": "net1"}]
    assert made(DB)["TaskTemplate"]["Networks"] == [
        {"Target": "net1", "Aliases": ["db", "database"], "DriverOpts": {"a": "b"}}
    ]
    hosted = replace(DB, networks=(Attachment(network="host"),))
    assert made(hosted)["TaskTemplate"]["Networks"] == [{"Target": "net2"}]


def test_volumes_are_the_apps_unless_they_exist() -> None:
    mounts = container(DB)["Mounts"]

    assert mounts[0]["Source"] == "shop_data"
    assert mounts[0]["VolumeOptions"]["Labels"]["backup"] == "yes"
    assert mounts[0]["VolumeOptions"]["Labels"]["io.hunqi.app"] == "shop"
    assert mounts[1] == {"Type": "volume", "Source": "nfs", "Target": "/shared", "ReadOnly": True}
    assert "Source" not in mounts[2]
    assert mounts[3]["TmpfsOptions"] == {"SizeBytes": 1}
    assert mounts[4] == {"Type": "bind", "Source": "/srv", "Target": "/srv", "ReadOnly": False}


def test_grants_refer_by_id_and_name() -> None:
    spec = container(DB)

    assert spec["Secrets"] == [
        {"File": {"Name": "key", "UID": "0", "GID": "0", "Mode": 0o400}, "SecretID": "s1", "SecretName": "shop_key-a"}
    ]
    assert spec["Configs"][0]["ConfigID"] == "c1"


def test_a_node_is_one_more_constraint() -> None:
    placement = made(DB, node="node9")["TaskTemplate"]["Placement"]

    assert placement == {"Constraints": ["node.role==worker", "node.id==node9"]}
    assert DB.template["Placement"] == {"Constraints": ["node.role==worker"]}


@pytest.mark.parametrize(
    ("service", "mode"),
    [
        (replace(WEB, mode=Mode.GLOBAL), {"Global": {}}),
        (replace(WEB, mode=Mode.GLOBAL_JOB), {"GlobalJob": {}}),
        (
            replace(WEB, mode=Mode.REPLICATED_JOB, completions=5),
            {"ReplicatedJob": {"MaxConcurrent": 3, "TotalCompletions": 5}},
        ),
        (replace(WEB, replicas=0), {"Replicated": {"Replicas": 0}}),
    ],
)
def test_modes(service: ServiceSpec, mode: object) -> None:
    assert made(service)["Mode"] == mode


def test_replicas_can_be_given_apart() -> None:
    assert made(WEB, replicas=0)["Mode"] == {"Replicated": {"Replicas": 0}}


IN_PLACE: dict[str, Any] = {
    "replicas": 9,
    "depends_on": (Dependency(service="db"),),
    "health": HealthSpec(path="/up"),
    "order": Order.STOP_FIRST,
    "internal_ports": (1,),
    "internal_protocol": Protocol.HTTP2,
    "parallelism": 2,
    "ready_timeout_s": 9.0,
    "schedule": "0 0 * * *",
    "restart_on_dependency": True,
    "routes": (replace(ROUTE, path="/x"),),
    "scale": ScaleSpec(max=3),
    "metrics": MetricsSpec(port=9100),
}
REPLACES: dict[str, Any] = {
    "name": "other",
    "image": "x",
    "mode": Mode.GLOBAL,
    "completions": 2,
    "template": {"ContainerSpec": {"Env": ["A=1"]}},
    "service_labels": {"a": "b"},
    "networks": (),
    "mounts": (Mount(kind="tmpfs", target="/x"),),
    "secrets": (Grant(source="key", target="k"),),
    "configs": (Grant(source="conf", target="/k"),),
    "internal": "tasks",
    "stop_signal": "SIGTERM",
    "stop_grace_s": 1.0,
    "drain_s": 1.0,
}


def test_each_field_of_a_service_is_judged() -> None:
    assert {field.name for field in dataclasses.fields(ServiceSpec)} == IN_PLACE.keys() | REPLACES.keys()


@pytest.mark.parametrize("field", sorted(IN_PLACE))
def test_what_is_changed_in_place_replaces_no_task(field: str) -> None:
    changed = replace(WEB, **{field: IN_PLACE[field]})

    assert service_hash(APP, changed) == service_hash(APP, WEB)


@pytest.mark.parametrize("field", sorted(REPLACES))
def test_what_reaches_a_task_replaces_it(field: str) -> None:
    changed = replace(WEB, **{field: REPLACES[field]})

    assert service_hash(APP, changed) != service_hash(APP, WEB)


def test_losing_the_last_route_changes_how_it_is_stopped() -> None:
    assert service_hash(APP, replace(WEB, routes=(), internal="tasks")) != service_hash(
        APP, replace(WEB, internal="tasks")
    )


def test_the_content_of_a_secret_replaces_tasks() -> None:
    rotated = replace(APP, secrets={"key": PayloadSpec(name="key", digest="sha256:" + "c" * 64)})

    assert service_hash(rotated, DB) != service_hash(APP, DB)
    assert service_hash(rotated, WEB) == service_hash(APP, WEB)


def test_names_carry_the_content() -> None:
    assert payload_name("shop", APP.secrets["key"]) == "shop_key-aaaaaaaaaaaa"
    assert payload_name("shop", PayloadSpec(name="k", external="there")) == "there"
    assert volume_name("shop", APP.volumes["shared"]) == "nfs"


@given(
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True),
    st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,6}[a-z0-9])?", fullmatch=True),
    st.integers(1, 99),
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True),
    st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,6}[a-z0-9])?", fullmatch=True),
    st.integers(1, 99),
)
def test_two_services_never_have_one_name(a: str, x: str, m: int, b: str, y: str, n: int) -> None:
    same = service_name(a, x, m) == service_name(b, y, n)

    assert same == ((a, x, m) == (b, y, n))


def test_networks_are_overlays_that_gateways_can_join() -> None:
    network = NetworkSpec(
        name="back", internal=True, encrypted=True, subnets=("10.1.0.0/24",), labels={"io.hunqi.app": "x"}
    )
    body = network_body("shop", network, cluster="c")

    assert body["Name"] == "shop_back"
    assert (body["Driver"], body["Attachable"], body["Internal"]) == ("overlay", True, True)
    assert body["Options"] == {"encrypted": ""}
    assert body["IPAM"]["Config"] == [{"Subnet": "10.1.0.0/24"}]
    assert body["Labels"]["io.hunqi.app"] == "shop"


def test_payloads_have_their_driver_of_templates() -> None:
    expanded = PayloadSpec(name="c", digest="sha256:" + "b" * 64, template="golang")
    body = payload_body("shop", expanded, "aGk=", cluster="c", kind="config")

    assert body["Name"] == payload_name("shop", expanded)
    assert body["Name"] != payload_name("shop", replace(expanded, template=None))
    assert body["Templating"] == {"Name": "golang"}


@pytest.mark.parametrize(
    ("text", "made_of_it"),
    [
        ("plain", "plain"),
        ("{{.Task.Slot}}-{{ .Node.Hostname }}", "{{.Task.Slot}}-{{ .Node.Hostname }}"),
        ('{{index .Service.Labels "a.b"}}', '{{index .Service.Labels "a.b"}}'),
        ("{{.Name}}", '{{"{{"}}.Name}}'),
        ("{{env `X`}}", '{{"{{"}}env `X`}}'),
        ("{{", '{{"{{"}}'),
        ("}}", "}}"),
        ("{ {{x}} {{.Service.Name}}", '{ {{"{{"}}x}} {{.Service.Name}}'),
    ],
)
def test_only_placeholders_of_swarm_are_templates(text: str, made_of_it: str) -> None:
    assert literal(text) == made_of_it


@given(st.text(st.sampled_from('{}. "TaskSlot`|'), max_size=30))
def test_a_literal_expands_to_itself(text: str) -> None:
    escaped = literal(text)
    # What Go's templates make of it: the only actions left are quoted braces and known placeholders.
    rest = escaped.replace('{{"{{"}}', "\x00")
    rest = re.sub(r"\{\{\s*\.Task\.Slot\s*\}\}", "", rest)

    assert "{{" not in rest
    assert escaped.replace('{{"{{"}}', "{{") == text
