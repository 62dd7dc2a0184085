"""Where requests go and who may see credentials."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.mirror.sources.urls import Endpoint, Url, UrlError, realm_may_see_credentials, registrable_domain


def endpoint(url: str) -> Endpoint:
    return Url.parse(url).endpoint


@pytest.mark.parametrize(
    ("text", "netloc", "target"),
    [
        ("https://registry-1.docker.io", "registry-1.docker.io", "/"),
        ("HTTPS://Registry.Example.com.:443/a?b=c", "registry.example.com", "/a?b=c"),
        ("http://127.0.0.1:5000/v2/", "127.0.0.1:5000", "/v2/"),
        ("http://[::1]:5000/x", "[::1]:5000", "/x"),
        ("https://cdn.test/a%2Fb/ü?sig=a+b/=", "cdn.test", "/a%2Fb/%C3%BC?sig=a+b/="),
        ("https://cdn.test/a#fragment", "cdn.test", "/a"),
    ],
)
def test_urls_are_parsed_into_endpoint_and_target(text: str, netloc: str, target: str) -> None:
    url = Url.parse(text)
    assert (url.endpoint.netloc, url.target) == (netloc, target)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "registry",
        "ftp://a/",
        "file:///etc/passwd",
        "http://",
        "http://a:99999/",
        "http://a b/",
        "http://[::1",
        "http://u:hush@a/",
    ],
)
def test_nonsense_is_refused_without_showing_secrets(text: str) -> None:
    with pytest.raises(UrlError) as caught:
        Url.parse(text)
    assert "hush" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_location_is_a_url_or_a_url_error(location: str) -> None:
    try:
        url = Url.parse("http://a.test/b/c").join(location)
    except UrlError:
        return
    assert url.target.isascii()
    assert url.target.startswith("/")
    assert not any(character <= " " for character in url.target)


def test_a_location_is_joined_relatively() -> None:
    assert str(Url.parse("https://a.test/v2/x").join("/blobs/y?z")) == "https://a.test/blobs/y?z"
    assert str(Url.parse("https://a.test/v2/x").join("//b.test/y")) == "https://b.test/y"


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://registry-1.docker.io", "https://auth.docker.io/token"),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("https://registry.example.co.uk", "https://auth.example.co.uk"),
        ("https://registry.cn-hangzhou.aliyuncs.com", "https://dockerauth.cn-hangzhou.aliyuncs.com/auth"),
        ("https://good.azurecr.io", "https://good.azurecr.io/oauth2/token"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"),
        ("http://registry:5000", "http://registry:5001/token"),
        ("http://registry.example.com", "https://auth.example.com/"),
        ("http://[::1]:5000", "http://[::1]:5001/token"),
    ],
)
def test_realms_of_the_same_party_may_see_credentials(registry: str, realm: str) -> None:
    assert realm_may_see_credentials(endpoint(registry), endpoint(realm))


@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://registry-1.docker.io", "https://auth.docker.io.evil.com/token"),
        ("https://registry-1.docker.io", "https://evildocker.io/token"),
        ("https://registry-1.docker.io", "http://auth.docker.io/token"),
        ("https://registry-1.docker.io", "http://registry-1.docker.io/token"),
        ("https://registry.example.co.uk", "https://evil.co.uk"),
        ("https://registry.example.com.cn", "https://evil.com.cn"),
        ("https://good.azurecr.io", "https://evil.azurecr.io/oauth2/token"),
        ("https://bucket.s3.amazonaws.com", "https://evil.amazonaws.com/"),
        ("https://good.github.io", "https://evil.github.io"),
        ("https://lscr.io", "https://ghcr.io/token"),
        ("http://127.0.0.1:5000", "http://127.0.0.2:5001/token"),
        ("http://10.0.0.1", "http://9.0.0.1"),
        ("http://registry:5000", "http://auth:5001/token"),
        ("https://com", "https://evil.com"),
    ],
)
def test_realms_of_another_party_may_not(registry: str, realm: str) -> None:
    assert not realm_may_see_credentials(endpoint(registry), endpoint(realm))


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("a.b.example.com", "example.com"),
        ("example.com", "example.com"),
        ("com", None),
        ("a.example.co.jp", "example.co.jp"),
        ("co.jp", None),
        ("x.good.github.io", "good.github.io"),
        ("github.io", None),
        ("10.1.2.3", None),
        ("::1", None),
        ("localhost", None),
    ],
)
def test_registrable_domain(host: str, domain: str | None) -> None:
    assert registrable_domain(host) == domain
