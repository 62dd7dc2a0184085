"""What is made once for a cluster: its id, the key that seals its secrets, its authority, this machine's certificates.

Each is made where it is missing and kept where it is there, so that a run that was cut short is completed by the next
one. The cluster's id also lies in the Swarm itself (a config), which is how a second machine learns that this Swarm has
a Hunqi already.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Final

from hunqi.engine.client import Docker
from hunqi.engine.errors import ConflictError, NotFoundError
from hunqi.engine.model import LABEL_CLUSTER, LABEL_KIND
from hunqi.errors import UserError
from hunqi.identity.directory import open_directory
from hunqi.identity.registry import RegistryLogins
from hunqi.kit.files import write_atomic
from hunqi.kit.x509 import load_certificate, names
from hunqi.nodes.authority import ClusterAuthority, key_name, make_request
from hunqi.nodes.credentials import Holding, read_holding, settle
from hunqi.nodes.identity import Credential, IdentityError, Role, TlsPaths
from hunqi.platform.membership import Membership, load_membership, save_membership
from hunqi.platform.settings import LOOPBACK, PlatformSettings, write_private
from hunqi.state.database import open_database
from hunqi.state.sealing import Sealer, load_sealer

CONFIG_NAME: Final = "hunqi-cluster"
AUTHORITY_NAME: Final = "hunqi-authority"
KIND: Final = "cluster"
SEAL_CONTEXT: Final = "cluster/authority"


class OtherClusterError(UserError):
    """The Swarm that is here belongs to another Hunqi than this data directory."""

    code: ClassVar[str] = "platform.other-cluster"


async def claim_swarm(settings: PlatformSettings, docker: Docker, *, node: str) -> Membership:
    """Return this machine's cluster, made if there is none, and write it into the Swarm.

    Raises :class:`OtherClusterError` where the Swarm belongs to another Hunqi.
    """
    held, there = load_membership(settings), await _cluster_in(docker)
    if held is not None and there is not None and held.cluster != there:
        raise OtherClusterError(
            f"this Swarm belongs to the Hunqi {there}, and {settings.data_dir} to {held.cluster}: "
            "use the data directory that belongs to it (--data), or hunqi recover"
        )
    if held is None and there is not None:
        raise OtherClusterError(
            f"this Swarm has a Hunqi already ({there}): hunqi join TOKEN adds this machine to it; "
            "if its control is lost, hunqi recover makes a new one here"
        )
    membership = Membership(cluster=held.cluster if held else secrets.token_hex(6), node=node)
    if membership != held:
        save_membership(settings, membership)
    if there is None:
        await _write_into(docker, membership.cluster)
    return membership


def make_keys(settings: PlatformSettings, membership: Membership, *, now: datetime) -> ClusterAuthority:
    """Make what is missing of the cluster's key, its authority and this machine's certificates; return the authority.

    Raises ``SettingsError`` and the errors of ``hunqi.state.sealing``.
    """
    for directory in (
        settings.control_dir,
        settings.agent_dir,
        settings.mirror_dir,
        settings.run_dir,
        settings.log_dir,
    ):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    sealer = load_sealer(settings.cluster_key_file)
    authority = _authority(settings, membership.cluster, sealer, now=now)
    write_registry_key(settings, RegistryLogins(sealer).public_pem)
    hosts = [LOOPBACK, *([settings.advertise] if settings.advertise else [])]
    agent = issue_to(settings.agent_tls, authority, Role.AGENT, hosts=hosts, now=now)
    issue_to(settings.mirror_tls, authority, Role.MIRROR, hosts=hosts, now=now, name=agent)
    issue_to(settings.control_tls, authority, Role.CONTROL, hosts=hosts, now=now)
    return authority


def write_registry_key(settings: PlatformSettings, public_pem: str) -> None:
    """Have this machine's accelerator believe the logins that control makes."""
    if not settings.registry_key_file.exists() or settings.registry_key_file.read_text("ascii") != public_pem:
        settings.mirror_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(settings.registry_key_file, public_pem.encode())


def issue_to(
    paths: TlsPaths, authority: ClusterAuthority, role: Role, *, hosts: Sequence[str], now: datetime, name: str = ""
) -> str:
    """Write a key, its certificate and the authority's, unless they are there, good and for ``hosts``.

    Returns the holder's name: one that is known keeps its name, a new one gets ``name``, by default that of its key.
    What has merely grown old is renewed where it is in use (``nodes.renewal``); what is over is made anew here.
    """
    settle(paths)
    held: Holding | None = None
    with contextlib.suppress(IdentityError):
        held = read_holding(paths.cert)
    if held and held.identity.cluster == authority.cluster:
        name = held.identity.name
        is_ours = paths.key.exists() and paths.ca.exists() and paths.ca.read_text("ascii") == authority.ca_pem
        others = [host for host in hosts if host != LOOPBACK]
        if is_ours and not held.over(now) and names(load_certificate(paths.cert.read_text("ascii")), others):
            return name
    key, request = make_request()
    name = name or key_name(request)
    write_private(paths.key, key)
    write_private(paths.ca, authority.ca_pem)
    write_private(paths.cert, authority.sign(request, role, name=name, hosts=hosts, now=now))
    return name


async def mirror_authority(settings: PlatformSettings, docker: Docker, membership: Membership) -> None:
    """Put the authority, sealed, into the Swarm unless it is there: without it a recovered control is a stranger."""
    labels = {LABEL_CLUSTER: membership.cluster, LABEL_KIND: KIND}
    with contextlib.suppress(ConflictError):
        await docker.configs.create(AUTHORITY_NAME, settings.authority_file.read_bytes(), labels=labels)


async def new_setup_token(settings: PlatformSettings) -> str | None:
    """Return a new setup token, which replaces an earlier one; None once there is a user.

    Brings the database to this version's schema. Raises the errors of ``hunqi.state``.
    """
    async with open_database(settings.database) as database:
        return await open_directory(database).setup.new_token()


def _authority(settings: PlatformSettings, cluster: str, sealer: Sealer, *, now: datetime) -> ClusterAuthority:
    path = settings.authority_file
    if path.exists():
        held = json.loads(sealer.open(path.read_bytes(), context=SEAL_CONTEXT))
        return ClusterAuthority(cluster, Credential(cert_pem=held["cert"], key_pem=held["key"]))
    authority = ClusterAuthority.make(cluster, now=now)
    held = json.dumps({"cert": authority.credential.cert_pem, "key": authority.credential.key_pem})
    write_atomic(path, sealer.seal(held.encode(), context=SEAL_CONTEXT), mode=0o600)
    return authority


async def _cluster_in(docker: Docker) -> str | None:
    try:
        config = await docker.configs.inspect(CONFIG_NAME)
    except NotFoundError:
        return None
    return config.labels.get(LABEL_CLUSTER)


async def _write_into(docker: Docker, cluster: str) -> None:
    labels = {LABEL_CLUSTER: cluster, LABEL_KIND: KIND}
    try:
        await docker.configs.create(CONFIG_NAME, json.dumps({"cluster": cluster}).encode(), labels=labels)
    except ConflictError as error:
        raise OtherClusterError("another Hunqi has just taken this Swarm: run hunqi up again") from error
