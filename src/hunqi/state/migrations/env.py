"""Runs the migrations on the connection that :mod:`hunqi.state.schema` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from hunqi.state.tables import METADATA


def run() -> None:
    """Migrate on the given connection."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        transactional_ddl=True,
        render_as_batch=True,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
