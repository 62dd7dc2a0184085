"""The keys of what has tables of its own in the file: upstreams, relays, retention rules."""

from __future__ import annotations

from typing import Final

from hunqi.config import kinds
from hunqi.config.setting import Setting

ORIGIN: Final[tuple[Setting, ...]] = (
    Setting(key="url", fields=("url",), kind=kinds.URL, help="The registry's address."),
    Setting(
        key="ca-file",
        fields=("ca_file",),
        kind=kinds.FILE,
        help="The authority of its certificate (PEM); default the system's.",
    ),
    Setting(
        key="client-cert-file", fields=("client_cert_file",), kind=kinds.FILE, help="A client certificate for it (PEM)."
    ),
    Setting(key="client-key-file", fields=("client_key_file",), kind=kinds.FILE, help="The client certificate's key."),
    Setting(
        key="credentials-file",
        fields=("credentials_file",),
        kind=kinds.FILE,
        help="A Docker config.json; its entry for this registry's host is used.",
    ),
    Setting(
        key="credential-helper",
        fields=("credential_helper",),
        kind=kinds.HELPER,
        help="NAME of a docker-credential-NAME program to ask for credentials.",
    ),
    Setting(
        key="bandwidth-limit",
        fields=("bandwidth_limit",),
        kind=kinds.SIZE,
        help="Most bytes a second from it, all connections together.",
    ),
    Setting(
        key="max-connections", fields=("max_connections",), kind=kinds.PARALLEL, help="Most connections to it at once."
    ),
    Setting(
        key="allow",
        fields=("allow",),
        kind=kinds.TEXT,
        many=True,
        help="Patterns of the repositories that may be mirrored; none allows all.",
    ),
    Setting(
        key="deny",
        fields=("deny",),
        kind=kinds.TEXT,
        many=True,
        help="Patterns of repositories that may not, stronger than allow.",
    ),
)
"""What a table of ``[mirror.upstreams."NAME"]`` may hold."""

RELAY: Final = tuple(setting for setting in ORIGIN if setting.key not in {"allow", "deny"})
"""What a table of ``[[mirror.relays]]`` may hold beside its name: patterns are the upstream's."""

RETENTION: Final[tuple[Setting, ...]] = (
    Setting(key="pattern", fields=("pattern",), kind=kinds.TEXT, help="Of the names of pushed repositories."),
    Setting(key="keep-newest", fields=("keep_newest",), kind=kinds.KEEP, help="Keep only the newest so many tags."),
    Setting(key="max-age", fields=("max_age_s",), kind=kinds.DEADLINE, help="Remove tags that were pushed before."),
    Setting(
        key="untagged-after",
        fields=("untagged_after_s",),
        kind=kinds.DEADLINE,
        help="Remove manifests that have had no tag for so long.",
    ),
)
"""What a table of ``[[mirror.space.retention]]`` may hold."""
