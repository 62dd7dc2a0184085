"""Upstreams that want something: https with an authority of their own, Bearer tokens, passwords; private images."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import images
from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.docker import Toolbox, toolbox
from testbed.mirror import RunningMirror
from testbed.programs import ProcessFailedError
from testbed.registry import Auth, RealRegistry, real_registry

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("registries")]
OPEN = images.layered([300_000] * 6, seed="open")
SECRET = images.layered([200_000], seed="secret")
SEED = {"library/open:latest": OPEN, "corp/secret:latest": SECRET}


@pytest.fixture(scope="module", params=[False, True], ids=["http", "https"])
def https(request: pytest.FixtureRequest) -> bool:
    return request.param


def with_auth(*kinds: Auth) -> pytest.MarkDecorator:
    """Run a test with registries of these kinds only."""
    return pytest.mark.parametrize("auth", kinds, ids=lambda kind: kind.value, indirect=True)


@pytest.fixture(scope="module")
def auth(request: pytest.FixtureRequest) -> Auth:
    return request.param


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, auth: Auth, https: bool) -> Iterator[RealRegistry]:
    directory = tmp_path_factory.mktemp("world")
    with real_registry(directory, auth=auth, https=https, public=("library/open",), seed=SEED) as registry:
        yield registry


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    with toolbox(tmp_path_factory.mktemp("tools")) as running:
        yield running


def config_of(world: RealRegistry, directory: Path, *, credentials: bool) -> str:
    lines = ['[mirror.upstreams."docker.io"]', f'url = "{world.url}"']
    if world.authority is not None:
        lines.append(f'ca-file = "{world.authority.ca_file}"')
    if credentials:
        secret = base64.b64encode(f"{world.user}:{world.password}".encode()).decode()
        file = directory / "credentials.json"
        file.write_text(json.dumps({"auths": {world.host: {"auth": secret}}}))
        file.chmod(0o600)
        lines.append(f'credentials-file = "{file}"')
    return "\n".join(lines) + "\n"


def get_manifest(mirror: RunningMirror, repository: str, headers: dict[str, str] | None = None) -> Answer:
    url = f"{mirror.base_url}/v2/docker.io/{repository}/manifests/latest"
    return fetch(url, headers={"Accept": MANIFEST_TYPES, **(headers or {})})


def token(mirror: RunningMirror, repository: str, user: str, password: str) -> dict[str, str]:
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    challenge = get_manifest(mirror, repository).headers["www-authenticate"]
    realm = challenge.partition('realm="')[2].partition('"')[0]
    service = challenge.partition('service="')[2].partition('"')[0]
    url = f"{realm}?service={service}&scope=repository:docker.io/{repository}:pull"
    answer = fetch(url, headers={"Authorization": f"Basic {basic}"})
    assert answer.status == 200, answer.body
    return {"Authorization": f"Bearer {json.loads(answer.body)['token']}"}


@with_auth(Auth.NONE, Auth.BEARER)
def test_a_public_image_is_pulled_by_anybody(world: RealRegistry, box: Toolbox, tmp_path: Path) -> None:
    world.wire.forget()
    with RunningMirror(tmp_path, config=config_of(world, tmp_path, credentials=False)) as mirror:
        source = f"docker://{mirror.host}/docker.io/library/open:latest"
        box.skopeo("copy", "--src-tls-verify=false", source, f"dir:{tmp_path / 'copy'}")
    for digest, data in OPEN.blobs.items():
        assert (tmp_path / "copy" / digest.partition(":")[2]).read_bytes() == data
        assert world.wire.sent_bytes(digest) == len(data)


@with_auth(Auth.BEARER)
def test_tokens_are_reused(world: RealRegistry, box: Toolbox, tmp_path: Path) -> None:
    assert world.tokens is not None
    before = world.tokens.issued
    with RunningMirror(tmp_path, config=config_of(world, tmp_path, credentials=False)) as mirror:
        source = f"docker://{mirror.host}/docker.io/library/open:latest"
        box.skopeo("copy", "--src-tls-verify=false", source, f"dir:{tmp_path / 'copy'}")
    assert 1 <= world.tokens.issued - before <= 2
    assert len(OPEN.blobs) > 5


@with_auth(Auth.BASIC, Auth.BEARER)
def test_a_private_image_is_refused_without_credentials(world: RealRegistry, tmp_path: Path) -> None:
    with RunningMirror(tmp_path, config=config_of(world, tmp_path, credentials=False)) as mirror:
        assert get_manifest(mirror, "corp/secret").status in (401, 403, 404)


@with_auth(Auth.BASIC, Auth.BEARER)
def test_a_private_image_is_for_users_with_a_grant_its_cached_blobs_included(
    world: RealRegistry, box: Toolbox, tmp_path: Path
) -> None:
    mirror = RunningMirror(tmp_path, config=config_of(world, tmp_path, credentials=True))
    mirror.add_user("carol", "allowed-in", "docker.io/corp:pull")
    mirror.add_user("dave", "kept-out", "team:pull,push")
    with mirror:
        source = f"docker://{mirror.host}/docker.io/corp/secret:latest"
        options = ["--src-tls-verify=false", "--src-creds", "carol:allowed-in"]
        box.skopeo("copy", *options, source, f"dir:{tmp_path / 'copy'}")
        with pytest.raises(ProcessFailedError):
            box.skopeo("copy", "--src-tls-verify=false", source, f"dir:{tmp_path / 'anonymous'}")
        with pytest.raises(ProcessFailedError):
            box.skopeo("copy", *options[:-1], "dave:kept-out", source, f"dir:{tmp_path / 'dave'}")
        allowed = token(mirror, "corp/secret", "carol", "allowed-in")
        denied = token(mirror, "corp/secret", "dave", "kept-out")
        for digest in SECRET.layers:
            url = f"{mirror.base_url}/v2/docker.io/corp/secret/blobs/{digest}"
            assert fetch(url, headers=allowed).digest == digest
            assert fetch(url, headers=denied).status in (401, 403)
            assert fetch(url).status == 401
            elsewhere = f"{mirror.base_url}/v2/docker.io/library/open/blobs/{digest}"
            assert fetch(elsewhere, headers=denied).status in (401, 403, 404)
