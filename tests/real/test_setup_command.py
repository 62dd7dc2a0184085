"""``setup``, ``install`` and ``warm`` on a running mirror, and real clients that obey what ``setup`` wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from testbed import images
from testbed.authority import Authority
from testbed.docker import containerd, docker_engine, toolbox
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.programs import run
from testbed.registry import Auth, RealRegistry, real_registry
from testbed.zoo import ZooRegistry

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("setup")]
TINY = images.runnable(seed="setup")
MULTI = images.multi_platform(seed="setup")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    seed = {"library/tiny:latest": TINY, "library/multi:latest": MULTI["index"]}
    with real_registry(tmp_path_factory.mktemp("world"), seed=seed) as registry:
        yield registry


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, world: RealRegistry) -> Iterator[RunningMirror]:
    upstreams = {"docker.io": world.url, "quay.io": world.url}
    with RunningMirror(tmp_path_factory.mktemp("setup"), upstreams=upstreams) as running:
        yield running


def setup(mirror: RunningMirror, client: str, root: Path, *args: str) -> str:
    return mirror.cli("setup", client, "--root", str(root), *args)


def serve_and_fail(*args: str) -> str:
    command = [sys.executable, "-m", "hunqi", "mirror", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize("client", ["docker", "containerd", "podman"])
def test_setup_prints_without_touching_writes_once_and_then_finds_it_in_place(
    mirror: RunningMirror, tmp_path: Path, client: str
) -> None:
    printed = setup(mirror, client, tmp_path)
    assert mirror.host in printed
    assert list(tmp_path.iterdir()) == []
    setup(mirror, client, tmp_path, "--write")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files
    assert all(mirror.host.encode() in data for data in files.values())
    assert "Everything is in place already." in setup(mirror, client, tmp_path, "--write")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_setup_names_the_upstreams_and_the_scheme_of_the_instance(tmp_path: Path, world: RealRegistry) -> None:
    authority = Authority(tmp_path / "authority")
    upstreams = {"quay.io": world.url, "registry.example.com": world.url}
    with RunningMirror(tmp_path / "mirror", upstreams=upstreams, authority=authority, workers=1) as secure:
        setup(secure, "containerd", tmp_path / "root", "--write")
        hosts = tmp_path / "root/etc/containerd/certs.d"
        assert sorted(path.name for path in hosts.iterdir()) == ["quay.io", "registry.example.com"]
        toml = (hosts / "registry.example.com/hosts.toml").read_text()
        assert 'server = "https://registry.example.com"' in toml
        assert f'[host."https://{secure.host}"]' in toml
        setup(secure, "podman", tmp_path / "root", "--write")
        conf = (tmp_path / "root/etc/containers/registries.conf.d/050-hunqi.conf").read_text()
        assert "insecure" not in conf
        assert f'location = "{secure.host}/quay.io"' in conf


def test_podman_pulls_by_what_setup_wrote(mirror: RunningMirror, world: RealRegistry, tmp_path: Path) -> None:
    setup(mirror, "podman", tmp_path, "--write")
    conf = tmp_path / "etc/containers/registries.conf.d/050-hunqi.conf"
    with toolbox(tmp_path / "tools") as made:
        box = replace(made, env={**made.env, "CONTAINERS_REGISTRIES_CONF": str(conf)})
        world.wire.forget()
        box.podman("pull", "docker.io/library/tiny:latest")
        box.podman("pull", "quay.io/library/tiny:latest")
    assert world.wire.count("GET", "/manifests/") == 2


def test_containerd_pulls_by_what_setup_wrote(mirror: RunningMirror, world: RealRegistry, tmp_path: Path) -> None:
    setup(mirror, "containerd", tmp_path, "--write")
    with containerd(tmp_path / "containerd") as engine:
        ctr = replace(engine, hosts_dir=tmp_path / "etc/containerd/certs.d")
        ctr.pull("docker.io/library/tiny:latest")
        ctr.pull("quay.io/library/tiny:latest")


@pytest.mark.slow
def test_docker_reloads_what_setup_merged_and_is_not_restarted(
    mirror: RunningMirror, world: RealRegistry, tmp_path: Path
) -> None:
    daemon_json = tmp_path / "etc/docker/daemon.json"
    for folder in ("etc/docker", "run"):
        (tmp_path / folder).mkdir(parents=True)
    daemon_json.write_text('{\n  "labels": ["kept=yes"],\n  "registry-mirrors": ["http://127.0.0.1:9"]\n}\n')
    with docker_engine(tmp_path / "docker", root=tmp_path) as docker:
        assert "was not restarted" in setup(mirror, "docker", tmp_path, "--write")
        merged = json.loads(daemon_json.read_text())
        assert merged["labels"] == ["kept=yes"]
        assert merged["registry-mirrors"] == [mirror.base_url, "http://127.0.0.1:9"]

        def mirrors() -> list[str]:
            info = json.loads(docker("info", "--format", "{{json .RegistryConfig.Mirrors}}").stdout)
            return [url.rstrip("/") for url in info]

        wait_for(lambda: mirrors()[:1] == [mirror.base_url], timeout_s=20.0, what="the reload")
        docker("pull", "tiny")
        assert docker.daemon.process.poll() is None
        before = daemon_json.read_text()
        daemon_json.write_text('{"labels": [}')
        assert "Nothing was changed" in serve_and_fail(
            "setup", "docker", "--write", "--root", str(tmp_path), "--data", str(mirror.data)
        )
        assert daemon_json.read_text() == '{"labels": [}'
        daemon_json.write_text(before)


@pytest.mark.parametrize("where", ["/srv/hunqi data", "/home/ada/mirror", "/root/mirror"])
def test_systemd_accepts_the_unit(tmp_path: Path, where: str) -> None:
    install = ["hunqi", "mirror", "install", "--root", str(tmp_path), "--data", where]
    run([sys.executable, "-m", *install])
    unit = tmp_path / "etc/systemd/system/hunqi-mirror.service"
    done = run(["systemd-analyze", "verify", "--man=no", str(unit)], check=False)
    assert (done.returncode, unit.name in done.stdout + done.stderr) == (0, False), done.stderr
    expected = (
        "true" if where.startswith("/srv") and not sys.base_prefix.startswith(("/root", "/home")) else "read-only"
    )
    assert f"ProtectHome={expected}\n" in unit.read_text()


def test_a_unit_whose_settings_name_files_in_a_home_may_read_them(tmp_path: Path) -> None:
    config = tmp_path / "hunqi.toml"
    config.write_text("[mirror]\n")
    printed = run([sys.executable, "-m", "hunqi", "mirror", "install", "--print", "--config", str(config)]).stdout
    assert f"--config {config}" in printed
    assert "EnvironmentFile=-/etc/hunqi/mirror.env\n" in printed


def test_warm_of_some_platforms_fetches_those_only(mirror: RunningMirror, world: RealRegistry) -> None:
    built = {f"linux/{name}": image for name, image in MULTI.items() if name != "index"}
    wanted, *others = list(built)
    world.wire.forget()
    told = mirror.cli_json("warm", "docker.io/library/multi", "--platform", wanted)
    assert {blob["digest"] for blob in told["blobs"]} == set(built[wanted].blobs)
    for name in others:
        for digest in built[name].blobs.keys() - built[wanted].blobs.keys():
            assert world.wire.count("GET", digest) == 0
    both = mirror.cli("warm", f"{mirror.host}/docker.io/library/multi", "--platform", wanted, "--platform", others[0])
    assert "warm" in both
    for digest in built[others[0]].blobs:
        assert world.wire.count("GET", digest) == 1
    world.wire.forget()
    mirror.cli("warm", "docker.io/library/multi", "docker.io/library/tiny")
    assert not {digest for digest in built[wanted].blobs if world.wire.count("GET", digest)}


def test_warm_says_what_is_wrong_with_a_name(mirror: RunningMirror) -> None:
    def told(*args: str) -> str:
        return serve_and_fail("warm", *args, "--data", str(mirror.data))

    assert "no such manifest" in told("docker.io/library/none:1")
    assert "evil.example" in told("evil.example/org/app")
    assert "linux/riscv64" in told("docker.io/library/multi", "--platform", "linux/riscv64")
    for nonsense in ("docker.io/UPPER/case", "docker.io/a:b:c", "docker.io/app@sha256:xyz", "", "docker.io/"):
        assert told(nonsense).startswith("error: "), nonsense
        assert "Traceback" not in told(nonsense)


def test_warm_of_a_private_repository_uses_the_mirrors_credentials(tmp_path: Path) -> None:
    with real_registry(tmp_path / "private", auth=Auth.BEARER, seed={"team/app:1": TINY}) as registry:
        credentials = tmp_path / "config.json"
        auth = registry.authorization.removeprefix("Basic ")
        credentials.write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        table = f'[mirror.upstreams."private.test"]\nurl = "{registry.url}"\n'
        with RunningMirror(tmp_path / "without", config=table, workers=1) as mirror:
            told = serve_and_fail("warm", "private.test/team/app:1", "--data", str(mirror.data))
            assert "credentials" in told
        table += f'credentials-file = "{credentials}"\n'
        with RunningMirror(tmp_path / "with", config=table, workers=1) as mirror:
            assert mirror.cli_json("warm", "private.test/team/app:1")["count"] == len(TINY.blobs)


@pytest.mark.parametrize(
    ("listen", "names"),
    [
        ("127.0.0.1", ["127.0.0.1", "localhost"]),
        ("0.0.0.0", ["127.0.0.1", "localhost", "machine.example.com"]),
        ("[::]", ["[::1]", "127.0.0.1", "localhost"]),
    ],
)
def test_commands_know_the_mirror_by_every_name_of_it(tmp_path: Path, listen: str, names: list[str]) -> None:
    with ZooRegistry([TINY]) as zoo, RunningMirror(tmp_path, upstreams={"docker.io": zoo.url}, listen=listen) as mirror:
        written = [f"{name}:{mirror.port}/{rest}" for name in names for rest in ("docker.io/library/tiny:1", "tiny:1")]
        mirror.cli("warm", *written)
        other = "127.0.0.1:9" if listen != "127.0.0.1" else f"machine.example.com:{mirror.port}"
        assert "is not an upstream" in serve_and_fail("warm", f"{other}/library/tiny:1", "--data", str(mirror.data))
