"""Compose files made to break out of quoting, containment or tenancy, and files made to break the compiler."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hunqi.apps.compose import fields
from hunqi.apps.compose.check import KEYS
from hunqi.apps.compose.compile import compile_project
from hunqi.apps.compose.project import InvalidError, NeedsError, Project, describe
from hunqi.apps.model import AppSpec, Compiled
from hunqi.apps.swarm import Target, Targets, payload_name, service_name, swarm_service
from hunqi.kit.codec import dumps, loads
from support_engine_fields import SERVICE_SPEC, strangers

SWARM_NAME = re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*")
"""Of a service, by Swarm; at most 63 characters."""
PAYLOAD_NAME = re.compile(r"[a-zA-Z0-9]+(?:[a-zA-Z0-9-_.]*[a-zA-Z0-9])?")
"""Of a secret or config; at most 64."""
TIME_S = 10.0


def compiled(value: object, **more: Any) -> Compiled:
    text = value if isinstance(value, str) else yaml.safe_dump(value, allow_unicode=True)
    return compile_project(
        Project(**{"name": "shop", "files": {"compose.yaml": text}, "entry": ("compose.yaml",), **more})
    )


def refused(value: object, **more: Any) -> str:
    with pytest.raises(InvalidError) as caught:
        compiled(value, **more)
    return "\n".join(describe(note) for note in caught.value.problems)


def bodies(spec: AppSpec) -> list[dict[str, Any]]:
    targets = Targets(
        networks=dict.fromkeys(spec.networks, "n"),
        secrets={key: Target(id="i", name=key) for key in spec.secrets},
        configs={key: Target(id="i", name=key) for key in spec.configs},
    )
    return [
        swarm_service(spec, each, revision=9_999_999, cluster="c", targets=targets) for each in spec.services.values()
    ]


BAD_NAMES = [
    "a b",
    "../b",
    "a/b",
    "-a",
    "a-",
    "_a",
    "a\nb",
    "a.b",
    "ä",
    "a" * 60,
    "",
    "a;b",
    "$(x)",
    "a\x00",
    "{{.x}}",
    "a:b",
]


@pytest.mark.parametrize("name", [name for name in BAD_NAMES if "\x00" not in name])
def test_names_of_services_are_those_of_swarm(name: str) -> None:
    assert "services" in refused({"services": {name: {"image": "x"}}})


@pytest.mark.parametrize("name", [*BAD_NAMES, "A", "a_b", "shop_web"])
def test_names_of_apps_cannot_reach_another_apps_objects(name: str) -> None:
    assert "an app's name" in refused({"services": {"web": {"image": "x"}}}, name=name)


@pytest.mark.parametrize("kind", ["networks", "volumes", "secrets", "configs"])
@pytest.mark.parametrize("name", ["../x", "a b", "-a", "a\nb", "a" * 60, "a/b", "a{{b"])
def test_names_of_resources_are_checked(kind: str, name: str) -> None:
    use: dict[str, Any] = {"volumes": [{"type": "volume", "source": name, "target": "/x"}]}
    use = use if kind == "volumes" else {kind: [name]}
    body = {"secrets": {"environment": "V"}, "configs": {"content": "x"}}.get(kind, {})

    assert refused({"services": {"web": {"image": "x", **use}}, kind: {name: body}}, variables={"V": "v"})


@pytest.mark.parametrize("kind", ["networks", "volumes"])
@pytest.mark.parametrize("name", ["../x", "a b", "a/b", ""])
def test_names_of_what_exists_are_checked(kind: str, name: str) -> None:
    use = ["n"] if kind == "networks" else ["n:/x"]
    body = {"services": {"web": {"image": "x", kind: use}}, kind: {"n": {"external": True, "name": name}}}
    if name:
        assert "no name in the engine" in refused(body)
    else:
        assert compiled(body).privileges


def test_a_volume_of_another_app_is_only_reached_as_a_privilege() -> None:
    named = compiled({"services": {"a": {"image": "x", "volumes": ["v:/v"]}}, "volumes": {"v": {"name": "other_data"}}})
    external = compiled({"services": {"a": {"image": "x", "volumes": ["v:/v"]}}, "volumes": {"v": {"external": True}}})

    assert bodies(named.spec)[0]["TaskTemplate"]["ContainerSpec"]["Mounts"][0]["Source"] == "shop_v"
    assert named.privileges == ()
    assert len(external.privileges) == 1


@pytest.mark.parametrize(
    "service",
    [
        {"volumes": ["/:/host"]},
        {"volumes": ["/var/run/docker.sock:/var/run/docker.sock"]},
        {"volumes": [{"type": "bind", "source": "/etc", "target": "/e"}]},
        {"cap_add": ["SYS_ADMIN"]},
        {"network_mode": "host"},
        {"networks": ["ext"]},
        {"networks": ["shared"]},
        {"sysctls": {"kernel.shmmax": 1}},
        {"security_opt": ["seccomp=unconfined"]},
        {"secrets": ["ext"]},
        {"configs": ["ext"]},
        {"volumes": ["trick:/x"]},
    ],
    ids=lambda service: next(iter(service)),
)
def test_what_reaches_beyond_the_container_is_a_privilege(service: dict[str, Any]) -> None:
    found = compiled(
        {
            "services": {"a": {"image": "x", **service}},
            "networks": {"ext": {"external": True}, "shared": {"name": "theirs"}},
            "secrets": {"ext": {"external": True}},
            "configs": {"ext": {"external": True}},
            "volumes": {"trick": {"driver_opts": {"type": "none", "o": "bind", "device": "/"}}},
        }
    )

    assert len(found.privileges) == 1


def test_an_ordinary_app_has_no_privileges() -> None:
    service = {"image": "x", "volumes": ["v:/v"], "cap_drop": ["ALL"], "tmpfs": "/t", "ports": ["20000:1"]}

    assert compiled({"services": {"a": service}, "volumes": {"v": None}}).privileges == ()


VALUES = [
    "a\nB=c",
    "'; rm -rf /; '",
    '"$(id)"',
    "`id`",
    "a\tb",
    "\\",
    "%s%n",
    "{{.Task.ID}}{{env}}",
    "\x1b[31m",
    "=",
    " ",
    "é\u202e",
]


@pytest.mark.parametrize("value", VALUES)
def test_values_stay_one_value(value: str) -> None:
    written = value.replace("$", "$$")
    service = {"environment": {"A": written, "B": "2"}, "command": ["echo", written], "labels": {"l": written}}
    spec = compiled({"services": {"a": {"image": "x", **service}}}).spec
    container = bodies(spec)[0]["TaskTemplate"]["ContainerSpec"]

    assert len(container["Env"]) == 2
    assert container["Env"][0].replace('{{"{{"}}', "{{") == f"A={value}"
    assert container["Args"] == ["echo", value]
    assert container["Labels"]["l"] == value


@pytest.mark.parametrize("label", ["io.hunqi.cluster", "io.hunqi.app", "io.hunqi.stop-signal"])
@pytest.mark.parametrize("where", ["labels", "deploy", "label_file"])
def test_labels_of_ours_cannot_be_forged(label: str, where: str) -> None:
    service: dict[str, Any] = {
        "labels": {"labels": {label: "x"}},
        "deploy": {"deploy": {"labels": [f"{label}=x"]}},
        "label_file": {"label_file": "l"},
    }[where]
    text = yaml.safe_dump({"services": {"a": {"image": "x", **service}}})

    assert "Hunqi's own" in refused(text, files={"compose.yaml": text, "l": f"{label}=x"})


@pytest.mark.parametrize(
    "route",
    [
        {"host": "a.b\r\nX: y"},
        {"host": "a b"},
        {"host": "a.b/c"},
        {"host": "*"},
        {"host": "a.*.b"},
        {"path": "/a\r\nb"},
        {"path": "/a?b"},
        {"path": "/\x00"},
        {"replace_prefix": "x"},
        {"redirect": "//evil"},
        {"redirect": "https://a\r\nb"},
        {"request_headers": {"A\r\nB": "c"}},
        {"request_headers": {"A": "c\r\nD: e"}},
        {"response_headers": {"": "c"}},
        {"headers": {"A b": "c"}},
        {"headers": {"A": {"regex": "("}}},
        {"basic_auth": ["admin:plain"]},
        {"basic_auth": ["a\nb:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc="]},
        {"allow": ["10.0.0.0/99"]},
        {"cors": {"origins": ["https://a b"]}},
        {"cors": {"origins": "*", "methods": ["GET\r\n"]}},
        {"host_rewrite": "a\nb"},
        {"timeout": "-1s"},
        {"tcp_port": 22, "protocol": "tcp", "host": []},
    ],
    ids=str,
)
def test_routes_cannot_carry_more_than_a_route(route: dict[str, Any]) -> None:
    whole = {"host": "shop.example.com", "port": 80, **route}

    assert "x-hunqi.routes[0]" in refused({"services": {"a": {"image": "x", "x-hunqi": {"routes": [whole]}}}})


def test_secrets_are_not_in_what_is_said() -> None:
    text = {
        "services": {"a": {"image": "x", "secrets": ["s"], "container_name": "c"}},
        "secrets": {"s": {"environment": "S"}},
    }
    project = Project(
        name="shop",
        files={"compose.yaml": yaml.safe_dump(text)},
        entry=("compose.yaml",),
        variables={"S": "geheim-123"},
    )
    found = compile_project(project)

    assert "geheim-123" not in repr(project) + repr(found) + dumps(found.spec) + repr(found.notes)
    assert list(found.payloads.values()) == [b"geheim-123"]


def bomb_of_variables() -> dict[str, Any]:
    return {"services": {"a": {"image": "x", "environment": {f"K{n}": "$V" * 30 for n in range(400)}}}}


def timed(action: Any) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidError):
        action()
    assert time.monotonic() - began < TIME_S


def test_bombs_are_refused_in_time() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 60)]
    timed(lambda: compiled("\n".join(lines)))
    timed(lambda: compiled("[" * 500_000))
    timed(lambda: compiled("a: " * 100_000))
    timed(lambda: compiled("x" * (1024 * 1024 + 1)))
    timed(lambda: compiled(bomb_of_variables(), variables={"V": "v" * 60_000}))
    timed(lambda: compiled({"services": {"a": {"image": "${A:-" * 5000}}}, variables={"A": ""}))
    timed(lambda: compiled({"services": {f"s{n}": {"image": "x"} for n in range(3000)}}))
    timed(lambda: compiled({"services": {"a": {"image": "x", "x" * 500: 1, "ports": ["1-65535"] * 1000}}}))
    timed(lambda: compiled({"services": {"a": {"image": "x", "stop_grace_period": "1" * 100_000 + "s"}}}))
    timed(lambda: compiled({"services": {"a": {"image": "a/" * 100_000}}}))
    timed(
        lambda: compiled(
            {"services": {"a": {"image": "x", "x-hunqi": {"routes": [{"host": "a." * 50_000, "port": 1}]}}}}
        )
    )


def test_extends_cannot_multiply_the_work() -> None:
    services: dict[str, Any] = {"s0": {"image": "x", "environment": {f"K{n}": "v" for n in range(100)}}}
    services |= {f"s{n}": {"extends": f"s{n - 1}"} for n in range(1, 150)}
    timed(lambda: compiled({"services": services}))


def test_a_file_that_is_included_a_thousand_times_is_refused_in_time() -> None:
    text = yaml.safe_dump({"include": ["b.yaml"] * 2000})
    big = yaml.safe_dump({"services": {"a": {"image": "x"}}, "x-pad": list(range(2000))})
    timed(lambda: compiled(text, files={"compose.yaml": text, "b.yaml": big}))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 70_000),
    st.floats(allow_nan=False, allow_infinity=False, width=16),
    st.sampled_from(
        [
            "",
            "x",
            "a:b",
            "a=b",
            "/x",
            "./x",
            "../x",
            "1s",
            "10m",
            "20000:80",
            "80/udp",
            "host",
            "none",
            "v:/v",
            "on-failure:3",
            "no",
            "0444",
            "${V}",
            "${V:-x}",
            "$$",
            "{{.Task.Slot}}",
            "CMD",
            "start-first",
            "replicated-job",
            "https",
            "all",
            "é",
        ]
    ),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abv_-.", min_size=1, max_size=3) | scalars.map(str), inner, max_size=3)
    ),
    max_leaves=6,
)
PATHS = [key.path.split(".") for key in KEYS]
X_FIELDS = [["services", "*", "x-hunqi", "routes", field.name] for field in fields.ROUTE]
X_FIELDS += [["services", "*", "x-hunqi", field.name] for field in fields.SERVICE]
X_FIELDS += [["x-hunqi", field.name] for field in fields.TOP]


@st.composite
def projects(draw: st.DrawFn) -> dict[str, Any]:
    root: dict[str, Any] = {"services": {"a": {"image": "x"}, "v": {"image": "y"}}, "volumes": {"v": None}}
    for path in draw(st.lists(st.sampled_from(PATHS + X_FIELDS), min_size=1, max_size=6)):
        holder = root
        for part in path[:-1]:
            name = draw(st.sampled_from(["a", "v"])) if part == "*" else part
            inner = holder.get(name)
            if not isinstance(inner, dict):
                inner = holder[name] = {}
            holder = inner
        last = draw(st.sampled_from(["a", "v"])) if path[-1] == "*" else path[-1]
        value = draw(values)
        holder[last] = [value] if draw(st.booleans()) else value
    for service in root["services"].values() if isinstance(root["services"], dict) else ():
        if isinstance(service, dict) and draw(st.booleans()):
            for key in ("ports", "volumes", "secrets", "configs", "gpus"):
                if isinstance(service.get(key), dict):
                    service[key] = [service[key]]
    return root


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(projects())
def test_any_project_is_compiled_or_refused_and_never_more(root: dict[str, Any]) -> None:
    text = yaml.safe_dump(root, allow_unicode=True)
    project = Project(name="shop", files={"compose.yaml": text}, entry=("compose.yaml",), variables={"V": "v"})
    found: Compiled | None = None
    asked: frozenset[str] = frozenset()
    try:
        found = compile_project(project)
    except NeedsError as needs:
        asked = needs.files
    except InvalidError:
        pass
    assert not [path for path in asked if path.startswith(("/", "..", "~"))]
    if found is None:
        return
    assert loads(AppSpec, dumps(found.spec)) == found.spec
    for body in bodies(found.spec):
        assert strangers(body, SERVICE_SPEC) == []
        assert SWARM_NAME.fullmatch(body["Name"])
        assert len(body["Name"]) <= 63
    for payload in (*found.spec.secrets.values(), *found.spec.configs.values()):
        name = payload_name("shop", payload)
        assert payload.external or (PAYLOAD_NAME.fullmatch(name) and len(name) <= 64)


def test_the_longest_names_fit_into_swarm() -> None:
    app = "a" * 32
    text = {
        "services": {"s" * 21: {"image": "x", "secrets": ["k" * 18]}},
        "secrets": {"k" * 18: {"environment": "V"}},
    }
    spec = compiled(text, name=app, variables={"V": "v"}).spec

    assert len(service_name(app, "s" * 21, 9_999_999)) == 63
    assert len(payload_name(app, spec.secrets["k" * 18])) == 64
    assert refused({"services": {"s" * 22: {"image": "x"}}}, name=app)
