"""Images of a node: its agent and a real mirror with a registry behind it; what the engine no longer needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hunqi.agent.errors import NoMirrorError
from hunqi.agent.images import Images, removable
from hunqi.engine.client import Docker
from hunqi.engine.model import Image
from testbed import images
from testbed.mirror import RunningMirror
from testbed.registry import RealRegistry, real_registry
from testbed.sample import give_sample
from testbed.swarm import ONE_NODE, Bed

pytestmark = [pytest.mark.real, ONE_NODE]

APP = images.opaque([300_000, 200_000], seed="agent-images")
NEXT = images.opaque([300_000, 100_000], seed="agent-images-next")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    seed = {"library/app:1": APP, "library/app:2": NEXT}
    with real_registry(tmp_path_factory.mktemp("world"), seed=seed) as registry:
        yield registry


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, world: RealRegistry) -> Iterator[RunningMirror]:
    """One for all tests, in their order: the first finds it empty, the last ends it."""
    with RunningMirror(tmp_path_factory.mktemp("mirror"), upstreams={"docker.io": world.url}) as running:
        yield running


def pins(mirror: RunningMirror) -> dict[str, str | None]:
    """Return digest → why it is pinned."""
    return {row["digest"]: row["pin_reason"] for row in mirror.cli_json("ls", "docker.io/library/app")["tags"]}


def reference(mirror: RunningMirror, image: images.Image) -> str:
    """Return the image as a service of this cluster has it."""
    return f"{mirror.host}/docker.io/library/app@{image.digest}"


def agent(mirror: RunningMirror, directory: Path) -> Images:
    socket = mirror.data / "fetcher.sock"
    return Images(Docker("/nowhere"), mirror_socket=socket, directory=directory, prefix=mirror.host)


async def test_what_was_fetched_whole_is_held_and_stays(
    mirror: RunningMirror, world: RealRegistry, tmp_path: Path
) -> None:
    first, second = reference(mirror, APP), reference(mirror, NEXT)
    one = agent(mirror, tmp_path)
    assert (await one.held([first])).done == ()
    assert world.wire.sent_bytes(next(iter(APP.blobs))) == 0, "nothing is fetched to answer a question"

    assert (await one.warm([first])).done == (first,)
    again = agent(mirror, tmp_path)
    answer = await again.held([first, second])
    assert answer.done == (first,)
    assert set(answer.failures) == {second}
    assert pins(mirror) == {str(APP.digest): "hunqi: to be deployed"}

    await again.warm([second])
    assert set((await again.set_pins({second: "app shop"})).done) == {second}
    assert (await again.held([first, second])).done == (second,)
    assert pins(mirror) == {str(APP.digest): None, str(NEXT.digest): "hunqi: app shop"}
    for digest, data in APP.blobs.items():
        assert world.wire.sent_bytes(digest) == len(data), "once"


async def test_a_pin_of_the_operators_own_is_left(mirror: RunningMirror, tmp_path: Path) -> None:
    first = reference(mirror, APP)
    mirror.cli("warm", first)
    mirror.cli("pin", first, "--reason", "mine")
    await agent(mirror, tmp_path).set_pins({})
    assert pins(mirror)[str(APP.digest)] == "mine"


async def test_an_image_that_nobody_has_is_said(mirror: RunningMirror, tmp_path: Path) -> None:
    nobody = f"{mirror.host}/docker.io/library/app@sha256:{'0' * 64}"
    answer = await agent(mirror, tmp_path).warm([nobody, reference(mirror, APP)])
    assert answer.done == (reference(mirror, APP),)
    assert set(answer.failures) == {nobody}
    assert (await agent(mirror, tmp_path).set_pins({nobody: "app shop"})).failures.keys() == {nobody}


async def test_a_mirror_that_is_away_is_no_answer(mirror: RunningMirror, tmp_path: Path) -> None:
    one = agent(mirror, tmp_path)
    mirror.stop()
    with pytest.raises(NoMirrorError):
        await one.warm([reference(mirror, APP)])
    await one.reload_mirror()  # is only noted


def test_only_what_the_platform_pulled_and_nothing_uses_is_removed() -> None:
    def image(name: str, *digests: str, tags: tuple[str, ...] = ()) -> Image:
        return Image(id=name, tags=tags, digests=digests, size_bytes=1, labels={})

    ours = "127.0.0.1:5000/docker.io/library/app"
    held = [
        image("old", f"{ours}@sha256:1", "127.0.0.1:5000/other@sha256:1"),
        image("kept", f"{ours}@sha256:2"),
        image("used", f"{ours}@sha256:3"),
        image("tagged", f"{ours}@sha256:4", tags=("mine:1",)),
        image("foreign", "docker.io/library/app@sha256:5", "127.0.0.1:50001/app@sha256:5"),
    ]
    found = removable(held, {"used"}, {f"{ours}@sha256:2"}, prefix="127.0.0.1:5000")
    assert found == ["127.0.0.1:5000/docker.io/library/app@sha256:1", "127.0.0.1:5000/other@sha256:1"]


async def test_the_engine_loses_what_nothing_needs(one_node: Bed, tmp_path: Path) -> None:
    machine, prefix = one_node.first, "127.0.0.1:5000"
    sample = give_sample(one_node)
    config = tmp_path / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/blobs}}}}\nhttp: {{addr: {prefix}}}\n"
    )
    registry = machine.start(["docker-registry", "serve", str(config)], log=tmp_path / "registry.log")
    try:
        found = {name: _pulled_by_digest(one_node, sample, f"{prefix}/{name}") for name in ("kept", "used", "old")}
        running = machine.docker("run", "-d", found["used"]).stdout.strip()
        async with Docker(str(machine.socket)) as docker:
            one = Images(docker, mirror_socket=None, directory=tmp_path, prefix=prefix)
            answer = await one.prune([found["kept"]])
            assert answer.done == (found["old"],)
            machine.docker("rm", "-f", running)
            assert set((await one.prune([])).done) == {found["kept"], found["used"]}
        assert machine.docker("image", "inspect", sample).returncode == 0
    finally:
        registry.stop()


def _pulled_by_digest(bed: Bed, sample: str, name: str) -> str:
    """Have the engine hold an image of its own as a service pulls it, and return its reference."""
    machine = bed.first
    container = machine.docker("create", sample, "echo", name).stdout.strip()
    machine.docker("commit", container, f"{name}:1")
    machine.docker("rm", container)
    pushed = machine.docker("push", f"{name}:1").stdout
    reference = f"{name}@sha256:{pushed.rpartition('sha256:')[2][:64]}"
    machine.docker("rmi", f"{name}:1")
    machine.docker("pull", reference)
    return reference
