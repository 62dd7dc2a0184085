"""Docker Engine through the mirror: by ``registry-mirrors``, by name, and pushing to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import images
from testbed.docker import Docker, docker_engine
from testbed.mirror import RunningMirror
from testbed.programs import ProcessFailedError
from testbed.registry import RealRegistry, real_registry

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("docker")]
HUB = "https://index.docker.io/v1/"
TINY = images.runnable(seed="docker")
SCHEMA2 = images.runnable(seed="schema2", dialect=images.Dialect.DOCKER)
MULTI = images.multi_platform(seed="docker")
SHARING = images.sharing(3, seed="docker")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    seed = {
        "library/tiny:latest": TINY,
        "library/schema2:latest": SCHEMA2,
        "library/multi:latest": MULTI["index"],
        "library/hub:latest": images.runnable(seed="hub"),
        **{f"acme/app{number}:latest": image for number, image in enumerate(SHARING)},
    }
    with real_registry(tmp_path_factory.mktemp("world"), seed=seed) as registry:
        yield registry


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, world: RealRegistry) -> Iterator[RunningMirror]:
    directory = tmp_path_factory.mktemp("mirror")
    args = ["--allow-anonymous-push"]
    with RunningMirror(directory, upstreams={"docker.io": world.url}, args=args) as running:
        yield running


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, mirror: RunningMirror) -> Iterator[Docker]:
    with docker_engine(tmp_path_factory.mktemp("docker"), registry_mirrors=[mirror.base_url]) as running:
        yield running


@pytest.fixture
def docker(engine: Docker, world: RealRegistry) -> Docker:
    engine.forget_images()
    world.wire.forget()
    return engine


def repo_digest(docker: Docker, reference: str) -> str:
    return docker("image", "inspect", "-f", "{{index .RepoDigests 0}}", reference).stdout.strip().partition("@")[2]


@pytest.mark.parametrize(("name", "image"), [("tiny", TINY), ("schema2", SCHEMA2)])
def test_a_pull_through_registry_mirrors_runs_and_the_second_costs_the_upstream_nothing(
    docker: Docker, world: RealRegistry, name: str, image: images.Image
) -> None:
    docker("pull", name)
    assert repo_digest(docker, name) == image.digest
    assert docker("run", "--rm", "--network", "none", name, "echo", "alive").stdout == "alive\n"
    world.wire.forget()
    docker.forget_images()
    docker("pull", name)
    assert world.wire.sent_bytes("/blobs/") == 0
    assert world.wire.count("GET") == 0


def test_a_pull_by_name_and_by_digest_gives_the_same_image(docker: Docker, mirror: RunningMirror) -> None:
    name = f"{mirror.host}/docker.io/library/tiny"
    docker("pull", name)
    assert repo_digest(docker, name) == TINY.digest
    docker("pull", f"{name}@{TINY.digest}")
    docker("pull", f"{mirror.host}/docker.io/tiny")


def test_only_the_platform_that_was_asked_for_is_downloaded(docker: Docker, world: RealRegistry) -> None:
    docker("pull", "multi")
    assert repo_digest(docker, "multi") == MULTI["index"].digest
    foreign = set(MULTI["arm64"].layers) - set(MULTI["amd64"].layers)
    assert foreign
    assert [digest for digest in foreign if world.wire.count(None, digest)] == []


def test_shared_layers_leave_the_upstream_once(docker: Docker, world: RealRegistry) -> None:
    for number in range(len(SHARING)):
        docker("pull", f"acme/app{number}")
        docker.forget_images()
    for image in SHARING:
        for digest in image.layers[1:]:
            assert world.wire.sent_bytes(digest) == len(image.blobs[digest])


def test_a_push_to_a_local_namespace_comes_back(docker: Docker, mirror: RunningMirror) -> None:
    docker("pull", "tiny")
    name = f"{mirror.host}/team/tiny:1"
    docker("tag", "tiny", name)
    docker("push", name)
    docker.forget_images()
    docker("pull", name)
    assert docker("run", "--rm", "--network", "none", name, "echo", "back").stdout == "back\n"


@pytest.mark.parametrize("name", ["library/tiny", "docker.io/library/tiny", "docker.io/acme/app0"])
def test_a_push_under_an_upstreams_name_is_denied(docker: Docker, mirror: RunningMirror, name: str) -> None:
    docker("pull", "tiny")
    docker("tag", "tiny", f"{mirror.host}/{name}:evil")
    with pytest.raises(ProcessFailedError, match=r"denied"):
        docker("push", f"{mirror.host}/{name}:evil")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, world: RealRegistry) -> Iterator[RunningMirror]:
    guarded = RunningMirror(tmp_path_factory.mktemp("guarded"), upstreams={"docker.io": world.url})
    guarded.add_user("alice", "wonderland", "team:pull,push,delete")
    with guarded:
        yield guarded


@pytest.fixture(scope="module")
def guarded_engine(tmp_path_factory: pytest.TempPathFactory, guarded: RunningMirror) -> Iterator[Docker]:
    with docker_engine(tmp_path_factory.mktemp("docker"), registry_mirrors=[guarded.base_url]) as running:
        yield running


class TestWithUsers:
    """The mirror has users, so ``/v2/`` answers 401; public pulls go on without one."""

    @pytest.fixture
    def docker(self, guarded_engine: Docker, world: RealRegistry) -> Iterator[Docker]:
        guarded_engine.forget_images()
        world.wire.forget()
        yield guarded_engine
        (guarded_engine.config_dir / "config.json").unlink(missing_ok=True)

    def test_pulls_without_a_password(self, docker: Docker) -> None:
        docker("pull", "tiny")
        assert repo_digest(docker, "tiny") == TINY.digest

    def test_pulls_with_a_stored_docker_hub_password_that_goes_nowhere(
        self, docker: Docker, world: RealRegistry, guarded: RunningMirror
    ) -> None:
        docker.remember_password(HUB, "hubuser", "hub-secret-password")
        docker("pull", "hub")
        assert world.wire.sent_bytes("/blobs/") > 0
        assert all("authorization" not in record.headers for record in world.wire.records())
        assert "hub-secret-password" not in guarded.log.read_text(errors="replace")
        kept = [file for file in guarded.data.rglob("*") if file.is_file()]
        assert [file for file in kept if b"hub-secret-password" in file.read_bytes()] == []

    def test_login_knows_the_right_password_only(self, docker: Docker, guarded: RunningMirror) -> None:
        docker("login", "-u", "alice", "-p", "wonderland", guarded.host)
        with pytest.raises(ProcessFailedError, match=r"unauthorized|401"):
            docker("login", "-u", "alice", "-p", "wrong", guarded.host)
        with pytest.raises(ProcessFailedError, match=r"unauthorized|401"):
            docker("login", "-u", "hubuser", "-p", "hub-secret-password", guarded.host)

    def test_push_and_pull_of_a_private_repository_need_the_user(self, docker: Docker, guarded: RunningMirror) -> None:
        docker("pull", "tiny")
        name = f"{guarded.host}/team/app:1"
        docker("tag", "tiny", name)
        with pytest.raises(ProcessFailedError, match=r"denied|unauthorized|no basic auth"):
            docker("push", name)
        docker("login", "-u", "alice", "-p", "wonderland", guarded.host)
        docker("push", name)
        docker.forget_images()
        docker("pull", name)
        docker.forget_images()
        docker("logout", guarded.host)
        with pytest.raises(ProcessFailedError, match=r"denied|unauthorized|not found|no basic auth"):
            docker("pull", name)


def test_docker_falls_back_when_the_mirror_is_gone_and_comes_back_to_it(
    tmp_path: Path, world: RealRegistry, docker: Docker, mirror: RunningMirror
) -> None:
    docker("pull", "tiny")
    docker.forget_images()
    mirror.stop()
    with pytest.raises(ProcessFailedError, match=r"registry-1\.docker\.io"):
        docker("pull", "tiny")
    mirror.start()
    world.wire.forget()
    docker("pull", "tiny")
    assert world.wire.sent_bytes("/blobs/") == 0
