"""The tables, for SQLite and PostgreSQL alike. Times are ISO 8601 in UTC; JSON is text; secrets are sealed bytes.

One row per thing and one writer per table: the room whose word it is (named above each group).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# identity ---------------------------------------------------------------------------------------------------------
USERS: Final = Table(
    "users",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("password_hash", Text),
    Column("is_admin", Boolean, nullable=False, default=False),
    Column("disabled", Boolean, nullable=False, default=False),
    Column("created_at", String(32), nullable=False),
)
TEAMS: Final = Table(
    "teams",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("quota", Text, nullable=False, default="{}"),
    Column("images", Text, nullable=False, default="[]", server_default="[]"),
    Column("created_at", String(32), nullable=False),
)
MEMBERS: Final = Table(
    "members",
    METADATA,
    Column("team_id", String(32), ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", String(32), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String(16), nullable=False),
)
GRANTS: Final = Table(
    "grants",
    METADATA,
    Column("app", String(63), primary_key=True),
    Column("user_id", String(32), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String(16), nullable=False),
)
TOKENS: Final = Table(
    "tokens",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("user_id", String(32), ForeignKey("users.id", ondelete="CASCADE")),
    Column("name", String(63), nullable=False),
    Column("secret_hash", String(64), nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32)),
    Column("revoked_at", String(32)),
    Column("last_used_at", String(32)),
)
SESSIONS: Final = Table(
    "sessions",
    METADATA,
    Column("secret_hash", String(64), primary_key=True),
    Column("user_id", String(32), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
)

# apps -------------------------------------------------------------------------------------------------------------
APPS: Final = Table(
    "apps",
    METADATA,
    Column("name", String(63), primary_key=True),
    Column("team_id", String(32), ForeignKey("teams.id"), nullable=False),
    Column("desired", String(16), nullable=False, default="running"),
    Column("live_revision", Integer),
    Column("intent", Text, nullable=False, default="{}"),
    Column("generation", Integer, nullable=False, default=0),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
)
REVISIONS: Final = Table(
    "revisions",
    METADATA,
    Column("app", String(63), ForeignKey("apps.name", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("spec", Text, nullable=False),
    Column("spec_digest", String(64), nullable=False),
    Column("origin", Text, nullable=False),
    Column("retained", Boolean, nullable=False, default=True),
    Column("created_at", String(32), nullable=False),
    Column("actor", String(96), nullable=False),
    Column("reason", Text, nullable=False, default=""),
)
DEPLOYS: Final = Table(
    "deploys",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("app", String(63), ForeignKey("apps.name", ondelete="CASCADE"), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("from_revision", Integer),
    Column("state", String(16), nullable=False),
    Column("progress", Text, nullable=False, default="{}"),
    Column("problem", Text),
    Column("actor", String(96), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("finished_at", String(32)),
)
PAYLOADS: Final = Table(
    "payloads",
    METADATA,
    Column("app", String(63), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", String(32), nullable=False),
)
VARIABLES: Final = Table(
    "variables",
    METADATA,
    Column("app", String(63), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("version", Integer, nullable=False, default=1),
    Column("updated_at", String(32), nullable=False),
)
RUNS: Final = Table(
    "runs",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("app", String(63), nullable=False, index=True),
    Column("service", String(63), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("exit_code", Integer),
    Column("due_at", String(32)),
    Column("started_at", String(32)),
    Column("finished_at", String(32)),
)

# gateway ----------------------------------------------------------------------------------------------------------
ROUTES: Final = Table(
    "routes",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("app", String(63), ForeignKey("apps.name", ondelete="CASCADE"), nullable=False, index=True),
    Column("service", String(63), nullable=False),
    Column("spec", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
)
CERTIFICATES: Final = Table(
    "certificates",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("hosts", Text, nullable=False),
    Column("source", String(16), nullable=False),
    Column("chain_pem", Text, nullable=False),
    Column("sealed_key", LargeBinary, nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("problem", Text),
)
GATEWAY: Final = Table(
    "gateway",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False, default=""),
    Column("updated_at", String(32), nullable=False),
)

# nodes ------------------------------------------------------------------------------------------------------------
NODES: Final = Table(
    "nodes",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("agent_address", String(128), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("intent", String(16), nullable=False, default="active"),
    Column("progress", Text, nullable=False, default="{}"),
    Column("joined_at", String(32), nullable=False),
    Column("seen_at", String(32)),
)
JOIN_TOKENS: Final = Table(
    "join_tokens",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("secret_hash", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("used_at", String(32)),
    Column("used_by", String(128)),
)

# control ----------------------------------------------------------------------------------------------------------
EVENTS: Final = Table(
    "events",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("at", String(32), nullable=False),
    Column("kind", String(48), nullable=False),
    Column("app", String(63), index=True),
    Column("subject", String(128), nullable=False, default=""),
    Column("actor", String(96), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("data", Text, nullable=False, default="{}"),
    sqlite_autoincrement=True,
)
LEASES: Final = Table(
    "leases",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("expires_at", Float, nullable=False),
)
IDEMPOTENCY: Final = Table(
    "idempotency",
    METADATA,
    Column("key", String(128), primary_key=True),
    Column("actor", String(96), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("status", Integer),
    Column("body", Text),
    Column("created_at", String(32), nullable=False),
)
SETTINGS: Final = Table(
    "settings",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
KEYS: Final = Table(
    "keys",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("public", Text, nullable=False, default=""),
    Column("updated_at", String(32), nullable=False),
)
"""Keys of the cluster: its authorities, its ACME account, what signs the registry's tokens."""

# rollouts ---------------------------------------------------------------------------------------------------------
ROLLOUTS: Final = Table(
    "rollouts",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("app", String(63), ForeignKey("apps.name", ondelete="CASCADE"), nullable=False, index=True),
    Column("deploy", String(32), nullable=False, unique=True),
    Column("revision", Integer, nullable=False),
    Column("stable", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("spec", Text, nullable=False),
    Column("progress", Text, nullable=False, default="{}"),
    Column("problem", Text),
    Column("actor", String(96), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("updated_at", String(32), nullable=False),
    Column("finished_at", String(32)),
)
ROLLOUT_LOOKS: Final = Table(
    "rollout_looks",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("rollout", String(32), ForeignKey("rollouts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("data", Text, nullable=False, default="{}"),
)
"""What was measured at each look: weights, samples, verdicts."""

# scaling ----------------------------------------------------------------------------------------------------------
SCALING: Final = Table(
    "scaling",
    METADATA,
    Column("app", String(63), ForeignKey("apps.name", ondelete="CASCADE"), primary_key=True),
    Column("service", String(63), primary_key=True),
    Column("spec", Text),
    Column("memory", Text, nullable=False, default="{}"),
    Column("actor", String(96), nullable=False, default=""),
    Column("updated_at", String(32), nullable=False),
)
"""``spec`` is what a user has set in place of the file's, ``memory`` what the loop must not forget over a restart."""
SCALING_DECISIONS: Final = Table(
    "scaling_decisions",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("app", String(63), ForeignKey("apps.name", ondelete="CASCADE"), nullable=False),
    Column("service", String(63), nullable=False),
    Column("at", Float, nullable=False),
    Column("data", Text, nullable=False, default="{}"),
)

# telemetry --------------------------------------------------------------------------------------------------------
METRIC_SOURCES: Final = Table(
    "metric_sources",
    METADATA,
    Column("name", String(63), primary_key=True),
    Column("url", Text, nullable=False),
    Column("sealed", LargeBinary),
    Column("updated_at", String(32), nullable=False),
)
"""Servers that answer Prometheus queries; ``sealed`` is the bearer token."""

# hooks ------------------------------------------------------------------------------------------------------------
HOOKS: Final = Table(
    "hooks",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("app", String(63)),
    Column("trusted", Boolean, nullable=False, default=False),
    Column("url", Text, nullable=False),
    Column("kinds", Text, nullable=False, default="[]"),
    Column("sealed", LargeBinary, nullable=False),
    Column("told", Integer, nullable=False, default=0),
    Column("problem", Text),
    Column("created_at", String(32), nullable=False),
)
"""Without ``app`` it is told of everything. ``trusted`` ones, made by administrators, may be on the machine itself.
``told`` is the number of the last event that was delivered or given up; ``sealed`` is the key that signs."""
HOOK_DELIVERIES: Final = Table(
    "hook_deliveries",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("hook", String(32), ForeignKey("hooks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("event", Integer, nullable=False),
    Column("at", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("status", Integer),
    Column("problem", Text),
)

Index("ix_deploys_app_created", DEPLOYS.c.app, DEPLOYS.c.created_at)
Index("ix_scaling_decisions_app", SCALING_DECISIONS.c.app, SCALING_DECISIONS.c.service, SCALING_DECISIONS.c.seq)
