"""Upstream credentials through the whole mirror: from a file or a helper, shown to nobody but their owner."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest

from testbed import images
from testbed.client import MANIFEST_TYPES, Answer, fetch
from testbed.mirror import RunningMirror
from testbed.server import Exchange, Server
from testbed.zoo import ANIMALS, ZooRegistry

IMAGE = images.opaque([50_000], seed="credentials")
BLOB = IMAGE.layers[0]
PASSWORD: Final = "s3cret-word"
BASIC: Final = "Basic " + base64.b64encode(f"robot:{PASSWORD}".encode()).decode()
HELPER: Final = """#!/bin/sh
read host
echo "$1 $host" >> "{calls}"
if [ "$host" = "{host}" ]; then
  printf '{{"ServerURL":"%s","Username":"robot","Secret":"{password}"}}' "$host"
else
  echo "credentials not found in native keychain"
  exit 1
fi
"""


class Private:
    """A registry that wants a token which only the robot gets, and keeps its blobs on another host."""

    def __init__(self, *, realm_host: str = "127.0.0.1") -> None:
        self.zoo = ZooRegistry([IMAGE], ANIMALS["redirects-elsewhere"])
        self.tokens = Server(self._give_token)
        self.server = Server(self._answer)
        self.realm_host = realm_host

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def shown(self, server: Server) -> list[str | None]:
        """Return what each request to ``server`` carried as Authorization."""
        return [record.headers.get("authorization") for record in server.records]

    def _give_token(self, exchange: Exchange) -> None:
        header = exchange.header("authorization")
        scope = parse_qs(urlsplit(exchange.record.target).query).get("scope", [""])[0]
        if header not in (None, BASIC):
            exchange.reply(401, b"{}")
            return
        word = "robot" if header else "nobody"
        exchange.reply(200, json.dumps({"token": f"{word}-{scope.replace(':', '-')}", "expires_in": 300}).encode())

    def _answer(self, exchange: Exchange) -> None:
        repository = exchange.path.removeprefix("/v2/").partition("/manifests/")[0].partition("/blobs/")[0]
        wanted = f"repository:{repository}:pull"
        if exchange.header("authorization") != f"Bearer robot-{wanted.replace(':', '-')}":
            realm = f"http://{self.realm_host}:{self.tokens.port}/token"
            challenge = f'Bearer realm="{realm}",service="private",scope="{wanted}"'
            exchange.reply(401, b"{}", {"WWW-Authenticate": challenge})
            return
        self.zoo.answer(exchange)


@contextmanager
def private(**options: str) -> Iterator[Private]:
    made = Private(**options)
    with made.zoo, made.tokens, made.server:
        yield made


def docker_config(path: Path, host: str) -> Path:
    path.write_text(json.dumps({"auths": {host: {"auth": BASIC.removeprefix("Basic ")}}}))
    return path


@contextmanager
def mirror_of(directory: Path, world: Private, keys: str, **env: str) -> Iterator[RunningMirror]:
    config = f'[mirror.upstreams."private.test"]\nurl = "http://{world.host}"\n{keys}\n'
    running = RunningMirror(directory, config=config, env=env, workers=1)
    running.add_user("dev", "pw", "private.test/team:pull")
    with running:
        yield running


def ask(mirror: RunningMirror, rest: str, *, user: str | None = "dev:pw") -> Answer:
    headers = {"Accept": MANIFEST_TYPES}
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    return fetch(f"{mirror.base_url}/v2/private.test/team/app/{rest}", headers=headers)


def pulls(mirror: RunningMirror) -> bool:
    answers = ask(mirror, "manifests/latest"), ask(mirror, f"blobs/{BLOB}")
    return [answer.digest for answer in answers] == [IMAGE.digest, BLOB]


def write_helper(directory: Path, host: str) -> Path:
    directory.mkdir()
    helper = directory / "docker-credential-testbed"
    helper.write_text(HELPER.format(calls=directory / "calls", host=host, password=PASSWORD))
    helper.chmod(0o755)
    return directory


@pytest.mark.parametrize("way", ["file", "helper"])
def test_a_private_repository_is_pulled_with_the_mirrors_credentials(tmp_path: Path, way: str) -> None:
    with private() as world:
        path = write_helper(tmp_path / "bin", world.host)
        config = docker_config(tmp_path / "config.json", world.host)
        keys = f'credentials-file = "{config}"' if way == "file" else 'credential-helper = "testbed"'
        with mirror_of(tmp_path / "mirror", world, keys, PATH=f"{path}:{os.environ['PATH']}") as mirror:
            assert pulls(mirror)
            assert ask(mirror, "manifests/latest", user=None).status == 401  # ours are not everybody's
            assert ask(mirror, f"blobs/{BLOB}", user=None).status == 401
            log = mirror.log.read_text()
        assert BASIC in world.shown(world.tokens)
        assert not any((shown or "").startswith("Basic") for shown in world.shown(world.server))
        assert world.zoo.elsewhere.records  # the blob came from the other host
        assert set(world.shown(world.zoo.elsewhere)) == {None}
        assert PASSWORD not in log
        assert BASIC not in log
        if way == "helper":
            assert set((path / "calls").read_text().splitlines()) == {f"get {world.host}"}


def test_credentials_are_withheld_from_a_realm_of_another_domain(tmp_path: Path) -> None:
    with private(realm_host="localhost") as world:
        config = docker_config(tmp_path / "config.json", world.host)
        with mirror_of(tmp_path / "mirror", world, f'credentials-file = "{config}"') as mirror:
            assert ask(mirror, "manifests/latest").status == 403
            assert "another domain" in mirror.log.read_text()
        assert world.tokens.records
        assert set(world.shown(world.tokens)) == {None}


@pytest.mark.parametrize("fault", ["missing", "fails", "nonsense"])
def test_a_helper_that_fails_is_told_and_nobody_is_asked_with_less(tmp_path: Path, fault: str) -> None:
    scripts = {"fails": "#!/bin/sh\necho broken >&2\nexit 1\n", "nonsense": "#!/bin/sh\necho hello\n"}
    (tmp_path / "bin").mkdir()
    if fault in scripts:
        (tmp_path / "bin" / "docker-credential-testbed").write_text(scripts[fault])
        (tmp_path / "bin" / "docker-credential-testbed").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    with private() as world, mirror_of(tmp_path / "m", world, 'credential-helper = "testbed"', PATH=path) as mirror:
        answer = ask(mirror, "manifests/latest")
        assert (answer.status, b"docker-credential-testbed" in answer.body) == (502, True)


def test_credentials_that_change_in_the_file_count_at_once(tmp_path: Path) -> None:
    with private() as world:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {}}))
        with mirror_of(tmp_path / "mirror", world, f'credentials-file = "{config}"') as mirror:
            assert ask(mirror, "manifests/latest").status == 403
            docker_config(config, world.host)
            assert pulls(mirror)
