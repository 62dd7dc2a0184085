"""What web and worker of the shop share: PostgreSQL for what must last, Redis for what is to be done."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg2
import redis

QUEUE = "orders"
_TABLE = """
create table if not exists orders (
    id serial primary key,
    item text not null,
    state text not null default 'ordered',
    ordered_at timestamptz not null default now()
)
"""


def connect_database() -> psycopg2.extensions.connection:
    """Return a connection to PostgreSQL, its table made; waits up to half a minute for a database that starts."""
    password = Path(os.environ["DB_PASSWORD_FILE"]).read_text(encoding="utf-8").strip()
    for attempt in range(30):
        try:
            database = psycopg2.connect(
                host=os.environ["DB_HOST"], dbname="shop", user="shop", password=password, connect_timeout=3
            )
            break
        except psycopg2.OperationalError:
            if attempt == 29:
                raise
            time.sleep(1.0)
    database.autocommit = True
    with database.cursor() as cursor:
        # Two replicas that start at once would both make the table: one waits here for the other.
        cursor.execute("select pg_advisory_lock(7000)")
        cursor.execute(_TABLE)
        cursor.execute("select pg_advisory_unlock(7000)")
    return database


def connect_queue() -> redis.Redis:
    """Return a connection to Redis, made when it is used."""
    return redis.Redis(host=os.environ["REDIS_HOST"], socket_timeout=10, health_check_interval=15)
