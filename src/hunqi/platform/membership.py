"""Which cluster this machine belongs to. Light: the agent imports it."""

from __future__ import annotations

from dataclasses import dataclass

from hunqi.kit import codec
from hunqi.platform.errors import SettingsError
from hunqi.platform.settings import PlatformSettings, write_private


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Which cluster this machine belongs to, and its node's id in the Swarm."""

    cluster: str
    node: str


def load_membership(settings: PlatformSettings) -> Membership | None:
    """Return what this machine belongs to, or None before its first ``hunqi up`` or ``hunqi join``."""
    try:
        return codec.loads(Membership, settings.cluster_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, codec.CodecError) as error:
        raise SettingsError(f"{settings.cluster_file} cannot be read: {error}") from error


def save_membership(settings: PlatformSettings, membership: Membership) -> None:
    """Write what this machine belongs to. Raises ``SettingsError``."""
    write_private(settings.cluster_file, codec.dumps(membership) + "\n")
