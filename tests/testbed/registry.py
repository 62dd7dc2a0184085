"""The real ``docker-registry`` 2.8.2 as an upstream, behind a counting :class:`~testbed.wire.Wire`.

Options: https with an authority of the tests' own (ended at the wire), Basic or Bearer authentication, or itself a
pull-through mirror of another registry (the peer to beat in benchmarks).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from testbed.authority import Authority
from testbed.images import Image, Pusher
from testbed.programs import Daemon, run
from testbed.server import Link
from testbed.tokens import ISSUER, SERVICE, Access, TokenServer
from testbed.wire import Wire, apart, within


class Auth(Enum):
    """How a registry knows its clients."""

    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"


@dataclass(slots=True, kw_only=True)
class RealRegistry:
    """A running registry. ``url`` goes through the wire; ``direct_url`` does not (always plain http)."""

    url: str
    direct_url: str
    wire: Wire
    daemon: Daemon
    data: Path
    authority: Authority | None = None
    """Whom clients of an https registry must trust."""
    tokens: TokenServer | None = None
    user: str = "alice"
    password: str = field(default="wonderland", repr=False)
    has_auth: bool = False

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT`` of the wire, as it stands in image references."""
        return self.url.partition("://")[2]

    @property
    def authorization(self) -> str:
        """A ``Basic`` header of the registry's user."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def push(self, image: Image, repository: str, tag: str = "latest") -> str:
        """Push past the wire, so that nothing of it is counted; return ``repository@digest``.

        Not for :attr:`Auth.BEARER`: seed such a registry through :func:`seeded`.
        """
        authorization = self.authorization if self.has_auth else None
        return Pusher(base_url=self.direct_url, authorization=authorization).push(image, repository, tag)


@contextlib.contextmanager
def real_registry(
    directory: Path,
    *,
    auth: Auth = Auth.NONE,
    https: bool = False,
    public: tuple[str, ...] = (),
    link: Link | None = None,
    mirror_of: str | None = None,
    own_process: bool = False,
    seed: Mapping[str, Image] | None = None,
) -> Generator[RealRegistry]:
    """Run a registry in ``directory``.

    ``public`` are the repositories that anybody may pull (Bearer). ``seed`` maps ``repository:tag`` to an image and is
    pushed before authentication is switched on. ``own_process`` runs the wire in a process of its own.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if seed:
        with _running(directory, settings={}, name="seed") as daemon:
            _seed(_address(daemon), seed)
    authority = Authority(directory / "tls") if https else None
    credential = authority.issue("registry") if authority else None
    with contextlib.ExitStack() as stack:
        context = credential.server_context() if credential else None
        access = Access(users={"alice": "wonderland"}, public=set(public))
        tokens = TokenServer(directory / "tokens", access, tls=context) if auth is Auth.BEARER else None
        if tokens:
            stack.enter_context(tokens.server)
        settings = _settings(directory, auth=auth, tokens=tokens, mirror_of=mirror_of)
        daemon = stack.enter_context(_running(directory, settings=settings, name="registry"))
        target = _address(daemon)
        if own_process:
            pem = str(credential.both_file) if credential else None
            link = link or Link()
            wire = stack.enter_context(apart(target, pace_bytes_s=link.pace_bytes_s, latency_s=link.latency_s, pem=pem))
        else:
            wire = stack.enter_context(within(target, link=link, tls=context))
        yield RealRegistry(
            url=wire.url(),
            direct_url=f"http://{target}",
            wire=wire,
            daemon=daemon,
            data=directory / "data",
            authority=authority,
            tokens=tokens,
            has_auth=auth is Auth.BASIC,
        )


def _seed(target: str, images: Mapping[str, Image]) -> None:
    for name, image in images.items():
        repository, _, tag = name.rpartition(":")
        Pusher(base_url=f"http://{target}").push(image, repository, tag)


@contextlib.contextmanager
def _running(directory: Path, *, settings: Mapping[str, object], name: str) -> Generator[Daemon]:
    config = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "data"), "maxthreads": 100},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {"addr": "127.0.0.1:0", "relativeurls": True, "secret": "testbed"},
        "validation": {"manifests": {"urls": {"allow": [".*"]}}},
        **settings,
    }
    config_file = directory / f"{name}.yml"
    config_file.write_text(json.dumps(config, indent=1))  # JSON is YAML
    log = directory / f"{name}.log"
    log.unlink(missing_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}
    daemon = Daemon(["docker-registry", "serve", str(config_file)], log=log, env=environment)
    try:
        daemon.wait_until(lambda: _listening(daemon) is not None, timeout_s=15.0)
        yield daemon
    finally:
        daemon.stop(timeout_s=3.0)


def _settings(
    directory: Path, *, auth: Auth, tokens: TokenServer | None, mirror_of: str | None
) -> Mapping[str, object]:
    settings: dict[str, object] = {"proxy": {"remoteurl": mirror_of}} if mirror_of else {}
    match auth:
        case Auth.NONE:
            pass
        case Auth.BASIC:
            path = directory / "htpasswd"
            path.write_text(run(["htpasswd", "-Bbn", "alice", "wonderland"]).stdout)
            settings["auth"] = {"htpasswd": {"realm": "testbed", "path": str(path)}}
        case Auth.BEARER:
            assert tokens is not None
            settings["auth"] = {
                "token": {
                    "realm": tokens.realm,
                    "service": SERVICE,
                    "issuer": ISSUER,
                    "rootcertbundle": str(tokens.bundle_file),
                }
            }
    return settings


def _listening(daemon: Daemon) -> str | None:
    found = re.search(r"listening on (127\.0\.0\.1:\d+)", daemon.log.read_text(errors="replace"))
    return found.group(1) if found else None


def _address(daemon: Daemon) -> str:
    address = _listening(daemon)
    assert address is not None
    return address
