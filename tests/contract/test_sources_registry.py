"""The source against the real docker-registry 2.8 that demands Bearer tokens."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from hunqi.mirror.names import Target
from hunqi.mirror.settings import Deadlines
from hunqi.mirror.sources.errors import NotFound, RangeNotSatisfiable, Unauthorized
from hunqi.oci.digest import Digest
from hunqi.oci.manifest import OCI_MANIFEST
from hunqi.oci.reference import Tag
from support_sources import Answer, Authority, Seen, Server, blob, read, serving, source_of

PROGRAM = shutil.which("docker-registry")
pytestmark = [pytest.mark.real, pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed")]

DATA = secrets.token_bytes(1 << 20)
PRIVATE = secrets.token_bytes(1000)
BASIC = "Basic " + base64.b64encode(b"user:hush").decode()
CALM = Deadlines(connect_s=3, first_byte_s=10, stall_s=10)
CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: "{root}"}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{token: {{realm: "{realm}/token", service: reg, issuer: issuer, rootcertbundle: "{bundle}"}}}}
"""


@dataclass(frozen=True)
class World:
    url: str
    netloc: str
    tokens: Server
    manifest: bytes


class TokenService:
    """Issues what docker-registry verifies; ``private/…`` is for those with the password."""

    def __init__(self, authority: Authority) -> None:
        cert_file, key_file = authority.issue("tokens")
        self._key = key_file.read_bytes()
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        self._x5c = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()

    def answer(self, seen: Seen) -> Answer:
        known = seen.headers.get("authorization") == BASIC
        scopes = [
            scope for scope in seen.query.get("scope", []) if known or not scope.startswith("repository:private/")
        ]
        return Answer(200, json.dumps({"token": self.issue(scopes), "expires_in": 120}).encode())

    def issue(self, scopes: list[str]) -> str:
        access: list[dict[str, object]] = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {
            "iss": "issuer",
            "sub": "",
            "aud": "reg",
            "exp": now + 120,
            "nbf": now - 10,
            "iat": now,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode({**claims, "access": access}, self._key, algorithm="ES256", headers={"x5c": [self._x5c]})


def send(method: str, url: str, data: bytes, token: str, content_type: str = "application/octet-stream") -> str:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return reply.headers.get("Location") or ""


def push(url: str, repository: str, data: bytes, token: str) -> None:
    location = send("POST", f"{url}/v2/{repository}/blobs/uploads/", b"", token)
    send("PUT", f"{location}&digest={Digest.of(data)}", data, token)


def wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        assert process.poll() is None, "docker-registry ended"
        try:
            urllib.request.urlopen(f"{url}/v2/", timeout=1).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("docker-registry does not answer")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("registry")
    authority = Authority.create(folder / "ca")
    service = TokenService(authority)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with serving(service.answer) as tokens:
        config = folder / "config.yml"
        config.write_text(CONFIG.format(root=folder / "data", port=port, realm=tokens.url, bundle=authority.ca_file))
        assert PROGRAM is not None
        process = subprocess.Popen(
            [PROGRAM, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_it_answers(url, process)
            yield World(url, f"127.0.0.1:{port}", tokens, fill(url, service))
        finally:
            process.terminate()
            process.wait(10)


def fill(url: str, service: TokenService) -> bytes:
    token = service.issue([f"repository:{name}:pull,push" for name in ("library/thing", "private/thing")])
    config = b"{}"
    for data in (DATA, config):
        push(url, "library/thing", data, token)
    push(url, "private/thing", PRIVATE, token)
    descriptor = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": str(Digest.of(config)),
        "size": len(config),
    }
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": str(Digest.of(DATA)), "size": len(DATA)}
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor, "layers": [layer]}
    ).encode()
    send("PUT", f"{url}/v2/library/thing/manifests/latest", manifest, token, OCI_MANIFEST)
    return manifest


THING = Target("up.test", "library/thing")


def test_a_public_image_is_read_anonymously(world: World) -> None:
    with source_of(world.url, deadlines=CALM) as source:
        assert source.probe() < 5
        head = source.head_manifest(THING, Tag("latest"))
        assert (head.digest, head.media_type, head.size) == (
            Digest.of(world.manifest),
            OCI_MANIFEST,
            len(world.manifest),
        )
        assert source.get_manifest(THING, Digest.of(world.manifest)).data == world.manifest
        assert source.head_blob(blob(DATA)) == len(DATA)
        assert json.loads(source.get_document(THING, "tags/list").data) == {"name": "library/thing", "tags": ["latest"]}


def test_blobs_arrive_in_ranges_with_one_token(world: World) -> None:
    before = len(world.tokens.seen)
    with source_of(world.url, deadlines=CALM) as source:
        etag = None
        for start, end in ((0, None), (1000, 5000), (len(DATA) - 7, None)):
            with source.open_blob(blob(DATA), start=start, end=end, if_match_etag=etag) as stream:
                assert read(stream) == DATA[start:end]
                assert (stream.start, stream.total_size) == (start, len(DATA))
                etag = stream.etag
        with pytest.raises(RangeNotSatisfiable):
            source.open_blob(blob(DATA), start=len(DATA) + 5)
    assert len(world.tokens.seen) == before + 1


def test_what_is_not_there_is_not_found(world: World) -> None:
    with source_of(world.url, deadlines=CALM) as source:
        with pytest.raises(NotFound):
            source.open_blob(blob(b"nothing"))
        with pytest.raises(NotFound):
            source.head_manifest(THING, Tag("nope"))


def test_a_private_repository_needs_the_credentials(world: World, tmp_path: Path) -> None:
    wanted = blob(PRIVATE, "private/thing")
    with source_of(world.url, deadlines=CALM) as source, pytest.raises(Unauthorized):
        source.open_blob(wanted)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {world.netloc: {"username": "user", "password": "hush"}}}))
    with source_of(world.url, deadlines=CALM, credentials_file=path) as source:
        with source.open_blob(wanted) as stream:
            assert read(stream) == PRIVATE
        with pytest.raises(Unauthorized):
            source.head_manifest(wanted.home, Tag("latest"), anonymous=True)
