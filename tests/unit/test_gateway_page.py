"""The page of routes: nothing for strangers, for others what they may see, quoted."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hunqi.apps.model import Protocol, RouteSpec
from hunqi.gateway.model import Edge, Route, RouteTable, Target
from hunqi.gateway.page import RoutesPage
from hunqi.identity.model import Actor, ActorKind, AppRef, Role
from hunqi.identity.registry import RegistryLogins
from hunqi.state.sealing import Sealer

NOW = datetime.now(UTC)
LOGINS = RegistryLogins(Sealer(bytes(32)))


def route(app: str, host: str, **more: Any) -> Route:
    spec = RouteSpec(port=8080, hosts=(host,) if host else (), **more)
    return Route(app=app, service="web", spec=spec, targets=(Target(cluster=f"{app}_web-r1:8080"),))


TABLE = RouteTable(
    version=1,
    edge=Edge(https_port=8443),
    clusters={},
    routes=(
        route("shop", "shop.test"),
        route("bank", "bank.test", path="/api", tls="off"),
        route("bank", "", protocol=Protocol.TCP, tcp_port=20001),
    ),
    internal=(),
    networks=(),
)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_text(LOGINS.public_pem)
    return path


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"ann:{password}".encode()).decode()


def ask(
    page: RoutesPage, password: str | None = None, *, accept: str = "application/json", proto: str = "https"
) -> Any:
    headers = {"x-forwarded-proto": proto, "accept": accept}
    if password is not None:
        headers["authorization"] = basic(password)
    return page.answer(headers)


def signed(grants: list[str], *, key: Any = LOGINS._key, **claims: Any) -> str:
    ends = int((NOW + timedelta(hours=1)).timestamp())
    body = {"sub": "ann", "aud": "hunqi-mirror", "grants": grants, "exp": ends, **claims}
    return "hqr_" + jwt.encode({name: value for name, value in body.items() if value is not None}, key, "EdDSA")


def test_each_sees_what_the_login_names(key_file: Path) -> None:
    page = RoutesPage(key_file, lambda: TABLE)

    shop = json.loads(ask(page, signed(["shop:pull"])).body)["routes"]
    assert shop == [{"app": "shop", "service": "web", "url": "https://shop.test:8443/", "to": ["shop_web-r1:8080"]}]
    everything = json.loads(ask(page, signed(["*:pull,push,delete"])).body)["routes"]
    assert [each["url"] for each in everything] == [
        "http://bank.test/api",
        "https://shop.test:8443/",
        "tcp://:20001",
    ]
    assert json.loads(ask(page, signed([])).body) == {"routes": []}


@pytest.mark.parametrize(
    "password",
    [
        None,
        "",
        "hqr_",
        "hqr_a.b.c",
        "tea with 9 lemons",
        LOGINS.of_services().password,
        signed(["*:pull"], key=Ed25519PrivateKey.generate()),
        signed(["*:pull"], exp=int((NOW - timedelta(seconds=5)).timestamp())),
        signed(["*:pull"], aud="somebody"),
        signed(["*:pull"], exp=None),
        "hqr_" + jwt.encode({"sub": "a", "aud": "hunqi-mirror", "grants": ["*:pull"], "exp": 2**40}, None, "none"),
    ],
)
def test_strangers_are_asked_who_they_are_and_told_nothing(key_file: Path, password: str | None) -> None:
    found = ask(RoutesPage(key_file, lambda: TABLE), password)
    assert (found.status, found.body) == (401, "")
    assert found.headers["www-authenticate"].startswith("Basic ")


def test_over_plain_http_or_without_a_key_or_a_table_there_is_no_such_page(key_file: Path) -> None:
    good = signed(["*:pull"])
    for page, proto in (
        (RoutesPage(key_file, lambda: TABLE), "http"),
        (RoutesPage(None, lambda: TABLE), "https"),
        (RoutesPage(key_file, lambda: None), "https"),
    ):
        found = ask(page, good, proto=proto)
        assert (found.status, found.body, found.headers) == (404, "", {})


def test_page_for_people_quotes_what_others_have_named(key_file: Path) -> None:
    hostile = Route(
        app="shop",
        service="<script>alert(1)</script>",
        spec=RouteSpec(port=80, hosts=('a"><img src=x>.test',)),
        targets=(),
    )
    table = RouteTable(version=1, edge=Edge(), clusters={}, routes=(hostile,), internal=(), networks=())
    found = ask(RoutesPage(key_file, lambda: table), signed(["shop:pull"]), accept="text/html")
    assert found.status == 200
    assert "<script" not in found.body
    assert "<img" not in found.body
    assert "held until a task is healthy" in found.body
    assert "default-src 'none'" in found.headers["content-security-policy"]


def test_logins_as_people_get_them_are_believed(key_file: Path) -> None:
    page = RoutesPage(key_file, lambda: TABLE)
    apps = [AppRef(name="shop", team="t1"), AppRef(name="bank", team="t2")]
    viewer = Actor(kind=ActorKind.USER, name="ann", teams={"t1": Role.VIEWER})
    administrator = Actor(kind=ActorKind.USER, name="root", is_admin=True)

    def seen(actor: Actor) -> list[str]:
        password = LOGINS.of(actor, apps, now=NOW).password
        return [each["app"] for each in json.loads(ask(page, password).body)["routes"]]

    assert seen(viewer) == ["shop"]
    assert seen(administrator) == ["bank", "shop", "bank"]
