"""Several files become one by the rules of the specification; short syntaxes; paths."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hunqi.apps.compose import short
from hunqi.apps.compose.canonical import canonical
from hunqi.apps.compose.merge import merge, settle
from hunqi.apps.compose.paths import absolute, inside
from hunqi.apps.compose.report import Report
from hunqi.apps.compose.section import duration_ns, size_bytes
from hunqi.apps.compose.tree import Node, plain, read
from hunqi.kit.units import format_duration


def document(text: str) -> Node:
    return canonical(read(text, "f.yaml")[0], "", Report())


def merged(*texts: str) -> Any:
    """Return the service ``a`` of files that each define it."""
    documents = [document(f"services:\n  a:\n    {text}\n") for text in texts]
    root = documents[0]
    for over in documents[1:]:
        root = merge(root, over)
    settled = settle(root)
    assert settled is not None
    return plain(settled)["services"]["a"]


@pytest.mark.parametrize(
    ("base", "over", "result"),
    [
        ("image: x", "command: y", {"image": "x", "command": "y"}),
        ("image: x", "image: y", {"image": "y"}),
        ("image: x", "image:", {"image": "x"}),
        ("dns: [1.1.1.1]", "dns: 8.8.8.8", {"dns": ["1.1.1.1", "8.8.8.8"]}),
        ("dns: [1.1.1.1]", "dns: [1.1.1.1]", {"dns": ["1.1.1.1"]}),
        ("command: [a, b]", "command: [c]", {"command": ["c"]}),
        ("entrypoint: a", "entrypoint: [c]", {"entrypoint": ["c"]}),
        (
            "healthcheck: {test: [CMD, a], interval: 1s}",
            "healthcheck: {test: [CMD, b]}",
            {"healthcheck": {"test": ["CMD", "b"], "interval": "1s"}},
        ),
        ("environment: [A=1, B=2]", "environment: {B: 3}", {"environment": {"A": "1", "B": 3}}),
        ("environment: {A: 1}", "environment: {A: }", {"environment": {"A": None}}),
        ("labels: [a=1]", "labels: [a=2, b=]", {"labels": {"a": "2", "b": ""}}),
        (
            "volumes: [foo:/work]",
            "volumes: [bar:/work]",
            {"volumes": [{"type": "volume", "source": "bar", "target": "/work"}]},
        ),
        (
            "secrets: [a, {source: b, target: a}]",
            "secrets: [{source: c, target: /run/secrets/a}]",
            {"secrets": [{"source": "c", "target": "/run/secrets/a"}]},
        ),
        (
            'ports: ["1:2"]',
            'ports: ["1:2", "3:4/udp"]',
            {
                "ports": [
                    {"protocol": "tcp", "target": "2", "published": "1"},
                    {"protocol": "udp", "target": "4", "published": "3"},
                ]
            },
        ),
        (
            "logging: {driver: a, options: {x: 1}}",
            "logging: {options: {y: 2}}",
            {"logging": {"driver": "a", "options": {"x": 1, "y": 2}}},
        ),
        (
            "logging: {driver: a, options: {x: 1}}",
            "logging: {driver: b}",
            {"logging": {"driver": "b"}},
        ),
        ("ulimits: {nofile: {soft: 1, hard: 2}}", "ulimits: {nofile: 3}", {"ulimits": {"nofile": 3}}),
        (
            "depends_on: [b]",
            "depends_on: {b: {condition: service_healthy}}",
            {"depends_on": {"b": {"condition": "service_healthy"}}},
        ),
        ("networks: [n]", "networks: {n: {aliases: [x]}}", {"networks": {"n": {"aliases": ["x"]}}}),
        ("cap_add: [A]", "cap_add: !override [B]", {"cap_add": ["B"]}),
        ("cap_add: [A]", "cap_add: !reset []", {}),
        ("environment: {A: 1, B: 2}", "environment: {A: !reset null}", {"environment": {"B": 2}}),
        (
            "deploy: {replicas: 2, labels: [a=1]}",
            "deploy: {replicas: 3}",
            {"deploy": {"replicas": 3, "labels": {"a": "1"}}},
        ),
        (
            "extra_hosts: [a:1.1.1.1]",
            "extra_hosts: {a: 2.2.2.2, b: [3.3.3.3]}",
            {"extra_hosts": {"a": ["1.1.1.1", "2.2.2.2"], "b": ["3.3.3.3"]}},
        ),
    ],
)
def test_each_rule_of_merging(base: str, over: str, result: object) -> None:
    assert merged(base, over) == result


def test_a_third_file_builds_on_what_the_second_left() -> None:
    assert merged("cap_add: [A]", "cap_add: !reset [Z]", "cap_add: [C]") == {"cap_add": ["C"]}
    assert merged("cap_add: [A]", "cap_add: !override [B]", "cap_add: [C]") == {"cap_add": ["B", "C"]}


values = st.recursive(
    st.integers(0, 9) | st.text("abc", min_size=1, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
trees = st.dictionaries(st.text("xyz", min_size=1, max_size=2), values, max_size=4)


def tree(value: object) -> Node:
    return read(yaml.safe_dump({"x-any": value}), "f.yaml")[0]


@given(trees)
def test_merging_nothing_changes_nothing(value: dict[str, object]) -> None:
    assert plain(merge(tree(value), tree({}))) == {"x-any": value}
    assert plain(merge(tree({}), tree(value))) == {"x-any": value}


@given(trees, trees, trees)
def test_keys_of_every_file_survive_in_any_grouping(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    left = plain(merge(merge(tree(a), tree(b)), tree(c)))["x-any"]

    assert set(left) == set(a) | set(b) | set(c)
    assert {key: left[key] for key in scalars(c)} == scalars(c)


def scalars(value: dict[str, Any]) -> dict[str, Any]:
    return {key: held for key, held in value.items() if not isinstance(held, dict | list)}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80", [{"protocol": "tcp", "target": "80"}]),
        ("80/udp", [{"protocol": "udp", "target": "80"}]),
        ("8080:80", [{"protocol": "tcp", "target": "80", "published": "8080"}]),
        ("127.0.0.1:8080:80", [{"protocol": "tcp", "host_ip": "127.0.0.1", "target": "80", "published": "8080"}]),
        ("127.0.0.1::80", [{"protocol": "tcp", "host_ip": "127.0.0.1", "target": "80"}]),
        ("[::1]:8080:80", [{"protocol": "tcp", "host_ip": "::1", "target": "80", "published": "8080"}]),
        ("8000-9000:80", [{"protocol": "tcp", "target": "80", "published": "8000-9000"}]),
        (
            "9090-9091:8080-8081",
            [
                {"protocol": "tcp", "target": "8080", "published": "9090"},
                {"protocol": "tcp", "target": "8081", "published": "9091"},
            ],
        ),
        ("1-2", [{"protocol": "tcp", "target": "1"}, {"protocol": "tcp", "target": "2"}]),
    ],
)
def test_short_ports(text: str, found: object) -> None:
    assert short.ports(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a",
        "0",
        "70000",
        "1:2:3:4",
        "2-1",
        "1-3:1-2",
        "80/icmp",
        "x:1:2",
        "1:",
        "1-65535",
        "-1",
        "8 0",
        "300.1.1.1:1:2",
    ],
)
def test_what_is_no_port_is_none(text: str) -> None:
    assert short.ports(text) is None


@given(st.integers(1, 65535), st.integers(1, 65535), st.sampled_from(["tcp", "udp"]))
def test_a_port_reads_as_it_is_written(published: int, target: int, protocol: str) -> None:
    expected = [{"protocol": protocol, "target": str(target), "published": str(published)}]

    assert short.ports(f"{published}:{target}/{protocol}") == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/data", {"type": "volume", "target": "/data"}),
        ("v:/data", {"type": "volume", "source": "v", "target": "/data"}),
        (
            "v:/data:ro,nocopy",
            {"type": "volume", "source": "v", "target": "/data", "read_only": True, "volume": {"nocopy": True}},
        ),
        ("./a:/a:rw", {"type": "bind", "source": "./a", "target": "/a"}),
        (
            "/a:/b:rslave,Z",
            {"type": "bind", "source": "/a", "target": "/b", "bind": {"propagation": "rslave", "selinux": "Z"}},
        ),
        ("~/a:/a", {"type": "bind", "source": "~/a", "target": "/a"}),
    ],
)
def test_short_mounts(text: str, found: object) -> None:
    assert short.mount(text) == found


@pytest.mark.parametrize("text", ["", "a:", ":a", "a:b:c:d", "C:\\x:/y", "a:/b:wat", "./a:/b:nocopy"])
def test_what_is_no_mount_is_none(text: str) -> None:
    assert short.mount(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1s", 1), ("1m30s", 90), ("1.5h", 5400), ("100ms", 0.1), ("1d", 86400), ("3us", 3e-6)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_ns(text) == round(seconds * 1e9)


@pytest.mark.parametrize("text", ["", "1", "s", "1 s", "-1s", "1x", "1s1", "9" * 80 + "s", "999999w", "１s"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert duration_ns(text) is None


@given(st.integers(0, 10**9))
def test_a_duration_reads_as_it_is_written(milliseconds: int) -> None:
    assert duration_ns(format_duration(milliseconds / 1000)) == milliseconds * 10**6


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("10", 10),
        ("1b", 1),
        ("1k", 1024),
        ("2kb", 2048),
        ("1.5g", 3 * 2**29),
        ("3GiB", 3 * 2**30),
        ("1 mb", 2**20),
    ],
)
def test_sizes_are_binary(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "m", "1x", "-1", "1e3", "1gg", "9" * 30 + "p", "lots"])
def test_what_is_no_size_is_none(text: str) -> None:
    assert size_bytes(text) is None


@pytest.mark.parametrize(
    ("base", "path", "found"),
    [
        ("", "a", "a"),
        ("", "./a/../b", "b"),
        ("sub", "a", "sub/a"),
        ("sub", "../a", "a"),
        ("sub", "..", ""),
        ("", ".", ""),
        ("", "..", None),
        ("sub", "../../a", None),
        ("", "/etc/passwd", None),
        ("", "~/x", None),
        ("", "a\\..\\b", None),
        ("", "a\x00b", None),
        ("", "a\nb", None),
        ("", "", None),
        ("", "a" * 2000, None),
        ("", "a/..../b", "a/..../b"),
    ],
)
def test_no_path_leads_out_of_the_project(base: str, path: str, found: str | None) -> None:
    assert inside(base, path) == found


@given(st.lists(st.sampled_from(["..", ".", "a", "b", "", "...", "~"]), max_size=8), st.sampled_from(["", "s", "s/t"]))
def test_a_path_is_inside_or_none(parts: list[str], base: str) -> None:
    found = inside(base, "/".join(parts))

    assert found is None or not found.startswith(("/", "..")) or found.startswith("...")
    assert found is None or ".." not in found.split("/")


@pytest.mark.parametrize(
    ("path", "good"), [("/a", True), ("/", True), ("a", False), ("/a/../b", False), ("/a\x00", False), ("/a\n", False)]
)
def test_absolute_paths(path: str, *, good: bool) -> None:
    assert absolute(path) is good
