"""What clients' files must say is merged without losing a line of them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from hunqi.cli.setup.docker import DAEMON_JSON, daemon_change, plan_docker
from hunqi.cli.setup.hosts_toml import CONTAINERD_CONFIG, hosts_change, plan_containerd
from hunqi.cli.setup.model import ExistingFileError, FileChange, Mirror
from hunqi.cli.setup.podman import DROP_IN, plan_podman
from hunqi.mirror.settings import Address

_PATH = Path("/etc/containerd/certs.d/ghcr.io/hosts.toml")
_URL = "http://127.0.0.1:5000"


def _mirror(host: str = "127.0.0.1", *, tls: bool = False, default: str = "docker.io") -> Mirror:
    return Mirror(address=Address(host, 5000), tls=tls, upstreams=("docker.io", "ghcr.io"), default_upstream=default)


def _nothing(_: Path) -> None:
    return None


@pytest.mark.parametrize(
    "before",
    [
        None,
        "",
        " \n",
        "{}",
        '{"registry-mirrors": []}',
        '{"registry-mirrors": ["https://other.example"], "debug": true}',
        '{\n    "log-driver": "json-file",\n    "log-opts": {"max-size": "10m"},\n    "dns": ["1.1.1.1"]\n}\n',
        '{\t"labels": ["a=ü"]}',
    ],
)
def test_daemon_json_keeps_every_key_and_gains_the_mirror(before: str | None) -> None:
    change = daemon_change(before, _mirror())
    old = json.loads(before) if before and before.strip() else {}
    new = json.loads(change.after)
    assert new["registry-mirrors"][0] == _URL
    assert new["registry-mirrors"][1:] == old.get("registry-mirrors", [])
    assert {key: new[key] for key in old if key != "registry-mirrors"} == {
        key: value for key, value in old.items() if key != "registry-mirrors"
    }
    assert list(new)[: len(old)] == list(old)
    assert not daemon_change(change.after, _mirror()).is_needed


def test_daemon_json_keeps_its_indentation_and_its_letters() -> None:
    after = daemon_change('{\n    "labels": ["ü"]\n}\n', _mirror()).after
    assert after.startswith('{\n    "labels"')
    assert "ü" in after


def test_a_mirror_written_with_a_slash_is_not_added_again() -> None:
    before = '{"registry-mirrors": ["http://127.0.0.1:5000/"]}'
    assert not daemon_change(before, _mirror()).is_needed


def test_plain_http_beyond_loopback_is_named_insecure() -> None:
    new = json.loads(daemon_change('{"insecure-registries": ["a:1"]}', _mirror("10.0.0.5")).after)
    assert new["insecure-registries"] == ["a:1", "10.0.0.5:5000"]
    assert "insecure-registries" not in json.loads(daemon_change(None, _mirror("10.0.0.5", tls=True)).after)


@pytest.mark.parametrize(
    "before", ["{", '{"a": 1,}', "[]", '"x"', '{"registry-mirrors": "x"}', '{"a": 1, "a": 2}', "// note\n{}"]
)
def test_a_broken_daemon_json_is_left_alone_and_named(before: str) -> None:
    with pytest.raises(ExistingFileError, match=r"/etc/docker/daemon\.json .*Nothing was changed"):
        daemon_change(before, _mirror())


def test_docker_without_hub_as_default_gets_no_registry_mirror() -> None:
    plan = plan_docker(_mirror(default="ghcr.io"), _nothing)
    assert DAEMON_JSON not in [change.path for change in plan.changes]
    assert any("registry-mirrors are for docker.io only" in note for note in plan.notes)


def test_docker_gets_hub_by_daemon_json_and_the_rest_by_hosts_toml() -> None:
    plan = plan_docker(_mirror(), _nothing)
    assert [str(change.path) for change in plan.changes] == [
        "/etc/docker/daemon.json",
        "/etc/docker/certs.d/ghcr.io/hosts.toml",
    ]
    assert "127.0.0.1:5000/ghcr.io/OWNER/IMAGE" in " ".join(plan.notes)


def test_a_new_hosts_toml_falls_back_to_the_real_registry() -> None:
    plan = plan_containerd(_mirror(), _nothing)
    hub = tomllib.loads(plan.changes[0].after)
    assert hub["server"] == "https://registry-1.docker.io"
    assert hub["host"] == {_URL: {"capabilities": ["pull", "resolve"]}}


@pytest.mark.parametrize(
    "before",
    [
        "",
        'server = "https://ghcr.io"',
        'server = "https://ghcr.io"\n\n[host."https://near.example"]\n  capabilities = ["pull"]\n',
        '# by hand\n[host."https://near.example"]\n  ca = "/x.pem"\n[host."https://near.example".header]\na = "b"\n',
        '[host]\n[host."https://near.example"]\n',
    ],
)
def test_an_existing_hosts_toml_keeps_everything_and_asks_the_mirror_first(before: str) -> None:
    change = hosts_change(_PATH, "ghcr.io", _mirror(), lambda _: before)
    old, new = tomllib.loads(before), tomllib.loads(change.after)
    assert next(iter(new["host"])) == _URL
    assert {key: value for key, value in new["host"].items() if key != _URL} == old.get("host", {})
    assert new.get("server") == old.get("server")
    assert all(line in change.after.splitlines() for line in before.splitlines())
    assert not hosts_change(_PATH, "ghcr.io", _mirror(), lambda _: change.after).is_needed


def test_a_mirror_that_moved_replaces_its_old_table() -> None:
    first = hosts_change(_PATH, "ghcr.io", _mirror(), lambda _: '[host."https://near.example"]\n').after
    moved = Mirror(address=Address("127.0.0.1", 6000), tls=False, upstreams=(), default_upstream="")
    second = tomllib.loads(hosts_change(_PATH, "ghcr.io", moved, lambda _: first).after)
    assert list(second["host"]) == ["http://127.0.0.1:6000", "https://near.example"]


def test_a_host_that_somebody_wrote_by_hand_is_left_alone() -> None:
    before = f'[host."{_URL}"]\n  capabilities = ["pull"]\n'
    assert not hosts_change(_PATH, "ghcr.io", _mirror(), lambda _: before).is_needed


def test_a_broken_hosts_toml_is_left_alone_and_named() -> None:
    with pytest.raises(ExistingFileError, match=r"hosts\.toml is not TOML"):
        hosts_change(_PATH, "ghcr.io", _mirror(), lambda _: "server = \n")


def test_containerd_is_only_told_of_config_path_where_it_lacks_it() -> None:
    config = '[plugins."x".registry]\n  config_path = "/etc/containerd/certs.d"\n'
    having = plan_containerd(_mirror(), lambda path: config if path == CONTAINERD_CONFIG else None)
    assert "has the config_path already" in having.notes[0]
    assert "check that" in plan_containerd(_mirror(), _nothing).notes[0]


def test_podman_names_the_upstream_in_the_mirrors_location() -> None:
    (change,) = plan_podman(_mirror(), _nothing).changes
    assert change.path == DROP_IN
    registries = tomllib.loads(change.after)["registry"]
    assert registries[1] == {
        "prefix": "ghcr.io",
        "location": "ghcr.io",
        "mirror": [{"location": "127.0.0.1:5000/ghcr.io", "insecure": True}],
    }
    assert "insecure" not in plan_podman(_mirror(tls=True), _nothing).changes[0].after
    assert not plan_podman(_mirror(), lambda _: change.after).changes[0].is_needed


def test_a_mirror_on_every_address_is_reached_by_loopback() -> None:
    assert _mirror("0.0.0.0").url == "http://127.0.0.1:5000"
    assert Mirror.of({"upstreams": [{"name": "a.io", "url": "x"}, "b.io"]}, Address("::", 1)).host == "[::1]:1"


def test_a_diff_shows_what_changes() -> None:
    diff = FileChange(path=Path("/x"), before="a\nb", after="a\nc\n").diff()
    assert "-b\n" in diff
    assert "+c\n" in diff
