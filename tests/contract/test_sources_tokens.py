"""Challenges and tokens against real local servers: who sees which secret, and how often one is asked for."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hunqi.mirror.names import Target
from hunqi.mirror.sources.errors import Forbidden, SourceMisbehaves, SourceServerError, TooManyRequests, Unauthorized
from hunqi.oci.reference import Tag
from support_sources import Answer, Authority, Seen, Server, blob, blob_answer, read, serving, source_of

DATA = b"blob" * 1000
LATEST = Tag("latest")
BASIC = "Basic " + base64.b64encode(b"user:hush").decode()


def target(repository: str = "library/thing") -> Target:
    return Target("up.test", repository)


class Registry:
    """A registry that wants tokens, and the token service that issues them."""

    def __init__(self) -> None:
        self.expires_in: float | None = 300
        self.issue: Any = None
        self.challenge = 'Bearer realm="{realm}",service="reg",scope="{scope}"'
        self.valid: set[str] = set()
        self.count = 0
        self.tokens = Server(self._token)
        self.registry = Server(self._answer)
        self.realm = f"{self.tokens.url}/token"

    def _token(self, seen: Seen) -> Answer:
        if self.issue is not None:
            answer = self.issue(seen)
            if answer is not None:
                return answer
        self.count += 1
        token = f"t{self.count}:{seen.query.get('scope', [''])[0]}"
        self.valid.add(token)
        document: dict[str, object] = {"token": token}
        if self.expires_in is not None:
            document["expires_in"] = self.expires_in
        return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _answer(self, seen: Seen) -> Answer:
        repository = "/".join(seen.path.split("/")[2:-2])
        scope = f"repository:{repository}:pull"
        token = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.valid or not token.endswith(scope):
            challenge = self.challenge.format(realm=self.realm, scope=scope)
            return Answer(401, b'{"errors":[]}', {"WWW-Authenticate": challenge})
        return blob_answer(seen, DATA)

    def close(self) -> None:
        self.tokens.close()
        self.registry.close()


@pytest.fixture
def world() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    registry.close()


@pytest.fixture
def config(tmp_path: Path, world: Registry) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {world.registry.netloc: {"username": "user", "password": "hush"}}}))
    return path


def test_a_token_is_fetched_once_and_used_again(world: Registry) -> None:
    with source_of(world.registry.url) as source:
        for start in (0, 1, 2):
            with source.open_blob(blob(DATA), start=start) as stream:
                assert read(stream) == DATA[start:]
        assert world.count == 1
        assert len(world.registry.seen) == 4, "one 401 and then none"
        assert world.tokens.seen[0].query == {"service": ["reg"], "scope": ["repository:library/thing:pull"]}
        assert "authorization" not in world.tokens.seen[0].headers


def test_the_next_repository_needs_no_401_first(world: Registry) -> None:
    with source_of(world.registry.url) as source:
        source.head_manifest(target(), LATEST)
        source.head_manifest(target("library/other"), LATEST)
        assert world.count == 2
        assert len(world.registry.seen) == 3


def test_many_threads_make_one_flight(world: Registry) -> None:
    def slowly(_: Seen) -> None:
        time.sleep(0.2)

    world.issue = slowly
    with source_of(world.registry.url) as source:
        threads = [threading.Thread(target=source.head_manifest, args=(target(), LATEST)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert world.count == 1


def test_tokens_end_before_they_expire(world: Registry) -> None:
    now = [0.0]
    world.expires_in = 300
    with source_of(world.registry.url, clock=lambda: now[0]) as source:
        source.head_manifest(target(), LATEST)
        now[0] = 289.0
        source.head_manifest(target(), LATEST)
        assert world.count == 1
        now[0] = 291.0
        source.head_manifest(target(), LATEST)
        assert world.count == 2
        assert len(world.registry.seen) == 4, "the new token came without a 401"


def test_a_token_without_a_life_lives_a_minute(world: Registry) -> None:
    now = [0.0]
    world.expires_in = None
    with source_of(world.registry.url, clock=lambda: now[0]) as source:
        source.head_manifest(target(), LATEST)
        now[0] = 49.0
        source.head_manifest(target(), LATEST)
        now[0] = 51.0
        source.head_manifest(target(), LATEST)
        assert world.count == 2


def test_a_rejected_token_is_replaced_once(world: Registry) -> None:
    with source_of(world.registry.url) as source:
        source.head_manifest(target(), LATEST)
        world.valid.clear()
        source.head_manifest(target(), LATEST)
        assert world.count == 2


def test_a_401_loop_ends(world: Registry) -> None:
    with source_of(world.registry.url) as source:
        world.registry.respond = lambda _: Answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{world.realm}"'})
        with pytest.raises(Unauthorized):
            source.head_manifest(target(), LATEST)
        assert len(world.registry.seen) == 2
        with pytest.raises(Unauthorized):
            source.head_manifest(target(), LATEST)
        assert len(world.registry.seen) == 4


@pytest.mark.parametrize("challenge", [None, "Negotiate", "Basic", 'Bearer realm="gopher://x/"', "Bearer"])
def test_an_unanswerable_challenge_is_unauthorized(challenge: str | None) -> None:
    headers = {"WWW-Authenticate": challenge} if challenge else {}
    with (
        serving(lambda _: Answer(401, b"", headers)) as server,
        source_of(server.url) as source,
        pytest.raises(Unauthorized),
    ):
        source.head_manifest(target(), LATEST)


def test_credentials_go_to_the_realm_and_never_to_the_registry(world: Registry, config: Path) -> None:
    with source_of(world.registry.url, credentials_file=config) as source:
        source.head_manifest(target(), LATEST)
        assert world.tokens.seen[0].headers["authorization"] == BASIC
        assert world.tokens.seen[0].query["account"] == ["user"]
        assert not any("Basic" in seen.headers.get("authorization", "") for seen in world.registry.seen)


def test_anonymous_questions_use_no_credentials_and_no_token_of_theirs(world: Registry, config: Path) -> None:
    with source_of(world.registry.url, credentials_file=config) as source:
        source.head_manifest(target(), LATEST)
        source.head_manifest(target(), LATEST, anonymous=True)
        assert world.count == 2
        assert "authorization" not in world.tokens.seen[1].headers
        assert "account" not in world.tokens.seen[1].query
        assert world.registry.seen[-1].headers["authorization"].startswith("Bearer t2:")


def test_an_evil_realm_gets_no_credentials(world: Registry, config: Path) -> None:
    evil = Server(world._token)
    evil_by_name = f"http://localhost:{evil.port}/token"
    world.realm = evil_by_name
    try:
        with source_of(world.registry.url, credentials_file=config) as source:
            source.head_manifest(target(), LATEST)
        assert evil.seen
        assert all("authorization" not in seen.headers and "account" not in seen.query for seen in evil.seen)
    finally:
        evil.close()


def test_a_realm_in_clear_is_not_asked_by_an_https_registry(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    with serving(lambda _: Answer(200, b'{"token":"t"}')) as realm:
        headers = {"WWW-Authenticate": f'Bearer realm="{realm.url}/token"'}
        context = authority.server_context()
        with (
            serving(lambda _: Answer(401, b"", headers), context=context) as server,
            source_of(server.url, ca_file=authority.ca_file) as source,
            pytest.raises(Unauthorized),
        ):
            source.head_manifest(target(), LATEST)
        assert not realm.seen


def test_a_realm_that_redirects_is_not_followed(world: Registry, config: Path) -> None:
    with serving(lambda _: Answer(200, b'{"token":"t"}')) as other:
        world.issue = lambda _: Answer(307, b"", {"Location": f"{other.url}/token"})
        with source_of(world.registry.url, credentials_file=config) as source, pytest.raises(SourceMisbehaves):
            source.head_manifest(target(), LATEST)
        assert not other.seen


def test_the_token_stays_behind_on_a_redirect(world: Registry) -> None:
    with serving(lambda seen: blob_answer(seen, DATA)) as cdn:
        answer = world.registry.respond

        def redirect(seen: Seen) -> Answer:
            first = answer(seen)
            return first if first.status == 401 else Answer(307, b"", {"Location": f"{cdn.url}/x"})

        world.registry.respond = redirect
        with source_of(world.registry.url) as source, source.open_blob(blob(DATA)) as stream:
            assert read(stream) == DATA
        assert world.registry.seen[-1].headers["authorization"].startswith("Bearer ")
        assert "authorization" not in cdn.seen[0].headers, "another port is another host"


def test_a_401_of_the_redirected_host_is_not_answered(world: Registry, config: Path) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{world.realm}"'}
    with serving(lambda _: Answer(401, b"", challenge)) as cdn:
        world.registry.respond = lambda _: Answer(302, b"", {"Location": f"{cdn.url}/x"})
        with source_of(world.registry.url, credentials_file=config) as source, pytest.raises(Unauthorized):
            source.open_blob(blob(DATA))
        assert len(cdn.seen) == 1
        assert world.count == 0


def test_basic_registries_get_basic_and_at_once_the_next_time(config: Path, world: Registry) -> None:
    def respond(seen: Seen) -> Answer:
        if seen.headers.get("authorization") != BASIC:
            return Answer(401, b"", {"WWW-Authenticate": 'Basic realm="here"'})
        return blob_answer(seen, DATA)

    world.registry.respond = respond
    with source_of(world.registry.url, credentials_file=config) as source:
        source.head_manifest(target(), LATEST)
        source.head_manifest(target("a/b"), LATEST)
        assert len(world.registry.seen) == 3
        with pytest.raises(Unauthorized):
            source.head_manifest(target(), LATEST, anonymous=True)
        assert "authorization" not in world.registry.seen[-1].headers


def test_wrong_basic_credentials_end(config: Path, world: Registry) -> None:
    world.registry.respond = lambda _: Answer(401, b"", {"WWW-Authenticate": "Basic"})
    with source_of(world.registry.url, credentials_file=config) as source:
        for _ in range(2):
            with pytest.raises(Unauthorized):
                source.head_manifest(target(), LATEST)
    assert len(world.registry.seen) == 3


def test_identity_tokens_are_exchanged_by_post(world: Registry, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {world.registry.netloc: {"identitytoken": "hush"}}}))

    def issue(seen: Seen) -> Answer | None:
        world.valid.add("acc:repository:library/thing:pull")
        assert seen.method == "POST"
        return Answer(200, b'{"access_token":"acc:repository:library/thing:pull","expires_in":60}')

    world.issue = issue
    with source_of(world.registry.url, credentials_file=path) as source:
        source.head_manifest(target(), LATEST)
    seen = world.tokens.seen[0]
    assert b"grant_type=refresh_token" in seen.body
    assert b"refresh_token=hush" in seen.body
    assert "hush" not in seen.path + str(seen.query) + str(seen.headers)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(401), Unauthorized),
        (Answer(403), Forbidden),
        (Answer(429, b"", {"Retry-After": "3"}), TooManyRequests),
        (Answer(503), SourceServerError),
        (Answer(200, b"<html>"), SourceMisbehaves),
        (Answer(200, b"[]"), SourceMisbehaves),
        (Answer(200, b'{"token": 5}'), SourceMisbehaves),
        (Answer(200, b'{"token": "a\\r\\nb"}'), SourceMisbehaves),
        (Answer(200, b'{"token": "x"}' + b" " * 300_000), SourceMisbehaves),
    ],
)
def test_a_token_service_that_fails_is_told(world: Registry, answer: Answer, error: type[Exception]) -> None:
    world.issue = lambda _: answer
    with source_of(world.registry.url) as source:
        for _ in range(2):
            with pytest.raises(error):
                source.head_manifest(target(), LATEST)


def test_secrets_are_in_no_error_or_log(world: Registry, config: Path, caplog: pytest.LogCaptureFixture) -> None:
    world.realm = f"http://localhost:{world.tokens.port}/token"
    with source_of(world.registry.url, credentials_file=config) as source:
        source.head_manifest(target(), LATEST)
        world.issue = lambda _: Answer(401)
        world.valid.clear()
        with pytest.raises(Unauthorized) as caught:
            source.head_manifest(target(), LATEST)
    shown = caplog.text + str(caught.value) + repr(caught.value) + repr(source.__dict__)
    assert "credentials withheld" in caplog.text
    for secret in ("hush", BASIC.removeprefix("Basic "), "t1:"):
        assert secret not in shown
