"""Write the next migration of control's database: what the tables say against what the last migration made.

    .venv/bin/python tools/migration.py 0002 "apps have a colour"

Read it before committing it; set ``HEAD`` in src/hunqi/state/schema.py to its number.
"""

from __future__ import annotations

import sys

from alembic import command
from sqlalchemy import create_engine

from hunqi.state.schema import configuration


def main(revision: str, message: str) -> int:
    """Write ``versions/<revision>_<message>.py``."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        config = configuration()
        config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        command.revision(config, message, autogenerate=True, rev_id=revision)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
