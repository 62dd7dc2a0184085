"""Every setting of a mirror, once: its key in the file, its variable, its flag, its kind and what it is for.

The file reader, the environment reader, the flags of ``hunqi mirror serve`` and ``docs/configuration.md`` are all made
from this table, so that none of them can know a setting that another does not.
"""

from __future__ import annotations

from typing import Final

from hunqi.config import kinds
from hunqi.config.setting import Setting

_SOURCES: Final = "Where images come from"
_DOWNLOADS: Final = "How blobs are downloaded"
_TAGS: Final = "How long tags are good"
_PEERS: Final = "Other nodes of a cluster"
_ACCESS: Final = "Who may do what"

SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        key="listen",
        fields=("listen",),
        flag="--listen",
        kind=kinds.ADDRESS,
        help="Where clients connect. Docker trusts loopback without TLS. Port 0 lets the kernel choose.",
    ),
    Setting(
        key="data",
        fields=("data_dir",),
        flag="--data",
        kind=kinds.DIRECTORY,
        default="/var/lib/hunqi/mirror for root, else ~/.local/share/hunqi/mirror",
        help="The directory of everything kept. One running mirror per directory.",
    ),
    Setting(
        key="workers",
        fields=("workers",),
        flag="--workers",
        kind=kinds.WORKERS,
        default="one per core, at most 8",
        help="Processes that serve clients; they share the port.",
    ),
    Setting(
        key="space.cache-max",
        fields=("space.cache_max",),
        flag="--cache-max",
        kind=kinds.SIZE,
        help="Most bytes of mirrored content; the least recently used goes first. Pushed content does not count.",
    ),
    Setting(
        key="space.low-percent",
        fields=("space.low_percent",),
        kind=kinds.PERCENT,
        help="An eviction pass goes down to this share of cache-max.",
    ),
    Setting(
        key="space.upload-max-age",
        fields=("space.upload_max_age_s",),
        kind=kinds.DEADLINE,
        help="An upload that nobody went on with for so long is removed.",
    ),
    Setting(
        key="tls.cert",
        fields=("tls.cert_file",),
        flag="--tls-cert",
        kind=kinds.FILE,
        help="Serve HTTPS with this certificate chain (PEM).",
    ),
    Setting(
        key="tls.key", fields=("tls.key_file",), flag="--tls-key", kind=kinds.FILE, help="The certificate's key (PEM)."
    ),
    Setting(
        key="tls.ca",
        fields=("tls.ca_file",),
        flag="--tls-ca",
        kind=kinds.FILE,
        help="Clients must show a certificate of this authority (PEM).",
    ),
    Setting(
        key="drain",
        fields=("drain_s",),
        flag="--drain",
        kind=kinds.DURATION,
        help="Longest wait for running answers when stopping.",
    ),
    Setting(
        key="access-log",
        fields=("access_log",),
        flag="--access-log",
        kind=kinds.PATH,
        default="standard output",
        help="File of the access lines, one JSON object per request.",
    ),
    Setting(
        key="default-upstream",
        fields=("default_upstream",),
        flag="--default-upstream",
        kind=kinds.UPSTREAM_NAME,
        default="docker.io, or the first upstream where docker.io is none",
        help="The upstream of names without a host, as Docker's registry-mirrors sends them.",
        panel=_SOURCES,
    ),
    Setting(
        key="deadlines.connect",
        fields=("deadlines.connect_s",),
        flag="--connect-timeout",
        kind=kinds.DEADLINE,
        help="Longest wait for a connection to a source.",
        panel=_DOWNLOADS,
    ),
    Setting(
        key="deadlines.first-byte",
        fields=("deadlines.first_byte_s",),
        flag="--first-byte-timeout",
        kind=kinds.DEADLINE,
        help="Longest wait for a source's answer to begin.",
        panel=_DOWNLOADS,
    ),
    Setting(
        key="deadlines.stall",
        fields=("deadlines.stall_s",),
        flag="--stall-timeout",
        kind=kinds.DEADLINE,
        help="Longest silence of a source in the middle of a blob; then the next source goes on.",
        panel=_DOWNLOADS,
    ),
    Setting(
        key="fetch.connections",
        fields=("fetch.connections",),
        flag="--fetch-connections",
        kind=kinds.CONNECTIONS,
        help="Most connections for one blob; 1 turns ranges off.",
        panel=_DOWNLOADS,
    ),
    Setting(
        key="fetch.range-threshold",
        fields=("fetch.range_threshold",),
        flag="--range-threshold",
        kind=kinds.SIZE,
        help="A smaller blob is fetched over one connection.",
        panel=_DOWNLOADS,
    ),
    Setting(
        key="fetch.on-disconnect",
        fields=("fetch.on_disconnect", "fetch.finish_percent"),
        flag="--on-disconnect",
        kind=kinds.ON_DISCONNECT,
        help="What becomes of a download when its last client left: finish, finish-if-over=PERCENT or stop.",
        panel=_DOWNLOADS,
    ),
    Setting(
        key="fetch.parallel",
        fields=("fetch.parallel",),
        kind=kinds.PARALLEL,
        help="Most blobs in flight; further ones wait.",
        panel=_DOWNLOADS,
    ),
    Setting(
        key="fetch.read-ahead",
        fields=("fetch.read_ahead",),
        flag="--read-ahead",
        off_flag="--no-read-ahead",
        kind=kinds.BOOL,
        help="Begin to fetch an image's layers when its first blob is asked for.",
        panel=_DOWNLOADS,
    ),
    Setting(
        key="fetch.read-ahead-parallel",
        fields=("fetch.read_ahead_parallel",),
        kind=kinds.PARALLEL,
        help="Most blobs of read-ahead in flight.",
        panel=_DOWNLOADS,
    ),
    Setting(
        key="tags.ttl",
        fields=("tags.ttl_s",),
        flag="--tag-ttl",
        kind=kinds.DURATION,
        help="For so long a tag's answer is good without asking the upstream.",
        panel=_TAGS,
    ),
    Setting(
        key="tags.patterns",
        fields=("tags.patterns",),
        flag="--tag-ttl-for",
        kind=kinds.TAG_PATTERN,
        many=True,
        help='TTLs by pattern of "repository:tag"; the first match wins.',
        panel=_TAGS,
    ),
    Setting(
        key="tags.stale",
        fields=("tags.stale_s",),
        flag="--tag-stale",
        kind=kinds.DURATION,
        help="For so long after its TTL a tag is answered at once and revalidated behind the answer.",
        panel=_TAGS,
    ),
    Setting(
        key="tags.negative",
        fields=("tags.negative_s",),
        kind=kinds.DURATION,
        help='How long "there is no such manifest" is remembered.',
        panel=_TAGS,
    ),
    Setting(
        key="tags.visibility",
        fields=("tags.visibility_s",),
        kind=kinds.DURATION,
        help="How long an upstream repository's being public or private is remembered.",
        panel=_TAGS,
    ),
    Setting(
        key="peers.urls",
        fields=("peers.urls",),
        flag="--peer",
        kind=kinds.URL,
        many=True,
        help="The peer address of another node's mirror (this node's own may be among them).",
        panel=_PEERS,
    ),
    Setting(
        key="peers.listen",
        fields=("peers.listen",),
        flag="--peer-listen",
        kind=kinds.ADDRESS,
        help="Where other nodes' mirrors connect, by mutual TLS; on loopback plain HTTP will do.",
        panel=_PEERS,
    ),
    Setting(
        key="peers.names",
        fields=("peers.names",),
        flag="--peer-name",
        kind=kinds.TEXT,
        many=True,
        help="A host name in the certificates of nodes that may ask; without any, every certificate of the authority.",
        panel=_PEERS,
    ),
    Setting(
        key="peers.tls.cert",
        fields=("peers.tls.cert_file",),
        flag="--peer-tls-cert",
        kind=kinds.FILE,
        help="This node's certificate (hunqi mirror certs issue).",
        panel=_PEERS,
    ),
    Setting(
        key="peers.tls.key",
        fields=("peers.tls.key_file",),
        flag="--peer-tls-key",
        kind=kinds.FILE,
        help="The key of this node's certificate.",
        panel=_PEERS,
    ),
    Setting(
        key="peers.tls.ca",
        fields=("peers.tls.ca_file",),
        flag="--peer-tls-ca",
        kind=kinds.FILE,
        help="The cluster's authority (hunqi mirror certs init).",
        panel=_PEERS,
    ),
    Setting(
        key="access.users-file",
        fields=("access.users_file",),
        flag="--users-file",
        kind=kinds.PATH,
        default="users.json in the data directory",
        help="Users and their grants (hunqi mirror user add).",
        panel=_ACCESS,
    ),
    Setting(
        key="access.trusted-key",
        fields=("access.trusted_key",),
        flag="--trusted-key",
        kind=kinds.PATH,
        help="A public key (PEM, Ed25519) whose signed passwords are believed: that of a Hunqi control.",
        panel=_ACCESS,
    ),
    Setting(
        key="access.allow-anonymous-push",
        fields=("access.allow_anonymous_push",),
        flag="--allow-anonymous-push",
        kind=kinds.BOOL,
        help="Let anyone push, without a user.",
        panel=_ACCESS,
    ),
    Setting(
        key="access.local",
        fields=("access.local",),
        flag="--local",
        kind=kinds.NAMESPACE,
        many=True,
        help="A namespace that is local before anyone pushed to it.",
        panel=_ACCESS,
    ),
    Setting(
        key="access.token-ttl",
        fields=("access.token_ttl_s",),
        kind=kinds.DEADLINE,
        help="How long a token that this mirror gave is good.",
        panel=_ACCESS,
    ),
)

UPSTREAMS: Final = Setting(
    key="upstreams",
    fields=("upstreams",),
    flag="--upstream",
    kind=kinds.UPSTREAM,
    many=True,
    default="docker.io, ghcr.io, quay.io, registry.k8s.io, gcr.io, mcr.microsoft.com",
    help="A registry that may be mirrored; with any, only those given. http:// only when written so.",
    panel=_SOURCES,
)
RELAYS: Final = Setting(
    key="relays",
    fields=("relays",),
    flag="--relay",
    kind=kinds.RELAY,
    many=True,
    help="A mirror to ask before the upstream NAME; * for every upstream.",
    panel=_SOURCES,
)
ALL: Final = (*SETTINGS[:2], UPSTREAMS, RELAYS, *SETTINGS[2:])
"""In the order of the help text."""
