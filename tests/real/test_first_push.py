"""The first push to a name that nobody pushed to before, whatever the default upstream says of that name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from hunqi.oci.digest import Digest
from support_resolve import World
from testbed import images
from testbed.client import MANIFEST_TYPES, fetch
from testbed.docker import Containerd, Toolbox, containerd, toolbox
from testbed.mirror import RunningMirror
from testbed.registry import real_registry
from testbed.wire import Break, Fault
from testbed.zoo import ZooRegistry

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("tools")]
IMAGE = images.layered([30_000, 20_000], seed="first-push")
IMPATIENT: Final = ("--connect-timeout", "1s", "--first-byte-timeout", "1s")
MOODS: Final[dict[str, Callable[[World], None]]] = {
    "has-nothing": lambda world: world.heal(),
    "401": lambda world: world.fail(401, {"WWW-Authenticate": 'Basic realm="x"'}),
    "403": lambda world: world.fail(403),
    "429": lambda world: world.fail(429, {"Retry-After": "60"}),
    "500": lambda world: world.fail(500),
    "down": lambda world: world.server.refuse(),
    "silent": lambda world: world.gate.clear(),
}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    with made.server:
        yield made
        made.gate.set()


@pytest.fixture(scope="module", params=list(MOODS))
def mood(request: pytest.FixtureRequest, world: World) -> Iterator[str]:
    MOODS[request.param](world)
    yield request.param
    world.gate.set()
    world.server.listen()
    world.heal()


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, world: World, mood: str) -> Iterator[RunningMirror]:
    args = ["--allow-anonymous-push", *IMPATIENT]
    upstreams = {"docker.io": world.server.url}
    with RunningMirror(tmp_path_factory.mktemp(mood), upstreams=upstreams, args=args, workers=1) as running:
        yield running


@pytest.fixture
def calm() -> Iterator[World]:
    made = World()
    with made.server:
        yield made


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    with toolbox(tmp_path_factory.mktemp("tools")) as running:
        images.write_layout(IMAGE, running.directory / "layout")
        yield running


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    with containerd(tmp_path_factory.mktemp("containerd")) as running:
        yield running


def push(tools: Toolbox, mirror: RunningMirror, name: str, *args: str) -> None:
    layout, target = f"oci:{tools.directory / 'layout'}:latest", f"docker://{mirror.host}/{name}"
    tools.skopeo("copy", "--dest-tls-verify=false", *args, layout, target)


def digest_of(mirror: RunningMirror, path: str, method: str = "GET") -> str:
    answer = fetch(f"{mirror.base_url}/v2/{path}", method=method, headers={"Accept": MANIFEST_TYPES})
    return answer.headers.get("docker-content-digest", "") if answer.status == 200 else str(answer.status)


def test_skopeo_pushes_to_a_fresh_name(tools: Toolbox, mirror: RunningMirror, world: World, mood: str) -> None:
    namespace = f"fresh-{mood}"
    begun = time.monotonic()
    push(tools, mirror, f"{namespace}/app:1")
    assert time.monotonic() - begun < 10.0
    assert digest_of(mirror, f"{namespace}/app/manifests/1") == IMAGE.digest
    assert world.count(containing="/blobs/") == 0


def test_a_look_at_a_fresh_name_as_clients_take_it_before_a_push_is_404(mirror: RunningMirror, mood: str) -> None:
    path = f"looked-at-{mood}/app"
    for rest in (f"blobs/{IMAGE.layers[0]}", f"manifests/{IMAGE.digest}", "manifests/1"):
        wanted = "429" if mood == "429" and "manifests" in rest else "404"
        assert digest_of(mirror, f"{path}/{rest}", "HEAD") == wanted, rest


def test_a_pull_of_a_fresh_name_is_told_what_is_wrong(mirror: RunningMirror, mood: str) -> None:
    status = digest_of(mirror, f"pulled-{mood}/app/manifests/1")
    expected = {"has-nothing": {"404"}, "401": {"403"}, "403": {"403"}, "429": {"429"}}
    assert status in expected.get(mood, {"502", "504"})


def test_what_was_pulled_from_the_upstream_can_be_pushed_under_its_name(tools: Toolbox, tmp_path: Path) -> None:
    with ZooRegistry([IMAGE]) as zoo:
        args = ["--allow-anonymous-push"]
        with RunningMirror(tmp_path / "mirror", upstreams={"docker.io": zoo.url}, args=args) as mirror:
            for rest in ("manifests/latest", f"blobs/{IMAGE.layers[0]}"):
                assert fetch(f"{mirror.base_url}/v2/curated/app/{rest}").status == 200
            push(tools, mirror, "curated/app:mine")
            zoo.server.refuse()
            assert digest_of(mirror, "curated/app/manifests/mine") == IMAGE.digest
            for digest in IMAGE.blobs:
                assert fetch(f"{mirror.base_url}/v2/curated/app/blobs/{digest}").digest == digest


def test_a_user_who_may_push_everywhere_does_so_too(tools: Toolbox, calm: World, tmp_path: Path) -> None:
    calm.fail(401)
    running = RunningMirror(tmp_path / "mirror", upstreams={"docker.io": calm.server.url}, args=list(IMPATIENT))
    running.add_user("ci", "pw", "*:pull,push")
    with running as mirror:
        push(tools, mirror, "ours/app:1", "--dest-creds", "ci:pw")
        target = f"docker://{mirror.host}/ours/app:1"
        tools.skopeo("inspect", "--raw", "--tls-verify=false", "--creds", "ci:pw", target)


def test_without_the_right_to_push_a_head_is_the_upstreams_answer(calm: World, tmp_path: Path) -> None:
    data = b"an upstream's blob"
    calm.blobs["team/app", str(Digest.of(data))] = data
    with RunningMirror(tmp_path / "mirror", upstreams={"docker.io": calm.server.url}, args=list(IMPATIENT)) as mirror:
        answer = fetch(f"{mirror.base_url}/v2/team/app/blobs/{Digest.of(data)}", method="HEAD")
        assert (answer.status, answer.promised_bytes) == (200, len(data))
        calm.fail(403)
        assert fetch(f"{mirror.base_url}/v2/other/app/blobs/{IMAGE.layers[0]}", method="HEAD").status == 403


@pytest.mark.parametrize("status", [401, 403, 500])
def test_containerd_pushes_to_a_fresh_name(engine: Containerd, tmp_path: Path, status: int) -> None:
    tiny = images.runnable(seed="ctr-push")
    with real_registry(tmp_path / "world", seed={"library/tiny:1": tiny}) as registry:
        registry.wire.inject(Fault(kind=Break.STATUS, pattern="/fresh/", status=status))
        args = ["--allow-anonymous-push", *IMPATIENT]
        with RunningMirror(tmp_path / "mirror", upstreams={"docker.io": registry.url}, args=args) as mirror:
            source, target = f"{mirror.host}/docker.io/library/tiny:1", f"{mirror.host}/fresh/app:1"
            engine("images", "pull", "--plain-http", "--snapshotter", "native", source)
            engine("images", "tag", source, target)
            engine("images", "push", "--plain-http", target)
            assert digest_of(mirror, "fresh/app/manifests/1") == tiny.digest
