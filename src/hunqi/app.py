"""The only wiring of whole programs: settings in, a running product out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from hunqi.kit.memory import keep_one_arena
from hunqi.mirror.process.child import begin_logging

if TYPE_CHECKING:
    from hunqi.control.certificates import AcmeWish
    from hunqi.control.settings import ControlSettings
    from hunqi.engine.client import Docker
    from hunqi.mirror.settings import Address, MirrorSettings
    from hunqi.platform.membership import Membership
    from hunqi.platform.settings import PlatformSettings


def serve_mirror(
    settings: MirrorSettings,
    *,
    reload: Callable[[], MirrorSettings] | None = None,
    on_listening: Callable[[Address], None] = lambda _address: None,
) -> int:
    """Serve a mirror in the foreground until SIGTERM or SIGINT; return the exit status.

    ``reload`` reads the settings again (SIGHUP). ``on_listening`` is told the address once clients may come.
    Raises ``AlreadyServingError`` and ``ListenError``.
    """
    # Late, as everything here: a command that serves nothing imports nothing of it.
    from hunqi.mirror.process.fetcher import run_fetcher
    from hunqi.mirror.process.supervisor import Supervisor
    from hunqi.mirror.process.worker import run_worker

    begin_logging()
    return Supervisor(
        settings=settings,
        fetcher_main=run_fetcher,
        worker_main=run_worker,
        reload=reload,
        on_listening=on_listening,
    ).run()


def serve_agent(platform: PlatformSettings) -> int:
    """Serve this machine's agent in the foreground until SIGTERM or SIGINT; return the exit status."""
    from hunqi.agent.main import run_agent
    from hunqi.agent.settings import AgentSettings
    from hunqi.gateway.boxes import GatewaySettings
    from hunqi.gateway.node import NodeGateway

    begin_logging()
    keep_one_arena()
    membership = _membership(platform)
    settings = AgentSettings(
        data_dir=platform.agent_dir,
        cluster=membership.cluster,
        node=membership.node,
        host=platform.agent.host,
        port=platform.agent.port,
        docker_socket=platform.docker_socket,
        mirror_socket=platform.mirror_dir / "fetcher.sock",
        mirror_tls=platform.mirror_tls,
        control_url=platform.control_url if platform.has_control else None,
        mirror_address=str(platform.mirror),
        version=version("hunqi"),
    )

    def make_gateway(_settings: AgentSettings, docker: Docker) -> NodeGateway:
        gateway = GatewaySettings(
            cluster=membership.cluster,
            node=membership.node,
            folder=(platform.agent_dir / "gateway").absolute(),
            logins_key_file=platform.registry_key_file,
        )
        return NodeGateway(docker, gateway)

    asyncio.run(run_agent(settings, make_gateway=make_gateway))
    return 0


def serve_control(platform: PlatformSettings) -> int:
    """Serve control in the foreground until SIGTERM or SIGINT; return the exit status."""
    from hunqi.control.process import run_control
    from hunqi.platform.founding import make_keys
    from hunqi.state.making import make_apart

    begin_logging()
    keep_one_arena()
    membership = _membership(platform)
    authority = make_keys(platform, membership, now=datetime.now(UTC))
    settings = _control_settings(platform, membership)
    make_apart(settings.database_url)
    asyncio.run(run_control(settings, authority))
    return 0


def _control_settings(platform: PlatformSettings, membership: Membership) -> ControlSettings:
    from hunqi.control.settings import ControlSettings
    from hunqi.gateway.model import Edge
    from hunqi.platform.settings import shared_settings
    from hunqi.telemetry.settings import telemetry_settings

    edge = Edge(
        http_port=platform.http_port,
        https_port=platform.https_port,
        ready_port=platform.ready_port,
        tcp_ports=platform.tcp_ports,
        trusted_proxies=platform.trusted_proxies,
        proxy_protocol=platform.proxy_protocol,
    )
    return ControlSettings(
        cluster=membership.cluster,
        node=membership.node,
        host=platform.control.host,
        port=platform.control.port,
        database_url=platform.database_url or str((platform.control_dir / "control.db").absolute()),
        docker_socket=platform.docker_socket,
        mirror_address=str(platform.mirror),
        agent_address=str(platform.agent),
        tls=platform.control_tls,
        agent_tls=platform.agent_tls,
        cluster_key_file=platform.cluster_key_file,
        log_dir=platform.log_dir / "apps",
        backup_dir=platform.data_dir / "backups",
        telemetry_dir=platform.data_dir / "telemetry",
        edge=edge,
        acme=_acme(platform),
        is_open=platform.advertise is not None,
        event_days=platform.event_days,
        telemetry=telemetry_settings(platform.metric_days, platform.metric_bytes),
        shared=shared_settings(platform),
    )


def _acme(platform: PlatformSettings) -> AcmeWish | None:
    from hunqi.control.certificates import AcmeWish

    if platform.acme_email is None and platform.acme_directory is None:
        return None
    from hunqi.gateway.acme import LETS_ENCRYPT

    return AcmeWish(
        directory=platform.acme_directory or LETS_ENCRYPT,
        email=platform.acme_email or "",
        ca_file=platform.acme_ca_file,
    )


def _membership(platform: PlatformSettings) -> Membership:
    from hunqi.platform.errors import SettingsError
    from hunqi.platform.membership import load_membership

    membership = load_membership(platform)
    if membership is None:
        raise SettingsError(f"{platform.data_dir} belongs to no cluster yet: hunqi up makes one, hunqi join enters one")
    return membership
