"""Upstreams and relays: the closed list of registries that a mirror may ask, merged from all three layers.

Names of a stronger layer's list replace the weaker list; a name keeps what the file says about it (authority,
credentials, limits). ``DOCKER_IO=URL`` and the like change where one name of the list points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from hunqi.config.compound import ORIGIN, RELAY
from hunqi.config.evaluate import Evaluator
from hunqi.config.kinds import RuleError, is_upstream_name, parse_url
from hunqi.config.layers import as_list, as_table
from hunqi.config.table import RELAYS, UPSTREAMS
from hunqi.mirror.settings import WELL_KNOWN_UPSTREAMS, Origin


def variable_of(upstream: str) -> str:
    """Return the environment variable that points ``upstream`` elsewhere: ``DOCKER_IO`` for ``docker.io``."""
    return "".join(letter if letter.isalnum() else "_" for letter in upstream).upper()


def read_upstreams(evaluator: Evaluator, environ: Mapping[str, str]) -> tuple[Origin, ...]:
    """Return the upstreams in the order they were written."""
    layers = evaluator.layers
    filed = _filed_upstreams(evaluator)
    written = layers.flags.get(UPSTREAMS.key) or layers.environment.get(UPSTREAMS.key)
    if written is not None:
        pairs = cast("tuple[tuple[str, str], ...] | None", evaluator.read(UPSTREAMS, written)) or ()
        named = {name: _pointed(filed.get(name), name=name, url=url) for name, url in pairs}
        for name in {name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1}:
            evaluator.fault(written.where, name, rule="an upstream has one URL", remedy="name it once")
    else:
        named = filed or {name: Origin(name=name, url=url) for name, url in WELL_KNOWN_UPSTREAMS.items()}
    if UPSTREAMS.key not in layers.flags:
        _point_elsewhere(evaluator, named, environ)
    return tuple(named.values())


def _filed_upstreams(evaluator: Evaluator) -> dict[str, Origin]:
    table = as_table(evaluator.layers.compound.get("upstreams", {}))
    where = f"{evaluator.layers.file_name}: mirror.upstreams"
    if table is None:
        evaluator.fault(where, "", rule="a table of NAME = URL", remedy='write "docker.io" = "https://…"')
        return {}
    origins: dict[str, Origin] = {}
    for name, value in table.items():
        if not is_upstream_name(name):
            evaluator.fault(f"{where}.{name}", "", rule="a registry's host in lower case", remedy="write it in quotes")
            continue
        filed = {"url": value} if isinstance(value, str) else value
        fields = evaluator.table(ORIGIN, filed, where=f'{where}."{name}"')
        origin = _origin(evaluator, name, fields, where=f'{where}."{name}"') if fields is not None else None
        if origin:
            origins[name] = origin
    return origins


def _origin(evaluator: Evaluator, name: str, fields: dict[str, Any], *, where: str) -> Origin | None:
    if "url" not in fields:
        known = WELL_KNOWN_UPSTREAMS.get(name)
        if known is None:
            evaluator.fault(f"{where}.url", "", rule="an origin has a URL", remedy=f'write url = "https://{name}"')
            return None
        fields = {**fields, "url": known}
    if ("client_cert_file" in fields) != ("client_key_file" in fields):
        evaluator.fault(
            where,
            "",
            rule="client-cert-file and client-key-file belong together",
            remedy="give both or neither",
        )
    return Origin(name=name, **fields)


def _pointed(filed: Origin | None, *, name: str, url: str) -> Origin:
    return Origin(name=name, url=url) if filed is None else replace(filed, url=url)


def _point_elsewhere(evaluator: Evaluator, named: dict[str, Origin], environ: Mapping[str, str]) -> None:
    for name in list(named):
        variable = variable_of(name)
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            named[name] = replace(named[name], url=parse_url(text))
        except RuleError as error:
            evaluator.fault(variable, f'"{text}"', rule=error.rule, remedy=f"write {variable}=http://127.0.0.1:5001")


def read_relays(evaluator: Evaluator, upstreams: tuple[Origin, ...]) -> tuple[Origin, ...]:
    """Return the relays in the order they were written; each names an upstream, or ``*``."""
    written = evaluator.layers.flags.get(RELAYS.key) or evaluator.layers.environment.get(RELAYS.key)
    if written is not None:
        pairs = cast("tuple[tuple[str, str], ...] | None", evaluator.read(RELAYS, written)) or ()
        relays = [(Origin(name=name, url=url), written.where) for name, url in pairs]
    else:
        relays = _filed_relays(evaluator)
    names = {origin.name for origin in upstreams} | {"*"}
    for relay, where in relays:
        if relay.name not in names:
            evaluator.fault(
                where,
                relay.name,
                rule=f"{relay.name} is not among the upstreams",
                remedy="add it with --upstream, or write * for all upstreams",
            )
    return tuple(relay for relay, _ in relays)


def _filed_relays(evaluator: Evaluator) -> list[tuple[Origin, str]]:
    tables = as_list(evaluator.layers.compound.get("relays", []))
    where = f"{evaluator.layers.file_name}: mirror.relays"
    if tables is None:
        evaluator.fault(where, "", rule="a list of tables", remedy="write [[mirror.relays]]")
        return []
    relays: list[tuple[Origin, str]] = []
    for number, table in enumerate(tables, start=1):
        place = f"{where}[{number}]"
        items = as_table(table) or {}
        options = {key: value for key, value in items.items() if key != "name"}
        fields = evaluator.table(RELAY, options, where=place) or {}
        origin = _relay(evaluator, str(items.get("name", "*")), fields, where=place)
        if origin:
            relays.append((origin, place))
    return relays


def _relay(evaluator: Evaluator, name: str, fields: dict[str, Any], *, where: str) -> Origin | None:
    if "url" not in fields:
        evaluator.fault(f"{where}.url", "", rule="a relay has a URL", remedy='write url = "https://…"')
        return None
    return _origin(evaluator, name, fields, where=where)
