"""The page of routes through the real Envoy: asked for over TLS under any host, and told to who may know alone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hunqi.gateway.hold import Holds, serve_holds
from hunqi.gateway.model import Certificate, RouteTable
from hunqi.gateway.page import RoutesPage
from hunqi.gateway.render.common import PAGE
from hunqi.identity.model import Actor, ActorKind, AppRef, Role
from hunqi.identity.registry import RegistryLogins
from hunqi.state.sealing import Sealer
from testbed.authority import Authority
from testbed.gateway import backend, cluster, gateway, route, table

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("gateway")]
LOGINS = RegistryLogins(Sealer(bytes(32)))


async def test_page_is_for_those_with_a_login_over_tls_and_for_nobody_else(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    issued = authority.issue(hosts=("shop.test",))
    given = Certificate(
        hosts=("shop.test",), chain_pem=issued.cert_file.read_text(), key_pem=issued.key_file.read_text()
    )
    (tmp_path / "key.pem").write_text(LOGINS.public_pem)
    wanted: RouteTable | None = None
    page = RoutesPage(tmp_path / "key.pem", lambda: wanted)
    ann = Actor(kind=ActorKind.USER, name="ann", teams={"t1": Role.VIEWER})
    login = LOGINS.of(ann, [AppRef(name="shop", team="t1")], now=datetime.now(UTC))
    known = {"authorization": aiohttp.encode_basic_auth(login.username, login.password)}
    forged = {"x-forwarded-proto": "https", "x-hunqi-hold": "shop_web-r1:8080"}

    async with gateway(tmp_path) as running, backend() as task, aiohttp.ClientSession() as client:
        wanted = table(cluster(task), routes=(route(tls="auto"),), certificates=(given,))
        await running.apply(wanted)
        await running.healthy(1)

        async def ask(
            sent: dict[str, str], *, tls: bool = True, host: str = "shop.test", method: str = "GET"
        ) -> tuple[int, str]:
            place = running.place
            url = f"https://127.0.0.1:{place.https_port}{PAGE}" if tls else running.url(PAGE)
            headers = {"host": host, "accept": "text/html", **sent}
            trust: dict[str, Any] = {"ssl": authority.client_context(), "server_hostname": "shop.test"} if tls else {}
            async with client.request(method, url, headers=headers, allow_redirects=False, **trust) as answer:
                return answer.status, await answer.text()

        async with serve_holds(Holds(max_held=10), Path(running.place.hold_socket), page=page):
            status, text = await ask(known)
            assert status == 200
            assert "https://shop.test/" in text
            assert "shop_web-r1:8080" in text
            assert (await ask(known, host="nobody.test"))[0] == 200
            assert await ask({}) == (401, "")
            assert await ask({}, method="POST") == (401, "")
            assert await ask({"authorization": known["authorization"][:-8]}) == (401, "")
            assert await ask(known, tls=False) == (404, "")
            assert await ask({**known, **forged}, tls=False) == (404, "")
            assert await ask(forged) == (401, "")
        assert task.requests == []
