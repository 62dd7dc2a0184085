"""Which certificate answers for which host, and which are to be made."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from hunqi.gateway.certificates import (
    BadCertificateError,
    Held,
    LocalAuthority,
    Source,
    plan_certificates,
    read_certificate,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> LocalAuthority:
    return LocalAuthority.make("Hunqi test", now=NOW)


def held(authority: LocalAuthority, host: str, source: Source = Source.LOCAL, *, age_days: float = 0) -> Held:
    return replace(authority.issue(host, now=NOW - timedelta(days=age_days)), source=source)


def test_a_host_without_any_certificate_gets_a_local_one(authority: LocalAuthority) -> None:
    plan = plan_certificates(["shop.test"], [], now=NOW, acme=True)
    assert (plan.serve, plan.acme, plan.local) == ((), (), ("shop.test",))
    plan = plan_certificates(["Shop.test"], [held(authority, "shop.test")], now=NOW, acme=True)
    assert [each.hosts for each in plan.serve] == [("shop.test",)]
    assert plan.local == ()


def test_a_public_name_is_asked_for_and_served_locally_until_it_comes(authority: LocalAuthority) -> None:
    plan = plan_certificates(["shop.example.com", "*.example.com", "10.0.0.1"], [], now=NOW, acme=True)
    assert plan.acme == ("shop.example.com",)
    assert set(plan.local) == {"shop.example.com", "*.example.com", "10.0.0.1"}
    assert plan_certificates(["shop.example.com"], [], now=NOW, acme=False).acme == ()
    got = held(authority, "shop.example.com", Source.ACME)
    plan = plan_certificates(["shop.example.com"], [held(authority, "shop.example.com"), got], now=NOW, acme=True)
    assert (plan.acme, plan.local) == ((), ())
    assert plan.serve[0].chain_pem == got.chain_pem


def test_certificates_are_renewed_when_a_third_of_their_life_is_left(authority: LocalAuthority) -> None:
    young, old = (held(authority, "a.example.com", Source.ACME, age_days=age) for age in (59, 61))
    assert plan_certificates(["a.example.com"], [young], now=NOW, acme=True).acme == ()
    plan = plan_certificates(["a.example.com"], [old], now=NOW, acme=True)
    assert plan.acme == ("a.example.com",)
    assert plan.local == ()
    assert plan.serve[0].chain_pem == old.chain_pem
    gone = held(authority, "a.example.com", Source.ACME, age_days=91)
    plan = plan_certificates(["a.example.com"], [gone], now=NOW, acme=True)
    assert (plan.serve, plan.acme, plan.local) == ((), ("a.example.com",), ("a.example.com",))
    local = held(authority, "a.test", age_days=61)
    assert plan_certificates(["a.test"], [local], now=NOW, acme=True).local == ("a.test",)


def test_what_was_given_is_preferred_and_only_its_owner_renews_it(authority: LocalAuthority) -> None:
    given = held(authority, "*.example.com", Source.GIVEN, age_days=80)
    others = [held(authority, "a.example.com", Source.ACME), held(authority, "a.example.com")]
    plan = plan_certificates(["a.example.com", "b.c.example.com"], [given, *others], now=NOW, acme=True)
    assert [(each.hosts, each.chain_pem == given.chain_pem) for each in plan.serve] == [(("a.example.com",), True)]
    assert plan.acme == ("b.c.example.com",)
    assert [each.hosts for each in plan.expiring] == [("*.example.com",)]


def test_a_wildcard_covers_one_label(authority: LocalAuthority) -> None:
    wild = held(authority, "*.example.com")
    covered = [
        each for each in ("a.example.com", "*.example.com", "example.com", "a.b.example.com") if wild.covers(each)
    ]
    assert covered == ["a.example.com", "*.example.com"]


def test_what_cannot_be_served_is_refused_with_a_reason(authority: LocalAuthority) -> None:
    one, two = authority.issue("a.test", now=NOW), authority.issue("b.test", now=NOW)
    cases = {
        "no PEM of certificates": ("nonsense", one.key_pem),
        "no PEM of a private key": (one.chain_pem, "nonsense"),
        "not that of the first certificate": (one.chain_pem, two.key_pem),
        "neither RSA nor": (one.chain_pem, _pem(ed25519.Ed25519PrivateKey.generate())),
        "1024 bits": (one.chain_pem, _pem(rsa.generate_private_key(65537, 1024))),
        "secp256k1": (one.chain_pem, _pem(ec.generate_private_key(ec.SECP256K1()))),
        "larger than": (one.chain_pem * 1000, one.key_pem),
        "no subject alternative names": (authority.cert_pem, authority.key_pem),
    }
    for reason, (chain, key) in cases.items():
        with pytest.raises(BadCertificateError, match=reason):
            read_certificate(chain, key)
    assert read_certificate(one.chain_pem, one.key_pem).hosts == ("a.test",)


def test_keys_are_not_shown(authority: LocalAuthority) -> None:
    assert "PRIVATE" not in repr(authority.issue("a.test", now=NOW))
    assert "PRIVATE" not in repr(authority)


def _pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> str:
    none = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none).decode()
