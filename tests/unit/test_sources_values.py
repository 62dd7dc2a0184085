"""Parsers of the sources room: challenges, quotas, proxies, credentials, ranges."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.mirror.sources.challenges import Basic, Bearer, parse_challenges
from hunqi.mirror.sources.credentials import Credentials, FileCredentials, HelperCredentials, parse_docker_config
from hunqi.mirror.sources.errors import CredentialsUnavailable
from hunqi.mirror.sources.proxies import Proxy, ProxyError, ProxyRules
from hunqi.mirror.sources.ratelimit import QuotaMemory, RateLimit, parse_rate_limit, parse_retry_after
from hunqi.mirror.sources.urls import Url

HOME = Url.parse("https://registry.test/v2/")
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


def bearer(realm: str, service: str = "", scope: str = "") -> Bearer:
    return Bearer(Url.parse(realm), service, scope)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            ['Bearer realm="https://a.test/t",service="s",scope="repository:x/y:pull"'],
            (bearer("https://a.test/t", "s", "repository:x/y:pull"),),
        ),
        (['bearer Realm=https://a.test/t , service = "s, t"'], (bearer("https://a.test/t", "s, t"),)),
        (
            ['Basic realm="x", Bearer realm="/token",error="invalid_token"'],
            (Basic(), bearer("https://registry.test/token")),
        ),
        (["Basic", 'Bearer realm="https://a.test/"'], (Basic(), bearer("https://a.test/"))),
        (['Bearer realm="ftp://a.test/"', "Negotiate abc=="], ()),
        (['Bearer service="no realm"'], ()),
        (['Bearer realm="https://a.test/\\"q"'], (bearer('https://a.test/"q'),)),
        ([""], ()),
    ],
)
def test_challenges(values: list[str], expected: tuple[object, ...]) -> None:
    assert parse_challenges(values, HOME) == expected


@given(st.lists(st.text(max_size=80), max_size=3))
def test_any_challenge_header_is_parsed_without_an_error(values: list[str]) -> None:
    parse_challenges(values, HOME)


def test_a_long_hostile_challenge_is_parsed_in_linear_time() -> None:
    began = time.perf_counter()
    parse_challenges(['Bearer realm="' + '\\"' * 30_000, "Bearer " + "a=b," * 20_000, " ," * 30_000], HOME)
    assert time.perf_counter() - began < 1.0


def test_docker_hubs_rate_limit() -> None:
    headers = {
        "ratelimit-limit": "100;w=21600",
        "ratelimit-remaining": "76;w=21600",
        "docker-ratelimit-source": "192.0.2.1",
    }
    assert parse_rate_limit(headers) == RateLimit(limit=100, window_s=21600, remaining=76, counted_for="192.0.2.1")


@pytest.mark.parametrize("headers", [{}, {"ratelimit-limit": "many"}, {"docker-ratelimit-source": "192.0.2.1"}])
def test_no_rate_limit(headers: dict[str, str]) -> None:
    assert parse_rate_limit(headers) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("999999999", 86400.0),
        ("Tue, 24 Nov 2026 12:01:30 GMT", 90.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("Tue, 24 Nov 99999999999 12:00:00 GMT", None),
        (None, None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


@given(st.text(max_size=40))
def test_any_retry_after_is_parsed_without_an_error(value: str) -> None:
    seconds = parse_retry_after(value, now=NOW)
    assert seconds is None or 0 <= seconds <= 86400


def test_quota_memory_keeps_the_last_state() -> None:
    now = [100.0]
    memory = QuotaMemory(lambda: now[0])
    rate = RateLimit(limit=100, window_s=21600, remaining=0, counted_for=None)
    memory.note(rate)
    memory.note_limited(None, 30.0)
    assert memory.state.rate == rate
    assert memory.state.limited_until_s == 130.0
    now[0] = 110.0
    memory.note(None)
    assert memory.state.limited_until_s == 130.0, "a HEAD that tells nothing does not end a limitation"
    memory.note(RateLimit(limit=100, window_s=21600, remaining=5, counted_for=None))
    assert memory.state.limited_until_s is None
    assert memory.state.seen_at_s == 110.0


RULES = ProxyRules.from_environment(
    {
        "HTTPS_PROXY": "http://u%40x:p:w@proxy.test:3128",
        "http_proxy": "plain.test",
        "no_proxy": "in.test, .sub.test,10.0.0.0/8,only.test:8443,::1",
    }
)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://registry-1.docker.io", "proxy.test"),
        ("http://registry-1.docker.io", "plain.test"),
        ("https://in.test", None),
        ("https://a.in.test", None),
        ("https://main.test", "proxy.test"),
        ("https://a.sub.test:444", None),
        ("https://10.2.3.4", None),
        ("https://11.2.3.4", "proxy.test"),
        ("https://only.test:8443", None),
        ("https://only.test", "proxy.test"),
        ("http://127.0.0.1:5000", None),
        ("http://localhost:5000", None),
    ],
)
def test_proxy_rules(url: str, host: str | None) -> None:
    proxy = RULES.for_endpoint(Url.parse(url).endpoint)
    assert (proxy.host if proxy else None) == host


def test_proxy_credentials_are_decoded_and_never_shown() -> None:
    assert RULES.https == Proxy("proxy.test", 3128, "Basic " + base64.b64encode(b"u@x:p:w").decode())
    assert "Basic" not in repr(RULES)


@pytest.mark.parametrize("text", ["socks5://a:1", "https://a:1", "http://", "http://a:b"])
def test_unusable_proxies_are_refused(text: str) -> None:
    with pytest.raises(ProxyError):
        ProxyRules.from_environment({"https_proxy": text})


def test_a_star_turns_proxies_off() -> None:
    rules = ProxyRules.from_environment({"all_proxy": "http://p:1", "NO_PROXY": "*"})
    assert rules.for_endpoint(HOME.endpoint) is None


def config(auths: dict[str, object]) -> bytes:
    return json.dumps({"auths": auths}).encode()


PACKED = base64.b64encode(b"user:se:cret").decode()


@pytest.mark.parametrize(
    ("auths", "host", "found"),
    [
        ({"ghcr.io": {"auth": PACKED}}, "ghcr.io", Credentials(username="user", password="se:cret")),
        (
            {"https://index.docker.io/v1/": {"auth": PACKED}},
            "registry-1.docker.io",
            Credentials(username="user", password="se:cret"),
        ),
        (
            {"localhost:5000": {"username": "a", "password": "b"}},
            "localhost:5000",
            Credentials(username="a", password="b"),
        ),
        ({"ghcr.io": {"auth": PACKED}}, "quay.io", None),
        ({"ghcr.io": {}}, "ghcr.io", None),
        (
            {"x.test": {"auth": PACKED, "identitytoken": "idt"}},
            "x.test",
            Credentials(username="user", identity_token="idt"),
        ),
    ],
)
def test_docker_config(auths: dict[str, object], host: str, found: Credentials | None) -> None:
    assert parse_docker_config(config(auths), host) == found


def test_credentials_are_never_shown() -> None:
    shown = repr(Credentials(username="user", password="hush", identity_token="hush"))
    assert "hush" not in shown


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"auths": 3}', b'{"auths": {"h.test": 5}}', b'{"auths": {"h.test": {"auth": "hush!"}}}']
)
def test_a_broken_config_is_an_error_without_its_content(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(CredentialsUnavailable) as caught:
        FileCredentials("up", path, "h.test").find()
    assert "hush" not in str(caught.value)


def test_the_file_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(CredentialsUnavailable):
        FileCredentials("up", path, "h.test").find()
    path.write_bytes(config({}))
    credentials = FileCredentials("up", path, "h.test")
    assert credentials.find() is None
    path.write_bytes(config({"h.test": {"auth": PACKED}}))
    assert credentials.find() == Credentials(username="user", password="se:cret")


def helper(folder: Path, body: str) -> None:
    path = folder / "docker-credential-trial"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_helpers_are_asked_for_the_host_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    log = tmp_path / "log"
    helper(
        tmp_path, f'[ "$1" = get ] || exit 9; cat >> {log}; echo \'{{"ServerURL":"x","Username":"u","Secret":"s"}}\''
    )
    now = [0.0]
    store = HelperCredentials("up", "trial", "registry-1.docker.io", clock=lambda: now[0])
    assert store.find() == Credentials(username="u", password="s")
    assert store.find() == Credentials(username="u", password="s")
    assert log.read_text() == "https://index.docker.io/v1/"
    now[0] = 301.0
    store.find()
    assert log.read_text() == "https://index.docker.io/v1/" * 2


def test_a_helpers_token_is_an_identity_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    helper(tmp_path, 'echo \'{"Username":"<token>","Secret":"idt"}\'')
    assert HelperCredentials("up", "trial", "h.test").find() == Credentials(username="<token>", identity_token="idt")


def test_a_helper_that_knows_nothing_means_anonymous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    helper(tmp_path, "echo credentials not found in native keychain; exit 1")
    assert HelperCredentials("up", "trial", "h.test").find() is None


@pytest.mark.parametrize("body", ["echo hush >&2; exit 3", "echo hush", "echo '{\"Username\": 1}'", "echo '[]'"])
def test_a_broken_helper_is_an_error_without_its_output(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    helper(tmp_path, body)
    with pytest.raises(CredentialsUnavailable) as caught:
        HelperCredentials("up", "trial", "h.test").find()
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "-x", "x;y"])
def test_helper_names_are_checked(name: str) -> None:
    with pytest.raises(CredentialsUnavailable):
        HelperCredentials("up", name, "h.test")


def test_a_missing_helper_is_an_error() -> None:
    with pytest.raises(CredentialsUnavailable):
        HelperCredentials("up", "no-such-program-here", "h.test").find()
