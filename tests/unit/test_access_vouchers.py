"""Vouchers: what control signed is good at the mirror for what it says, for as long, and for nobody else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hunqi.identity.vouchers import VoucherSigner
from hunqi.mirror.access.credentials import BadCredentials
from hunqi.mirror.access.gate import Gate
from hunqi.mirror.access.model import FOREIGN, Action, Caller, Decision, Grant
from hunqi.mirror.access.passwords import Passwords
from hunqi.mirror.access.scopes import parse_scopes
from hunqi.mirror.access.tokens import TokenInvalid, TokenIssuer
from hunqi.mirror.access.users import UsersFile
from hunqi.mirror.access.vouchers import AUDIENCE, ISSUER, TrustedKeysError, Vouchers
from hunqi.mirror.names import Target
from hunqi.mirror.settings import AccessSettings

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
SHOP = Target(None, "shop/web")


class Mirror:
    def __init__(self, directory: Path) -> None:
        self.signer = VoucherSigner.new()
        self.path = directory / "trusted.pem"
        self.path.write_text(self.signer.public_pem)
        self.users = UsersFile(directory / "users.json", hasher=CHEAP)
        self.gate = Gate(
            AccessSettings(),
            self.users,
            TokenIssuer(directory / "token.key"),
            passwords=Passwords(CHEAP),
            was_pushed=lambda _: False,
            vouchers=Vouchers(self.path),
        )

    def voucher(self, name: str = "ann", *grants: str, ttl_s: float = 60) -> str:
        return self.signer.sign(name, grants or ("shop:pull,push",), ttl_s=ttl_s)

    def bearer(self, caller: Caller, scope: str) -> Caller:
        token = self.gate.token(
            caller, parse_scopes([scope]), resolve=lambda name: Target(None, name), public=lambda _: False
        ).token
        return self.gate.authenticate(f"Bearer {token}")


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path)


def test_a_voucher_logs_in_and_gives_what_it_says(mirror: Mirror) -> None:
    caller = mirror.gate.login("ann", mirror.voucher())
    assert caller.name == "cluster:ann"
    assert mirror.gate.check_ping(caller) is Decision.ALLOW
    for who in (caller, mirror.bearer(caller, "repository:shop/web:pull,push")):
        assert mirror.gate.check(who, Action.PUSH, SHOP, public=None) is Decision.ALLOW
        assert mirror.gate.check(who, Action.DELETE, SHOP, public=None) is not Decision.ALLOW
        assert mirror.gate.check(who, Action.PULL, Target(None, "blog/web"), public=None) is not Decision.ALLOW
        assert mirror.gate.check(who, Action.PULL, Target("docker.io", "acme/app"), public=False) is Decision.DENIED
    assert mirror.gate.login_required()


def test_a_private_upstream_is_given_by_name(mirror: Mirror) -> None:
    caller = mirror.gate.login("ann", mirror.voucher("ann", "docker.io/acme:pull"))
    assert mirror.gate.check(caller, Action.PULL, Target("docker.io", "acme/app"), public=False) is Decision.ALLOW


def test_a_voucher_is_its_subjects_only_and_ends(mirror: Mirror) -> None:
    assert mirror.gate.login("bob", mirror.voucher("ann")) == FOREIGN
    assert mirror.gate.login("ann", mirror.voucher(ttl_s=-1)) == FOREIGN
    short = mirror.gate.login("ann", mirror.voucher(ttl_s=2))
    scopes = parse_scopes(["repository:shop/web:pull"])
    answer = mirror.gate.token(short, scopes, resolve=lambda name: Target(None, name), public=lambda _: False)
    assert answer.expires_in_s <= 2


def test_the_bearer_is_no_user_of_the_file(mirror: Mirror) -> None:
    mirror.users.add("ann", "a password of hers", [Grant.parse("blog:pull")])
    caller = mirror.gate.login("ann", mirror.voucher())
    assert mirror.gate.check(caller, Action.PULL, Target(None, "blog/web"), public=None) is not Decision.ALLOW


def _forged(key: Any, algorithm: str, **changes: Any) -> str:
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": int(time.time()), "exp": int(time.time()) + 60,
        "grants": ["*:pull"],
    } | changes  # fmt: skip
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm=algorithm)


def test_what_another_signed_is_foreign(mirror: Mirror) -> None:
    other = Ed25519PrivateKey.generate()
    assert mirror.gate.login("ann", _forged(other, "EdDSA")) == FOREIGN
    assert mirror.gate.login("ann", _forged(None, "none")) == FOREIGN
    assert mirror.gate.login("ann", _forged("x" * 64, "HS256")) == FOREIGN
    mirror.path.write_text(mirror.signer.public_pem + VoucherSigner(other).public_pem)
    assert mirror.gate.login("ann", _forged(other, "EdDSA")).name == "cluster:ann"
    changes: list[dict[str, Any]] = [
        {"iss": "else"}, {"aud": "else"}, {"exp": None}, {"sub": None}, {"grants": ["nonsense"]}, {"grants": None},
        {"grants": 1}, {"iat": None},
    ]  # fmt: skip
    for change in changes:
        assert mirror.gate.login("ann", _forged(other, "EdDSA", **change)) == FOREIGN, change
    with pytest.raises((TokenInvalid, BadCredentials)):
        mirror.gate.authenticate(f"Bearer {mirror.voucher()}")  # it is a password, not a token


def test_a_key_that_is_taken_out_ends_its_vouchers(mirror: Mirror) -> None:
    voucher = mirror.voucher()
    mirror.path.write_text(VoucherSigner.new().public_pem)
    assert mirror.gate.login("ann", voucher) == FOREIGN
    mirror.path.write_text("damaged")
    assert mirror.gate.login("ann", voucher) == FOREIGN


def test_a_file_that_cannot_be_used_is_named_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "keys.pem"
    assert Vouchers(path).verify("ann", "eyJ") is None
    assert not Vouchers(None).enabled
    rsa_free = generate_private_key(SECP256R1()).public_key()
    pem = rsa_free.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for content in (b"nonsense", pem, b"-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n"):
        path.write_bytes(content)
        with pytest.raises(TrustedKeysError, match=r"trusted keys|public key|Ed25519"):
            Vouchers(path)
