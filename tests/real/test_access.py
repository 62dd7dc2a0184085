"""Who may see what, through the whole mirror: an upstream with private repositories, users, and Docker's own habits."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from testbed import images
from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.mirror import RunningMirror
from testbed.processes import wait_for
from testbed.registry import Auth, RealRegistry, real_registry
from testbed.wire import Break, Fault

pytestmark = pytest.mark.real
OPEN = images.layered([200_000], seed="access-open")
UNSEEN = images.layered([100_000], seed="access-unseen")
SECRET = images.layered([150_000], seed="access-secret")
HIDDEN_LAYER = images.payload_layer(6 * images.MIB, seed="access-hidden")
HIDDEN = images.compose([HIDDEN_LAYER])
LURE = images.compose(
    [images.foreign_layer(HIDDEN_LAYER, urls=["http://127.0.0.1:9/layer"], dialect=images.Dialect.OCI)], label="lure"
)
"""Of a public repository: it names a private blob without having it, as anybody can who knows a digest."""
SEED = {
    "corp/hidden:latest": HIDDEN,
    "library/lure:latest": LURE,
    "library/open:latest": OPEN,
    "library/old:7": OPEN,
    "library/unseen:latest": UNSEEN,
    "corp/secret:latest": SECRET,
}
PUBLIC = ("library/lure", "library/open", "library/old", "library/unseen")
HUB_NAME, HUB_PASSWORD = "hubaccount", "dckr-pat-of-somebody"


@dataclass(frozen=True)
class Company:
    """A mirror with credentials of its upstream and with users."""

    mirror: RunningMirror
    world: RealRegistry

    def get(self, path: str, *, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        url = self.mirror.base_url + path
        return fetch(url, method=method, headers={"Accept": MANIFEST_TYPES, **(headers or {})})

    def token(self, credentials: dict[str, str], *scopes: str) -> Answer:
        query = urlencode([("service", "hunqi"), *(("scope", scope) for scope in scopes)])
        return self.get(f"/token?account={HUB_NAME}&{query}", headers=credentials)

    def form(self, **fields: str) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return fetch(f"{self.mirror.base_url}/token", method="POST", headers=headers, body=urlencode(fields).encode())


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def bearer(answer: Answer) -> dict[str, str]:
    assert answer.status == 200, answer.body
    return {"Authorization": f"Bearer {json.loads(answer.body)['access_token']}"}


ADA = basic("ada", "sesame")
DAVE = basic("dave", "kept-out")
HUB = basic(HUB_NAME, HUB_PASSWORD)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    directory = tmp_path_factory.mktemp("company")
    with real_registry(directory / "world", auth=Auth.BEARER, public=PUBLIC, seed=SEED) as world:
        secret = base64.b64encode(f"{world.user}:{world.password}".encode()).decode()
        file = directory / "credentials.json"
        file.write_text(json.dumps({"auths": {world.host: {"auth": secret}}}))
        file.chmod(0o600)
        config = (
            f'[mirror.upstreams."docker.io"]\nurl = "{world.url}"\ncredentials-file = "{file}"\n'
            '[mirror.tags]\nnegative = "1s"\n'
        )
        mirror = RunningMirror(directory / "mirror", config=config, args=["--local", "team"], workers=1)
        mirror.add_user("ada", "sesame", "team:pull,push,delete", "docker.io/corp:pull")
        mirror.add_user("dave", "kept-out", "other:pull,push")
        with mirror:
            yield Company(mirror, world)


def test_a_hub_password_gets_the_anonymous_token_of_a_public_pull_and_goes_nowhere(company: Company) -> None:
    """As Docker does at a ``registry-mirrors`` endpoint: 401, a token with what it has of Docker Hub, the pull."""
    assert company.get("/v2/").headers["www-authenticate"].startswith("Bearer ")
    token = bearer(company.token(HUB, "repository:library/open:pull"))
    assert company.get("/v2/library/open/manifests/latest", headers=token).status == 200
    assert company.get(f"/v2/library/open/blobs/{OPEN.layers[0]}", headers=token).digest == OPEN.layers[0]
    assert company.get("/v2/library/open/manifests/latest", headers=HUB).status == 200
    assert company.token(HUB).status == 401, "docker login"
    assert company.token(HUB, "repository:team/app:pull,push").status == 401, "docker push"
    nothing = bearer(company.token(HUB, "repository:docker.io/corp/secret:pull"))
    assert company.get("/v2/docker.io/corp/secret/manifests/latest", headers=nothing).status == 401
    assert_unknown_everywhere(company, HUB_PASSWORD, HUB["Authorization"].split()[1], HUB_NAME)


def test_an_identity_token_of_another_registry_is_a_stranger_too(company: Company) -> None:
    """Docker hands that on as well, when one logged in to Docker Hub through a browser."""
    foreign = "identity-token-of-docker-hub"
    fields = {"grant_type": "refresh_token", "refresh_token": foreign, "service": "hunqi", "client_id": "docker"}
    token = bearer(company.form(**fields, scope="repository:library/open:pull"))
    assert company.get("/v2/library/open/manifests/latest", headers=token).status == 200
    assert company.form(**fields).status == 401
    assert_unknown_everywhere(company, foreign)


def assert_unknown_everywhere(company: Company, *secrets: str) -> None:
    """Neither logged nor stored, and nobody upstream heard of it."""
    time.sleep(0.5)  # access lines are gathered for a quarter of a second
    heard = [str(record.headers) for record in company.world.wire.records()]
    assert heard
    if company.world.tokens is not None:
        heard += [f"{record.target} {record.headers}" for record in company.world.tokens.server.requests()]
    files = [path for path in company.mirror.directory.rglob("*") if path.is_file()]
    for secret in secrets:
        assert not [text for text in heard if secret in text]
        assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_a_form_with_a_name_and_password_is_a_login(company: Company) -> None:
    fields = {"grant_type": "password", "username": "ada", "service": "hunqi", "scope": "repository:team/app:push"}
    assert company.form(**fields, password="sesame").status == 200
    assert company.form(**fields, password="wrong").status == 401


@pytest.mark.parametrize("body", [b"a" * 200_000, b"&".join(b"a=1" for _ in range(200)), b"\xff"])
def test_a_form_that_is_none_is_refused(company: Company, body: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = fetch(f"{company.mirror.base_url}/token", method="POST", headers=headers, body=body)
    assert answer.status in (400, 401, 413), answer.body


def test_a_public_repository_without_latest_is_pulled_by_who_asks_for_a_token_first(company: Company) -> None:
    """The token endpoint does not know the tag; that ``latest`` is not there must not decide about ``7``."""
    token = bearer(company.token({}, "repository:docker.io/library/old:pull"))
    assert company.get("/v2/docker.io/library/old/manifests/7", headers=token).status == 200


def test_the_catalogue_names_to_each_what_it_may_pull(company: Company) -> None:
    assert company.get("/v2/docker.io/library/open/manifests/latest").status == 200
    assert company.get("/v2/docker.io/corp/secret/manifests/latest", headers=ADA).status == 200
    assert company.get("/v2/_catalog").status == 401
    of_ada = json.loads(company.get("/v2/_catalog", headers=ADA).body)["repositories"]
    of_dave = json.loads(company.get("/v2/_catalog", headers=DAVE).body)["repositories"]
    assert "docker.io/corp/secret" in of_ada
    assert "docker.io/corp/secret" not in of_dave
    assert "docker.io/library/open" in of_dave
    token = bearer(company.token(DAVE, "registry:catalog:*"))
    assert json.loads(company.get("/v2/_catalog", headers=token).body)["repositories"] == of_dave


def test_a_private_blob_is_not_seen_through_a_public_repository(company: Company) -> None:
    private = f"/v2/docker.io/corp/secret/blobs/{SECRET.layers[0]}"
    assert company.get("/v2/docker.io/corp/secret/manifests/latest", headers=ADA).status == 200
    assert company.get(private, headers=ADA).digest == SECRET.layers[0]
    for headers in ({}, DAVE, HUB):
        assert company.get(private, headers=headers).status in (401, 403)
        for method in ("GET", "HEAD"):
            elsewhere = f"/v2/docker.io/library/open/blobs/{SECRET.layers[0]}"
            assert company.get(elsewhere, headers=headers, method=method).status == 404
    query = urlencode({"mount": SECRET.layers[0], "from": "docker.io/corp/secret"})
    assert company.get(f"/v2/other/app/blobs/uploads/?{query}", headers=DAVE, method="POST").status == 202
    assert company.get(f"/v2/other/app/blobs/{SECRET.layers[0]}", headers=DAVE).status == 404
    assert company.get(f"/v2/team/app/blobs/uploads/?{query}", headers=ADA, method="POST").status == 201


def test_a_private_blob_is_not_seen_while_it_is_fetched_by_who_only_names_it(company: Company) -> None:
    assert company.get("/v2/docker.io/library/lure/manifests/latest").status == 200
    assert company.get("/v2/docker.io/corp/hidden/manifests/latest", headers=ADA).status == 200
    digest = HIDDEN_LAYER.digest
    company.world.wire.set_link(pace_bytes_s=2 * images.MIB)
    try:
        with ThreadPoolExecutor(1) as pool:
            rightful = pool.submit(company.get, f"/v2/docker.io/corp/hidden/blobs/{digest}", headers=ADA)
            wait_for(
                lambda: company.mirror.metrics()["hunqi_mirror_fetches_in_flight"] > 0,
                timeout_s=10.0,
                what="the download",
            )
            stranger = company.get(f"/v2/docker.io/library/lure/blobs/{digest}")
            assert not rightful.done(), "asked too late to show anything"
            assert stranger.status == 404
            assert HIDDEN_LAYER.data[1000:2000] not in stranger.body
            assert rightful.result().digest == digest
    finally:
        company.world.wire.set_link()
    assert company.get(f"/v2/docker.io/library/lure/blobs/{digest}").status == 404


def test_what_cannot_be_decided_is_private_until_it_can(company: Company) -> None:
    path = "/v2/docker.io/library/unseen/manifests/latest"
    company.world.wire.inject(Fault(kind=Break.STATUS, status=503, pattern="/unseen/"))
    assert company.get(path).status in (401, 403)
    company.world.wire.heal()
    time.sleep(1.1)
    wait_until = time.monotonic() + 15.0
    while company.get(path).status != 200:
        assert time.monotonic() < wait_until, "the upstream is well again"
        time.sleep(0.3)


def test_users_and_grants_take_effect_at_once(company: Company) -> None:
    def may_pull(headers: dict[str, str]) -> bool:
        return company.get("/v2/team/none/tags/list", headers=headers).status == 404

    company.mirror.add_user("eve", "first", "team:pull")
    eve = basic("eve", "first")
    token = bearer(company.token(eve, "repository:team/none:pull"))
    assert may_pull(eve)
    assert may_pull(token)
    company.mirror.cli("user", "grant", "eve", "elsewhere:pull")
    assert not may_pull(eve)
    assert not may_pull(token)
    company.mirror.cli("user", "grant", "eve", "team:pull")
    assert may_pull(token)
    company.mirror.cli("user", "rm", "eve")
    assert not may_pull(eve)
    assert not may_pull(token)


def test_guessing_passwords_holds_up_nobody(company: Company) -> None:
    assert company.get("/v2/", headers=ADA).status == 200
    with ThreadPoolExecutor(80) as pool:
        guesses = [pool.submit(company.get, "/v2/", headers=basic("ada", f"guess-{n}")) for n in range(300)]
        begun = time.monotonic()
        assert company.get("/v2/", headers=ADA).status == 200
        assert company.get("/healthz").status == 200
        took = time.monotonic() - begun
        statuses = [guess.result().status for guess in guesses]
    assert set(statuses) <= {401, 503}
    assert 503 in statuses, "a line without end"
    assert took < 5.0
    answer = company.get("/v2/", headers=DAVE)
    assert answer.status == 200
