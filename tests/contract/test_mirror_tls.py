"""The mirror's own TLS listener: everything that works in clear works there, also for real clients."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import images
from testbed.authority import Authority
from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.docker import Toolbox, toolbox
from testbed.images import MIB
from testbed.mirror import RunningMirror
from testbed.programs import ProcessFailedError
from testbed.zoo import ZooRegistry

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("tls")]
IMAGE = images.opaque([5 * MIB + 17, 70_000], seed="tls")
APP = "/v2/docker.io/library/app"
BIG = IMAGE.layers[0]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def zoo() -> Iterator[ZooRegistry]:
    with ZooRegistry([IMAGE]) as registry:
        yield registry


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory, zoo: ZooRegistry, authority: Authority) -> Iterator[RunningMirror]:
    directory = tmp_path_factory.mktemp("tls")
    args = ["--allow-anonymous-push"]
    with RunningMirror(directory, upstreams={"docker.io": zoo.url}, args=args, authority=authority) as running:
        yield running


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Toolbox]:
    with toolbox(tmp_path_factory.mktemp("tools")) as running:
        (running.directory / "certs").mkdir()
        (running.directory / "certs" / "ca.crt").write_bytes(authority.ca_file.read_bytes())
        yield running


def ask(mirror: RunningMirror, path: str, method: str = "GET", **headers: str) -> Answer:
    sent = {"Accept": MANIFEST_TYPES, **headers}
    return fetch(f"{mirror.base_url}{path}", method=method, headers=sent, tls=mirror.tls)


def test_a_miss_a_join_and_a_hit_bring_the_same_bytes(mirror: RunningMirror) -> None:
    assert ask(mirror, f"{APP}/manifests/latest").digest == IMAGE.digest
    answers: list[Answer] = []
    clients = [threading.Thread(target=lambda: answers.append(ask(mirror, f"{APP}/blobs/{BIG}"))) for _ in range(4)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(30.0)
    answers.append(ask(mirror, f"{APP}/blobs/{BIG}"))
    assert [answer.digest for answer in answers] == [BIG] * 5
    for answer in answers:
        assert answer.promised_bytes == len(answer.body)
        assert "transfer-encoding" not in answer.headers


def test_ranges_heads_and_conditions(mirror: RunningMirror) -> None:
    data = IMAGE.blobs[BIG]
    ask(mirror, f"{APP}/blobs/{BIG}")
    for header, expected in {
        "bytes=0-": data,
        "bytes=700000-1700000": data[700_000:1_700_001],
        "bytes=-5": data[-5:],
    }.items():
        answer = ask(mirror, f"{APP}/blobs/{BIG}", Range=header)
        assert (answer.status, answer.body) == (206, expected)
    head = ask(mirror, f"{APP}/blobs/{BIG}", "HEAD")
    assert (head.status, head.promised_bytes) == (200, len(data))
    for path in (f"{APP}/blobs/{BIG}", f"{APP}/manifests/{IMAGE.digest}"):
        assert ask(mirror, path, **{"If-None-Match": "*"}).status == 304


def test_a_client_that_does_not_trust_the_authority_gets_nothing(mirror: RunningMirror) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        fetch(f"{mirror.base_url}/v2/", tls=ssl.create_default_context())
    assert fetch(f"http://{mirror.host}/v2/").status in {0, 400}


def test_skopeo_pulls_and_pushes_with_the_authority(mirror: RunningMirror, tools: Toolbox, tmp_path: Path) -> None:
    image = images.runnable(seed="tls-push")
    images.write_layout(image, tmp_path / "layout")
    certs = str(tools.directory / "certs")
    target = f"docker://{mirror.host}/team/secure:1"
    tools.skopeo("copy", "--dest-cert-dir", certs, f"oci:{tmp_path / 'layout'}:latest", target)
    tools.skopeo("copy", "--src-cert-dir", certs, target, f"dir:{tmp_path / 'back'}")
    assert (tmp_path / "back" / "manifest.json").read_bytes() == image.root.data
    with pytest.raises(ProcessFailedError, match="certificate"):
        tools.skopeo("inspect", "--raw", target)


def test_status_says_https(mirror: RunningMirror) -> None:
    assert f"https://{mirror.host}" in mirror.cli("status")


def test_with_a_client_authority_only_its_clients_are_answered(
    tmp_path: Path, zoo: ZooRegistry, authority: Authority
) -> None:
    clients = Authority(tmp_path / "clients")
    credential = clients.issue("client")
    running = RunningMirror(
        tmp_path / "mirror",
        upstreams={"docker.io": zoo.url},
        args=["--tls-ca", str(clients.ca_file)],
        authority=authority,
        workers=1,
    )
    assert running.tls is not None
    running.tls.load_cert_chain(credential.cert_file, credential.key_file)
    with running:
        assert ask(running, f"{APP}/manifests/latest").status == 200
        try:
            stranger = fetch(f"{running.base_url}/v2/", tls=authority.client_context())
        except OSError:
            return
        assert stranger.status == 0
