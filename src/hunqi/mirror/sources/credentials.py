"""Credentials for one source: Docker's ``config.json`` or a ``docker-credential-NAME`` program.

The file is read anew when it has changed; the program is asked when a challenge comes, at most once in five minutes.
Secrets stand in no ``repr``, error or log.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

from hunqi.mirror.sources.errors import CredentialsUnavailable

HELPER_DEADLINE_S: Final = 5.0
HELPER_FRESH_S: Final = 300.0
MAX_ANSWER_BYTES: Final = 256 * 1024

_HELPER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}")
_DOCKER_HUB = frozenset({"registry-1.docker.io", "index.docker.io", "docker.io"})
_DOCKER_HUB_KEY: Final = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user name with a password or with an identity (OAuth2 refresh) token."""

    username: str
    password: str | None = field(default=None, repr=False)
    identity_token: str | None = field(default=None, repr=False)

    @property
    def basic(self) -> str | None:
        """The value of ``Authorization`` for Basic, if there is a password."""
        if self.password is None:
            return None
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"


class CredentialStore(Protocol):
    """Where a source's credentials come from."""

    def find(self) -> Credentials | None:
        """Return them, or None to stay anonymous; raises :class:`CredentialsUnavailable`."""
        ...


class NoCredentials:
    """Anonymous always."""

    def find(self) -> Credentials | None:
        """Return None."""
        return None


class FileCredentials:
    """The entry for ``host`` in a Docker ``config.json``. Thread-safe."""

    def __init__(self, source: str, path: Path, host: str) -> None:
        self._source = source
        self._path = path
        self._host = host
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._found: Credentials | None = None

    def find(self) -> Credentials | None:
        """Return the entry for the host; None if the file has none. Raises :class:`CredentialsUnavailable`."""
        with self._lock:
            try:
                stat = self._path.stat()
                stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                if stamp != self._seen:
                    self._found = parse_docker_config(self._path.read_bytes(), self._host)
                    self._seen = stamp
            except OSError as error:
                raise CredentialsUnavailable(self._source, f"cannot read {self._path}: {error.strerror}") from error
            except ValueError as error:
                raise CredentialsUnavailable(
                    self._source, f"{self._path} is not a Docker config.json: {error}"
                ) from None
            return self._found


class HelperCredentials:
    """What ``docker-credential-<name> get`` says of ``host``. Thread-safe; one program runs at a time."""

    def __init__(self, source: str, name: str, host: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        if not _HELPER_NAME.fullmatch(name):
            raise CredentialsUnavailable(source, "a credential helper's name has letters, digits, '-' and '_' only")
        self._source = source
        self._program = f"docker-credential-{name}"
        self._host = host
        self._clock = clock
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._found: Credentials | None = None

    def find(self) -> Credentials | None:
        """Return the helper's answer; None if it knows of none. Raises :class:`CredentialsUnavailable`."""
        with self._lock:
            now = self._clock()
            if self._asked_at is None or now - self._asked_at > HELPER_FRESH_S:
                self._found = self._ask()
                self._asked_at = now
            return self._found

    def _ask(self) -> Credentials | None:
        key = _DOCKER_HUB_KEY if self._host in _DOCKER_HUB else self._host
        try:
            done = subprocess.run(
                [self._program, "get"], input=key.encode(), capture_output=True, timeout=HELPER_DEADLINE_S, check=False
            )
        except OSError as error:
            raise CredentialsUnavailable(self._source, f"cannot run {self._program}: {error.strerror}") from error
        except subprocess.TimeoutExpired:
            raise CredentialsUnavailable(self._source, f"{self._program} took over {HELPER_DEADLINE_S:g} s") from None
        if done.returncode != 0:
            if b"credentials not found" in done.stdout + done.stderr:
                return None
            raise CredentialsUnavailable(self._source, f"{self._program} failed with status {done.returncode}")
        try:
            return _from_helper(_object(json.loads(done.stdout[:MAX_ANSWER_BYTES])))
        except ValueError:
            raise CredentialsUnavailable(
                self._source, f"{self._program} did not answer as a credential helper"
            ) from None


def parse_docker_config(data: bytes, host: str) -> Credentials | None:
    """Return the entry of ``auths`` for ``host``; None if there is none. Raises :class:`ValueError` without a secret
    in it.
    """
    try:
        document = _object(json.loads(data))
    except (ValueError, RecursionError):
        raise ValueError("no JSON object") from None
    for key, value in _object(document.get("auths", {})).items():
        if _host_of(key) == host or (host in _DOCKER_HUB and _host_of(key) in _DOCKER_HUB):
            return _from_entry(_object(value))
    return None


def _from_entry(entry: dict[str, object]) -> Credentials | None:
    username, password = entry.get("username"), entry.get("password")
    packed = entry.get("auth")
    if isinstance(packed, str) and packed:
        try:
            text = base64.b64decode(packed, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError("an 'auth' is not base64") from None
        username, _, password = text.rstrip("\0").partition(":")
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(username=username if isinstance(username, str) else "<token>", identity_token=token)
    if isinstance(username, str) and username and isinstance(password, str):
        return Credentials(username=username, password=password)
    return None


def _from_helper(answer: dict[str, object]) -> Credentials:
    username, secret = answer.get("Username"), answer.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str):
        raise ValueError("no Username or Secret")  # noqa: TRY004 (the value is wrong, not the call)
    if username == "<token>":
        return Credentials(username=username, identity_token=secret)
    return Credentials(username=username, password=secret)


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 (the value is wrong, not the call)
    return cast("dict[str, object]", value)


def _host_of(key: str) -> str:
    """Return ``host[:port]`` of an entry's key, which may be a URL as ``docker login`` once wrote it."""
    return (urlsplit(key).netloc if "://" in key else key.partition("/")[0]).lower()
