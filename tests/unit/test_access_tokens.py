"""Tokens: one key for all processes of a directory, and no token that was not issued with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jwt
import pytest

from hunqi.mirror.access.model import Action, Scope, ScopeKind
from hunqi.mirror.access.tokens import SERVICE, TokenExpired, TokenInvalid, TokenIssuer, TokenKeyError

SCOPES = (
    Scope(ScopeKind.REPOSITORY, "docker.io/acme/app", frozenset({Action.PULL})),
    Scope(ScopeKind.REPOSITORY, "team/app", frozenset({Action.PULL, Action.PUSH, Action.DELETE})),
    Scope(ScopeKind.REGISTRY, "catalog", frozenset(Action)),
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_says_what_was_put_in(tmp_path: Path) -> None:
    clock = Clock()
    issuer = TokenIssuer(tmp_path / "token.key", ttl_s=120, clock=clock)
    token, expires_in_s, issued_at = issuer.issue("alice", SCOPES)
    assert (expires_in_s, issued_at) == (120, 1_800_000_000)
    claims = issuer.verify(token)
    assert claims.subject == "alice"
    assert claims.scopes == frozenset(SCOPES)
    assert issuer.verify(issuer.issue(None, ()).token).subject is None


def test_the_claims_are_those_of_the_token_specification(tmp_path: Path) -> None:
    token = TokenIssuer(tmp_path / "token.key").issue("alice", SCOPES).token
    payload = jwt.decode(token, options={"verify_signature": False})
    assert payload["aud"] == payload["iss"] == SERVICE
    assert payload["sub"] == "alice"
    assert payload["access"] == [
        {"type": "repository", "name": "docker.io/acme/app", "actions": ["pull"]},
        {"type": "repository", "name": "team/app", "actions": ["pull", "push", "delete"]},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
    ]


@pytest.mark.parametrize("seen_before", [True, False])
def test_a_token_expires_even_if_it_was_verified_before(tmp_path: Path, seen_before: bool) -> None:
    clock = Clock()
    issuer = TokenIssuer(tmp_path / "token.key", ttl_s=60, clock=clock)
    token = issuer.issue("alice", ()).token
    if seen_before:
        issuer.verify(token)
    clock.now += 59.9
    issuer.verify(token)
    clock.now += 0.1
    with pytest.raises(TokenExpired):
        issuer.verify(token)


def test_tokens_hold_across_issuers_of_one_directory_and_not_beyond(tmp_path: Path) -> None:
    first, second = TokenIssuer(tmp_path / "token.key"), TokenIssuer(tmp_path / "token.key")
    token = first.issue("alice", SCOPES).token
    assert second.verify(token) == first.verify(token)
    stranger = TokenIssuer(tmp_path / "elsewhere" / "token.key")
    with pytest.raises(TokenInvalid):
        stranger.verify(token)


def key_of(directory: Path) -> bytes:
    return bytes.fromhex((directory / "token.key").read_text())


@pytest.mark.parametrize("fault", ["none", "cut", "other-audience", "no-expiry", "no-access", "future", "bad-action"])
def test_what_this_mirror_would_not_issue_is_invalid(tmp_path: Path, fault: str) -> None:
    clock = Clock()
    issuer = TokenIssuer(tmp_path / "token.key", clock=clock)
    token = issuer.issue("alice", SCOPES).token
    payload = jwt.decode(token, options={"verify_signature": False})
    algorithm: str = "HS256"
    match fault:
        case "none":
            algorithm = "none"
        case "other-audience":
            payload["aud"] = "registry"
        case "no-expiry":
            del payload["exp"]
        case "no-access":
            del payload["access"]
        case "future":
            payload["iat"] += 3600
        case "bad-action":
            payload["access"] = [{"type": "repository", "name": "team/app", "actions": ["own"]}]
        case _:
            pass
    forged = jwt.encode(payload, None if algorithm == "none" else key_of(tmp_path), algorithm=algorithm)
    if fault == "cut":
        forged = forged[:-4]
    with pytest.raises(TokenInvalid) as caught:
        issuer.verify(forged)
    assert not isinstance(caught.value, TokenExpired)


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "....", "é.é.é", "\x00"])
def test_nonsense_is_an_invalid_token(tmp_path: Path, token: str) -> None:
    with pytest.raises(TokenInvalid):
        TokenIssuer(tmp_path / "token.key").verify(token)


def test_the_key_file_is_private_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "token.key"
    TokenIssuer(path)
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    TokenIssuer(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["token.key"]


@pytest.mark.parametrize("content", [b"", b"abcd", b"not hexadecimal" * 10, b"\xff" * 64])
def test_a_broken_key_file_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token.key"
    path.write_bytes(content)
    with pytest.raises(TokenKeyError, match="remove it"):
        TokenIssuer(path)
    assert path.read_bytes() == content


def test_a_key_file_that_cannot_be_made_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TokenKeyError):
        TokenIssuer(tmp_path / "file" / "token.key")


_RACER = """
import sys, time
from pathlib import Path
from hunqi.mirror.access.tokens import TokenIssuer
directory = Path(sys.argv[1])
(directory / f"ready-{sys.argv[2]}").touch()
while not (directory / "go").exists():
    time.sleep(0.0005)
print(TokenIssuer(directory / "token.key").issue("racer", ()).token)
"""


def test_processes_that_race_for_the_key_agree(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", _RACER, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(6)
    ]
    try:
        while len(list(tmp_path.glob("ready-*"))) < len(racers):
            assert all(racer.poll() is None for racer in racers)
        (tmp_path / "go").touch()
        tokens = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    issuer = TokenIssuer(tmp_path / "token.key")
    assert [issuer.verify(token).subject for token in tokens] == ["racer"] * len(racers)
    assert not list(tmp_path.glob(".token.key*"))
