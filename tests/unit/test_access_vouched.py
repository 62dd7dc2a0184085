"""Logins that control signs and every accelerator believes."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hunqi.identity.model import Actor, ActorKind, AppRef, Role
from hunqi.identity.registry import AUDIENCE, PREFIX, RegistryLogins
from hunqi.mirror.access.gate import Gate
from hunqi.mirror.access.model import Action, Decision, Scope, ScopeKind
from hunqi.mirror.access.vouched import TrustedKeyError
from hunqi.mirror.names import Target
from hunqi.mirror.settings import AccessSettings
from hunqi.state.sealing import Sealer

NOW = datetime.now(UTC)
LOCAL = Target(None, "shop/app")
PRIVATE = Target("docker.io", "acme/secret")


@pytest.fixture
def logins() -> RegistryLogins:
    return RegistryLogins(Sealer(secrets.token_bytes(32)))


@pytest.fixture
def gate(tmp_path: Path, logins: RegistryLogins) -> Gate:
    (tmp_path / "key.pem").write_text(logins.public_pem)
    settings = AccessSettings(trusted_key=tmp_path / "key.pem")
    return Gate.open(settings, tmp_path, was_pushed=lambda _namespace: True)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def developer(app: str) -> Actor:
    return Actor(kind=ActorKind.USER, id="u1", name="ada", grants={app: Role.DEVELOPER})


def test_tasks_pull_everything_and_push_nothing(gate: Gate, logins: RegistryLogins) -> None:
    login = logins.of_services()
    caller = gate.recall(basic(login.username, login.password))
    assert caller is not None
    assert gate.check(caller, Action.PULL, LOCAL, public=None) is Decision.ALLOW
    assert gate.check(caller, Action.PULL, PRIVATE, public=False) is Decision.ALLOW
    assert gate.check(caller, Action.PUSH, LOCAL, public=None) is Decision.DENIED


def test_a_developer_pushes_below_the_names_of_own_apps(gate: Gate, logins: RegistryLogins) -> None:
    apps = [AppRef(name="shop", team="t1"), AppRef(name="blog", team="t2")]
    login = logins.of(developer("shop"), apps, now=NOW)
    assert login.grants == ("shop:pull,push",)
    caller = gate.authenticate(basic("ada", login.password))
    assert gate.check(caller, Action.PUSH, LOCAL, public=None) is Decision.ALLOW
    assert gate.check(caller, Action.PULL, Target(None, "blog/app"), public=None) is Decision.DENIED
    assert gate.check(caller, Action.PULL, Target(None, "shopping/app"), public=None) is Decision.DENIED
    assert gate.check(caller, Action.PULL, PRIVATE, public=False) is Decision.DENIED


def test_its_token_is_good_for_what_it_carries_only(gate: Gate, logins: RegistryLogins) -> None:
    login = logins.of(developer("shop"), [AppRef(name="shop", team="t1")], now=NOW)
    caller = gate.authenticate(basic("ada", login.password))
    asked = [
        Scope(ScopeKind.REPOSITORY, name, frozenset({Action.PULL, Action.PUSH})) for name in ("shop/app", "blog/a")
    ]
    answer = gate.token(caller, asked, resolve=lambda name: Target(None, name), public=lambda _target: False)
    bearer = gate.authenticate(f"Bearer {answer.token}")
    assert gate.check(bearer, Action.PUSH, LOCAL, public=None) is Decision.ALLOW
    assert gate.check(bearer, Action.PULL, Target(None, "blog/a"), public=None) is not Decision.ALLOW


def test_without_a_login_local_images_are_shut_where_control_is_trusted(gate: Gate) -> None:
    caller = gate.authenticate(None)
    assert gate.login_required()
    assert gate.check(caller, Action.PULL, LOCAL, public=None) is Decision.UNAUTHENTICATED
    assert gate.check(caller, Action.PULL, Target("docker.io", "library/nginx"), public=True) is Decision.ALLOW


def test_it_ends(gate: Gate, logins: RegistryLogins) -> None:
    login = logins.of(developer("shop"), [AppRef(name="shop", team="t1")], now=NOW - timedelta(hours=13))
    assert gate.authenticate(basic("ada", login.password)).foreign


@pytest.mark.parametrize("grants", [["*:pull"], ["shop:fly"], "shop:pull", None])
def test_another_key_or_nonsense_vouches_for_nobody(
    gate: Gate, logins: RegistryLogins, grants: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Ed25519PrivateKey.generate()
    claims = {"sub": "x", "aud": AUDIENCE, "grants": grants}
    assert gate.authenticate(basic("x", PREFIX + jwt.encode(claims, stranger, algorithm="EdDSA"))).foreign
    assert gate.authenticate(basic("x", PREFIX + jwt.encode(claims, "k" * 32, algorithm="HS256"))).foreign
    assert gate.authenticate(basic("x", PREFIX + "nonsense")).foreign


def test_every_control_of_a_cluster_signs_alike() -> None:
    key = secrets.token_bytes(32)
    assert RegistryLogins(Sealer(key)).public_pem == RegistryLogins(Sealer(key)).public_pem


def test_the_password_is_not_shown(logins: RegistryLogins) -> None:
    login = logins.of_services()
    assert login.password not in repr(login)


def test_a_file_that_holds_no_such_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(TrustedKeyError, match=r"key\.pem"):
        Gate.open(AccessSettings(trusted_key=tmp_path / "key.pem"), tmp_path, was_pushed=lambda _name: True)
