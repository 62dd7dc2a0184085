"""Certificates by ACME: a local authority (pebble) asks the real Envoy for the proofs."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from hunqi.gateway.acme import AcmeAccount, AcmeFailedError, AcmeIssuer
from hunqi.gateway.certificates import Source
from hunqi.gateway.model import Certificate
from testbed.authority import Authority
from testbed.gateway import Gateway, free_port, gateway, table
from testbed.programs import Daemon, accepts, find_program

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("gateway")]


@pytest.fixture
async def envoy_at(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(tmp_path / "envoy") as running:
        yield running


@pytest.fixture
def account(envoy_at: Gateway, tmp_path: Path) -> Iterator[AcmeAccount]:
    """An authority whose proofs are asked for at the Envoy's http port, whatever the name."""
    authority = Authority(tmp_path / "pebble")
    served = authority.issue("pebble")
    api, management, dns, dns_control = free_port(), free_port(), free_port(), free_port()
    config = {
        "pebble": {
            "listenAddress": f"127.0.0.1:{api}",
            "managementListenAddress": f"127.0.0.1:{management}",
            "certificate": str(served.cert_file),
            "privateKey": str(served.key_file),
            "httpPort": envoy_at.place.http_port,
            "tlsPort": 1,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
        }
    }
    (tmp_path / "pebble.json").write_text(json.dumps(config))
    names = [find_program("pebble-challtestsrv"), "-defaultIPv6", "", "-defaultIPv4", "127.0.0.1"]
    names += ["-http01", "", "-https01", "", "-tlsalpn01", "", "-dns01", f":{dns}"]
    names += ["-management", f"127.0.0.1:{dns_control}"]
    command = [find_program("pebble"), "-config", str(tmp_path / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}"]
    env = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PATH": "/usr/bin:/bin"}
    with contextlib.ExitStack() as stack:
        resolver = Daemon(names, log=tmp_path / "dns.log", env=env)
        stack.callback(resolver.stop)
        resolver.wait_until(lambda: accepts("127.0.0.1", dns), timeout_s=15.0)
        daemon = Daemon(command, log=tmp_path / "pebble.log", env=env)
        stack.callback(daemon.stop)
        daemon.wait_until(lambda: "ACME directory available" in (tmp_path / "pebble.log").read_text(), timeout_s=15.0)
        daemon.wait_until(lambda: accepts("127.0.0.1", api), timeout_s=15.0)  # it says so before it listens
        yield AcmeAccount.make(f"https://127.0.0.1:{api}/dir", ca_file=str(authority.ca_file))


async def test_a_certificate_is_proved_through_the_gateway_and_served(envoy_at: Gateway, account: AcmeAccount) -> None:
    given: list[Mapping[str, str]] = []

    async def publish(answers: Mapping[str, str]) -> None:
        given.append(answers)
        await envoy_at.apply(table(challenges=answers, version=len(given) + 1))

    issuer = AcmeIssuer(account, publish, now=datetime.now)
    held = await issuer.issue(["shop.example.com", "www.example.com"])
    assert (held.source, held.hosts) == (Source.ACME, ("shop.example.com", "www.example.com"))
    assert held.valid(datetime.now(UTC))
    assert len(given[0]) == 2
    assert given[-1] == {}

    # The same key is the same account after a restart, and proves the hosts anew.
    again = await AcmeIssuer(account, publish, now=datetime.now).issue(["shop.example.com"])
    assert again.hosts == ("shop.example.com",)

    served = Certificate(hosts=held.hosts, chain_pem=held.chain_pem, key_pem=held.key_pem)
    await envoy_at.apply(table(certificates=(served,), version=100))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url = f"https://127.0.0.1:{envoy_at.place.https_port}/"
    async with (
        aiohttp.ClientSession() as client,
        client.get(url, ssl=context, server_hostname="shop.example.com") as answer,
    ):
        assert answer.status == 404


async def test_a_host_that_is_not_ours_is_refused_with_the_authoritys_reason(
    envoy_at: Gateway, account: AcmeAccount
) -> None:
    given: list[Mapping[str, str]] = []

    async def publish_nothing(answers: Mapping[str, str]) -> None:
        given.append(answers)

    with pytest.raises(AcmeFailedError, match=r"theirs\.example\.com"):
        await AcmeIssuer(account, publish_nothing, now=datetime.now).issue(["theirs.example.com"])
    assert given[-1] == {}


async def test_an_authority_that_is_not_there_is_said_so(envoy_at: Gateway) -> None:
    async def publish(answers: Mapping[str, str]) -> None:
        """Nobody asks."""

    account = AcmeAccount.make(f"https://127.0.0.1:{free_port()}/dir")
    with pytest.raises(AcmeFailedError, match="gave no certificate"):
        await AcmeIssuer(account, publish, now=datetime.now).issue(["shop.example.com"])
