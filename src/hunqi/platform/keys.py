"""The cluster's key and its authority, for control on a machine that did not found the cluster.

The Swarm keeps the key, or the owner gives it; the authority lies in the Swarm, sealed by it. Nothing is written unless
one opens the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hunqi.engine.client import Docker
from hunqi.engine.errors import NotFoundError
from hunqi.kit.files import write_atomic
from hunqi.platform import escrow
from hunqi.platform.errors import RecoverError, SettingsError
from hunqi.platform.founding import AUTHORITY_NAME, SEAL_CONTEXT
from hunqi.platform.settings import PlatformSettings, write_private
from hunqi.state.errors import ClusterKeyError, SealBrokenError
from hunqi.state.sealing import Sealer


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The key (hexadecimal digits) and the authority that it opens."""

    key: str = field(repr=False)
    authority: bytes = field(repr=False)

    def write(self, chosen: PlatformSettings) -> None:
        """Put both where control has them, for its owner alone. Raises ``SettingsError``."""
        write_private(chosen.cluster_key_file, self.key + "\n")
        if not chosen.authority_file.exists():
            write_atomic(chosen.authority_file, self.authority, mode=0o600)


async def find_keys(chosen: PlatformSettings, docker: Docker, *, node: str, key_file: Path | None) -> Keys:
    """Return the key of ``key_file`` (without one, that which is here, or the Swarm's) and the authority.

    ``node`` is this machine's id in the Swarm. Raises ``RecoverError`` for a key that is missing or another cluster's,
    ``SettingsError``, and what ``escrow.withdraw`` raises.
    """
    path = key_file or chosen.cluster_key_file
    if key_file is None and not path.exists():
        source, key = "what the Swarm keeps", await escrow.withdraw(docker, node=node)
        if key is None:
            raise RecoverError(
                "the cluster's key is needed, without which nothing that is sealed opens, and the Swarm keeps none: "
                "give --key-file FILE, a copy of DIR/control/cluster.key of the machine on which control was first"
            )
    else:
        source, key = str(path), _text_of(path)
    try:
        sealer = Sealer(bytes.fromhex(key))
    except (ValueError, ClusterKeyError) as error:
        raise SettingsError(f"{source} is no key of a cluster: 64 hexadecimal digits are one") from error
    authority = await _authority(chosen, docker)
    try:
        sealer.open(authority, context=SEAL_CONTEXT)
    except SealBrokenError as error:
        raise RecoverError(
            f"{source} is not the key of this cluster: nothing was changed; give the cluster.key of this one"
        ) from error
    return Keys(key=key, authority=authority)


def _text_of(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is no key of a cluster: 64 hexadecimal digits are one") from error


async def _authority(chosen: PlatformSettings, docker: Docker) -> bytes:
    if chosen.authority_file.exists():
        return chosen.authority_file.read_bytes()
    try:
        return (await docker.configs.inspect(AUTHORITY_NAME)).data or b""
    except NotFoundError as error:
        raise RecoverError(
            "the Swarm has no copy of the cluster's authority: restore DIR/control from a backup"
        ) from error
