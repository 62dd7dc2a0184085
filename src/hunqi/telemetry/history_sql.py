"""The questions to DuckDB, as text. Values are parameters; only names from the tables below are put into the text."""

from __future__ import annotations

from typing import Final

_COMMON: Final = {"at": "BIGINT", "app": "VARCHAR", "service": "VARCHAR", "revision": "INTEGER"}
COLUMNS: Final[dict[str, dict[str, str]]] = {
    "services": {
        **_COMMON,
        "seconds": "DOUBLE",
        "requests": "BIGINT",
        "classes": "BIGINT[]",
        "buckets": "UTINYINT[]",
        "counts": "BIGINT[]",
        "active": "DOUBLE",
        "held": "DOUBLE",
    },
    "tasks": {
        **_COMMON,
        "task": "VARCHAR",
        "node": "VARCHAR",
        "cpu": "DOUBLE",
        "memory": "BIGINT",
        "ooms": "INTEGER",
    },
    "custom": {
        **_COMMON,
        "task": "VARCHAR",
        "node": "VARCHAR",
        "metric": "VARCHAR",
        "labels": "VARCHAR",
        "value": "DOUBLE",
    },
}
GROUPS: Final = {
    "": "''",
    "service": "service",
    "revision": "service || '-r' || revision",
    "task": "task",
    "node": "node",
}
_WHOLE: Final = 'WHERE "at" IS NOT NULL AND app IS NOT NULL AND service IS NOT NULL AND revision IS NOT NULL'
_CLASSES: Final = ", ".join(f"sum(classes[{index}])::BIGINT AS c{index}" for index in range(1, 6))


def lines_of(kind: str) -> str:
    """Return the source of rows of journals (a parameter: their paths); a damaged line is a row of nothing."""
    columns = ", ".join(f"'{name}': '{type_}'" for name, type_ in COLUMNS[kind].items())
    return f"read_json(?, format='newline_delimited', ignore_errors=true, columns={{{columns}}})"


def keep_journal(kind: str) -> str:
    """Return how rows of a journal are selected for a file."""
    return f'SELECT * FROM {lines_of(kind)} {_WHOLE} ORDER BY app, service, revision, "at"'  # noqa: S608  (our names)


def roll_up(kind: str, step_s: int) -> str:
    """Return how rows of files (a parameter: their paths) become rows of ``step_s``."""
    source, at = "read_parquet(?)", f'"at" - "at" % {step_s}'
    match kind:
        case "services":
            return _roll_up_services(source, at)
        case "tasks":
            values = "avg(cpu) AS cpu, avg(memory)::BIGINT AS memory, max(ooms) AS ooms"
            keys = "app, service, revision, task, node"
        case _:
            values, keys = "avg(value) AS value", "app, service, revision, task, node, metric, labels"
    columns = ", ".join(f'"{name}"' for name in COLUMNS[kind])
    return (
        f'SELECT {columns} FROM (SELECT {at} AS "at", {keys}, {values} FROM {source} GROUP BY ALL) '  # noqa: S608
        'ORDER BY app, service, revision, "at"'
    )


def _roll_up_services(source: str, at: str) -> str:
    keys = "app, service, revision"
    return f"""
        WITH source AS (SELECT *, {at} AS t FROM {source}),
        totals AS (
            SELECT t, {keys}, sum(seconds) AS seconds, sum(requests)::BIGINT AS requests, {_CLASSES},
                   sum(active * seconds) / greatest(sum(seconds), 0.001) AS active, avg(held) AS held
            FROM source GROUP BY t, {keys}),
        {_histograms(keys)}
        SELECT totals.t AS "at", totals.app, totals.service, totals.revision, seconds, requests,
               [c1, c2, c3, c4, c5] AS classes, coalesce(buckets, []) AS buckets, coalesce(counts, []) AS counts,
               active, held
        FROM totals LEFT JOIN histograms USING (t, {keys}) ORDER BY app, service, revision, "at"
    """  # noqa: S608  (our names)


def _histograms(keys: str) -> str:
    return f"""
        pairs AS (SELECT t, {keys}, unnest(buckets) AS bucket, unnest(counts) AS count FROM source),
        merged AS (SELECT t, {keys}, bucket, sum(count)::BIGINT AS count FROM pairs GROUP BY ALL),
        histograms AS (
            SELECT t, {keys}, list(bucket ORDER BY bucket) AS buckets, list(count ORDER BY bucket) AS counts
            FROM merged GROUP BY t, {keys})"""  # noqa: S608  (our names)


def select(source: str, *, service: bool, revision: bool) -> str:
    """Return the choice of an app's rows. Parameters: the source's, app, from, to; service and revision if asked."""
    where = 'app = ? AND "at" >= ? AND "at" < ?'
    where += " AND service = ?" if service else ""
    where += " AND revision = ?" if revision else ""
    return f"SELECT * FROM {source} WHERE {where}"  # noqa: S608  (our names)


def bins(kind: str, chosen: str, *, by: str, metric: bool, labels: bool) -> str:
    """Return the question for bins over ``chosen`` rows.

    The first parameter is the width in seconds; those of ``chosen`` follow, then the metric and its labels if asked.
    """
    where = ("WHERE metric = ?" + (" AND labels = ?" if labels else "")) if metric else ""
    group = GROUPS[by]
    if kind == "services":
        return f"""
            WITH source AS (SELECT *, "at" - "at" % ?::BIGINT AS t, {group} AS g FROM ({chosen})),
            moments AS (
                SELECT t, g, "at", max(seconds) AS seconds, sum(requests)::BIGINT AS requests, {_CLASSES},
                       sum(active) AS active, sum(held) AS held
                FROM source GROUP BY t, g, "at"),
            totals AS (
                SELECT t, g, sum(seconds) AS seconds, sum(requests)::BIGINT AS requests,
                       sum(c1)::BIGINT AS c1, sum(c2)::BIGINT AS c2, sum(c3)::BIGINT AS c3, sum(c4)::BIGINT AS c4,
                       sum(c5)::BIGINT AS c5, sum(active * seconds) / greatest(sum(seconds), 0.001) AS active,
                       avg(held) AS held
                FROM moments GROUP BY t, g),
            {_histograms("g")}
            SELECT totals.g, totals.t, seconds, requests, [c1, c2, c3, c4, c5],
                   coalesce(buckets, []), coalesce(counts, []), active, held
            FROM totals LEFT JOIN histograms USING (t, g) ORDER BY totals.g, totals.t
        """  # noqa: S608  (our names)
    one, two = ("value", "0") if metric else ("cpu", "memory")
    return f"""
        SELECT g, t, avg(one), avg(two), avg(tasks), count(*) FROM (
            SELECT "at" - "at" % ?::BIGINT AS t, {group} AS g, "at",
                   sum({one}) AS one, sum({two}) AS two, count(*) AS tasks
            FROM ({chosen}) {where} GROUP BY ALL)
        GROUP BY g, t ORDER BY g, t
    """  # noqa: S608  (our names)
