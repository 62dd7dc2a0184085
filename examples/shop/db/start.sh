#!/bin/sh
# Make the database at the first start, then serve. POSTGRES_DB, POSTGRES_USER and POSTGRES_PASSWORD_FILE as usual.
set -eu

bin=/usr/lib/postgresql/15/bin
data=/var/lib/postgresql/data

if [ ! -s "$data/PG_VERSION" ]; then
    "$bin/initdb" --pgdata="$data" --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C >/dev/null
    echo "create database \"$POSTGRES_DB\"" | "$bin/postgres" --single -D "$data" postgres >/dev/null
    echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
fi
exec "$bin/postgres" -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp -c jit=off
