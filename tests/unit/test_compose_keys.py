"""The table of keys: complete, walked, and the pages that are made of it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema_rs
import pytest

from hunqi.apps.compose import fields
from hunqi.apps.compose.check import KEYS, check_keys
from hunqi.apps.compose.fields import Field
from hunqi.apps.compose.keys import Honour, Key
from hunqi.apps.compose.project import InvalidError
from hunqi.apps.compose.report import Report
from hunqi.apps.compose.schema import compose_schema, x_hunqi_schema
from hunqi.apps.compose.tree import Node, plain, read

ROOT = Path(__file__).resolve().parents[2]
_NAMES = """
annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs container_name cpu_count
cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec depends_on deploy
develop device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file environment expose extends
external_links extra_hosts gpus group_add healthcheck hostname image init ipc isolation label_file labels links logging
mac_address mem_limit mem_reservation mem_swappiness memswap_limit models network_mode networks oom_kill_disable
oom_score_adj pid pids_limit platform ports post_start pre_stop privileged profiles provider pull_policy
pull_refresh_after read_only restart runtime scale secrets security_opt shm_size stdin_open stop_grace_period
stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts volumes volumes_from working_dir
"""
SERVICE_KEYS = _NAMES.split()
"""Of the specification's schema, June 2026."""


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compose_pages", ROOT / "tools/compose_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_key_of_a_service_is_in_the_table_once() -> None:
    names = [key.name for key in KEYS if key.path.startswith("services.*.") and key.path.count(".") == 2]

    assert sorted(names) == sorted([*SERVICE_KEYS, "x-hunqi"])
    assert len({key.path for key in KEYS}) == len(KEYS)


def test_every_key_says_what_becomes_of_it() -> None:
    assert [key.path for key in KEYS if len(key.text) < 3] == []


def nested(path: str, value: object) -> Node:
    names = path.split(".")
    text = "".join(f"{'  ' * depth}{'a' if name == '*' else name}:\n" for depth, name in enumerate(names[:-1]))
    line = f"{'  ' * (len(names) - 1)}{'a' if names[-1] == '*' else names[-1]}: {value}\n"
    return read(text + line, "compose.yaml")[0]


@pytest.mark.parametrize("key", [key for key in KEYS if key.honour is Honour.IGNORED], ids=lambda key: key.path)
def test_a_key_that_is_not_honoured_is_named_with_its_line(key: Key) -> None:
    report = Report()

    check_keys(nested(key.path, "x"), report)

    note = report.notes[0]
    assert (note.path, note.line) == (key.path.replace("*", "a"), key.path.count(".") + 1)
    assert (note.severity, note.instead) == ("ignored", key.text)
    assert len(report.notes) == 1


@pytest.mark.parametrize("key", [key for key in KEYS if key.honour is Honour.IGNORED], ids=lambda key: key.path)
def test_a_key_without_a_value_is_not_named(key: Key) -> None:
    report = Report()

    check_keys(nested(key.path, ""), report)
    check_keys(nested(key.path, "false"), report)

    assert report.notes == ()


@pytest.mark.parametrize("key", [key for key in KEYS if key.honour is Honour.REFUSED], ids=lambda key: key.path)
def test_a_key_that_is_refused_is_an_error(key: Key) -> None:
    report = Report()

    check_keys(nested(key.path, "x"), report)

    with pytest.raises(InvalidError, match=key.path.replace("*", "a")):
        report.checkpoint(end=True)


@pytest.mark.parametrize(
    "path", sorted({key.path.rpartition(".")[0] for key in KEYS if "." in key.path} | {"services.*.environmen"})
)
def test_an_unknown_key_is_an_error_wherever_it_stands(path: str) -> None:
    report = Report()

    check_keys(nested(f"{path}.unheard_of" if not path.endswith("environmen") else path, "x"), report)

    if path in {"services", "networks", "volumes", "secrets", "configs"} or path.endswith(("depends_on", "ulimits")):
        return  # names of the user's
    if path.endswith(".networks"):
        return
    with pytest.raises(InvalidError, match=r"there is no key"):
        report.checkpoint(end=True)


def test_extensions_of_others_are_left_alone() -> None:
    report = Report()

    check_keys(nested("services.*.x-traefik", "y"), report)
    check_keys(nested("services.*.deploy.x-more", "y"), report)

    report.checkpoint(end=True)
    assert report.notes == ()


def test_the_page_of_keys_is_as_its_tool_writes_it() -> None:
    assert (ROOT / "docs/compose.md").read_text(encoding="utf-8") == tool().page()


def test_the_schema_is_as_its_tool_writes_it() -> None:
    assert (ROOT / "docs/x-hunqi.schema.json").read_text(encoding="utf-8") == tool().schema()
    assert json.loads(tool().schema()) == x_hunqi_schema()


def test_every_key_and_field_stands_on_the_page() -> None:
    page = (ROOT / "docs/compose.md").read_text(encoding="utf-8")

    assert [key.path for key in KEYS if f"`{shown(key)}`" not in page] == []
    for known in (fields.SERVICE, fields.TOP, fields.ROUTE, fields.HEALTH, fields.INTERNAL, fields.CORS):
        assert [field.name for field in known if f"| `{field.name}` |" not in page] == []


def shown(key: Key) -> str:
    for prefix in ("services.*.deploy.", "services.*.", "networks.*.", "volumes.*.", "secrets.*.", "configs.*."):
        if key.path.startswith(prefix):
            return key.path.removeprefix(prefix)
    return key.path


SERVICE = """
routes:
  - {host: a.example.com, port: 80}
  - host: [a.example.com, "*.b.example.com"]
    port: 8080
    path: =/exact
    headers: {X-A: "1", X-B: {prefix: a}, X-C: {present: true}}
    protocol: grpc
    strip_prefix: false
    redirect: https
    redirect_code: 301
    cors: {origins: "*", max_age: 1h}
    body_limit: 10m
    rate_limit: {requests: 5, per: 10s, burst: 9}
    basic_auth: ["u:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc="]
    allow: 10.0.0.0/8
    request_headers: {X: y}
    timeout: 0
    idle_timeout: 5m
    retries: 0
    hold: 1m30s
    tls: off
  - {port: 5432, protocol: tcp, tcp_port: 20000}
health: {path: /up, port: 81, interval: 500ms, timeout: 1s, healthy_after: 2, unhealthy_after: 4}
drain: 30s
internal: {to: gateway, ports: [80], protocol: http2}
order: start-first
ready_timeout: 1h
schedule: "0 3 * * *"
"""
WRONG = """
route: []
routes: [{hots: a}]
routes: {host: a}
routes: [{tls: maybe}]
routes: [{retries: -1}]
routes: [{cors: {}}]
routes: [{rate_limit: {burst: 1}}]
health: {pth: /}
drain: soon
order: both
scale: 3
internal: [1]
"""


def validator(which: str) -> Any:
    schema = x_hunqi_schema()
    return jsonschema_rs.validator_for({**schema, "$ref": f"#/$defs/{which}"})


def test_the_schema_takes_what_the_compiler_takes() -> None:
    assert [error.message for error in validator("service").iter_errors(plain(read(SERVICE, "x")[0]))] == []
    assert validator("service").is_valid(plain(read("health: /up\ninternal: direct\n", "x")[0]))
    top = "maintenance: soon\nroutes: [{service: web, host: a, port: 80}]\ndrain: 5s\n"
    assert validator("project").is_valid(plain(read(top, "x")[0]))
    assert validator("project").is_valid({"rollout": "gray"})
    steps = [{"weight": 5}, "pause", {"match": {"users": "5%"}}]
    assert validator("project").is_valid({"rollout": {"steps": steps, "measures": {"p99": {"at_most": "500ms"}}}})
    assert not validator("project").is_valid({"rollout": {"steps": [{"weigth": 5}]}})
    assert not validator("project").is_valid({"rollout": {"stepz": []}})


@pytest.mark.parametrize("text", WRONG.strip().splitlines())
def test_the_schema_refuses_what_the_compiler_refuses(text: str) -> None:
    assert not validator("service").is_valid(plain(read(text, "x")[0]))


def test_the_schema_of_whole_files_finds_it_in_its_place() -> None:
    schema = jsonschema_rs.validator_for(compose_schema())

    assert schema.is_valid({"services": {"web": {"image": "x", "x-hunqi": {"drain": "5s"}}}})
    assert not schema.is_valid({"services": {"web": {"x-hunqi": {"drian": "5s"}}}})
    assert not schema.is_valid({"x-hunqi": {"schedule": "* * * * *"}})


def all_fields(known: tuple[Field, ...]) -> list[Field]:
    return [found for field in known for found in (field, *all_fields(field.below))]


def test_every_field_is_described() -> None:
    assert [field.name for field in all_fields(fields.SERVICE + fields.TOP) if len(field.text) < 5] == []
