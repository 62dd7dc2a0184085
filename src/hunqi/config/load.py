"""The settings of a mirror from file, environment and flags, checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from hunqi.config.certificates import check_certificates
from hunqi.config.compound import RETENTION
from hunqi.config.evaluate import Evaluator
from hunqi.config.faults import ConfigError
from hunqi.config.kinds import RuleError, parse_proxy
from hunqi.config.layers import Inputs, as_list, read_layers
from hunqi.config.origins import read_relays, read_upstreams
from hunqi.config.setting import Setting
from hunqi.config.table import SETTINGS
from hunqi.mirror.names import Names
from hunqi.mirror.settings import Address, MirrorSettings, PeerSettings, RetentionRule, TlsFiles

MAX_DEFAULT_WORKERS: Final = 8
USERS_FILE_NAME: Final = "users.json"
_BY_KEY: Final = {setting.key: setting for setting in SETTINGS}


def load_mirror_settings(inputs: Inputs) -> MirrorSettings:
    """Return the settings that ``inputs`` mean; raise :class:`ConfigError` with every fault there is."""
    layers = read_layers(inputs)
    evaluator = Evaluator(layers, inputs.home)
    groups = _grouped(evaluator)
    upstreams = read_upstreams(evaluator, inputs.environ)
    settings = _assemble(evaluator, groups, default_data=default_data_dir(inputs))
    settings = replace(
        settings,
        upstreams=upstreams,
        relays=read_relays(evaluator, upstreams),
        proxies=_proxies(evaluator, inputs.environ),
        workers=groups[""].get("workers", max(1, min(inputs.cores, MAX_DEFAULT_WORKERS))),
        space=replace(settings.space, retention=_retention(evaluator)),
    )
    settings = _with_default_upstream(evaluator, settings)
    _check_names(evaluator, settings)
    _check_peers(evaluator, settings)
    check_certificates(evaluator, settings)
    if layers.faults:
        raise ConfigError(layers.faults)
    return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a mirror keeps what commands work on."""

    data_dir: Path
    users_file: Path


def load_places(inputs: Inputs) -> Places:
    """Return only the places, for commands beside a running mirror: faults elsewhere are not theirs.

    Raises :class:`ConfigError`.
    """
    layers = read_layers(inputs)
    layers.faults.clear()
    evaluator = Evaluator(layers, inputs.home)
    values: dict[str, Any] = {}
    for key in ("data", "access.users-file"):
        values |= evaluator.fields(_BY_KEY[key], layers.find(key))
    if layers.faults:
        raise ConfigError(layers.faults)
    data_dir: Path = values.get("data_dir", default_data_dir(inputs))
    return Places(data_dir=data_dir, users_file=values.get("access.users_file", data_dir / USERS_FILE_NAME))


def default_data_dir(inputs: Inputs) -> Path:
    """Return the data directory of a mirror that was told none."""
    if inputs.is_root:
        return Path("/var/lib/hunqi/mirror")
    data_home = inputs.environ.get("XDG_DATA_HOME", "")
    base = Path(data_home) if data_home.startswith("/") else inputs.home / ".local/share"
    return base / "hunqi/mirror"


def _grouped(evaluator: Evaluator) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {"": {}}
    for setting in SETTINGS:
        for path, value in evaluator.fields(setting, evaluator.layers.find(setting.key)).items():
            group, _, name = path.rpartition(".")
            groups.setdefault(group, {})[name] = value
    return groups


def _assemble(evaluator: Evaluator, groups: Mapping[str, dict[str, Any]], *, default_data: Path) -> MirrorSettings:
    settings = replace(MirrorSettings(data_dir=default_data), **groups[""])
    return replace(
        settings,
        tls=_tls(evaluator, "tls", groups),
        deadlines=replace(settings.deadlines, **groups.get("deadlines", {})),
        fetch=replace(settings.fetch, **groups.get("fetch", {})),
        tags=replace(settings.tags, **groups.get("tags", {})),
        space=replace(settings.space, **groups.get("space", {})),
        peers=PeerSettings(**groups.get("peers", {}), tls=_tls(evaluator, "peers.tls", groups)),
        access=replace(settings.access, **groups.get("access", {})),
    )


def _tls(evaluator: Evaluator, group: str, groups: Mapping[str, dict[str, Any]]) -> TlsFiles | None:
    written = {name: evaluator.layers.find(f"{group}.{name}") for name in ("cert", "key", "ca")}
    given = [value for value in written.values() if value is not None]
    if not given:
        return None
    for name in ("cert", "key"):
        if written[name] is None:
            flag = _BY_KEY[f"{group}.{name}"].flag
            rule = "a certificate and its key belong together"
            evaluator.fault(given[0].where, given[0].texts[0], rule=rule, remedy=f"give {flag} as well")
    values = groups.get(group, {})
    return TlsFiles(**values) if {"cert_file", "key_file"} <= values.keys() else None


def _retention(evaluator: Evaluator) -> tuple[RetentionRule, ...]:
    tables = as_list(evaluator.layers.compound.get("space.retention", []))
    where = f"{evaluator.layers.file_name}: mirror.space.retention"
    if tables is None:
        evaluator.fault(where, "", rule="a list of tables", remedy="write [[mirror.space.retention]]")
        return ()
    rules: list[RetentionRule] = []
    for number, table in enumerate(tables, start=1):
        fields = evaluator.table(RETENTION, table, where=f"{where}[{number}]")
        if fields is not None and "pattern" not in fields:
            evaluator.fault(f"{where}[{number}].pattern", "", rule="a rule has a pattern", remedy='write pattern = "*"')
        elif fields is not None and len(fields) == 1:
            remedy = "add keep-newest, max-age or untagged-after"
            evaluator.fault(f"{where}[{number}]", "", rule="a rule says what to remove", remedy=remedy)
        elif fields is not None:
            rules.append(RetentionRule(**fields))
    return tuple(rules)


def _proxies(evaluator: Evaluator, environ: Mapping[str, str]) -> dict[str, str]:
    proxies: dict[str, str] = {}
    for name in ("https_proxy", "http_proxy", "no_proxy"):
        variable = name if environ.get(name, "").strip() else name.upper()
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            proxies[name] = text if name == "no_proxy" else parse_proxy(text)
        except RuleError as error:
            evaluator.fault(variable, "(not shown)", rule=error.rule, remedy=f"write {variable}=http://proxy:3128")
    return proxies


def _with_default_upstream(evaluator: Evaluator, settings: MirrorSettings) -> MirrorSettings:
    names = [origin.name for origin in settings.upstreams]
    written = evaluator.layers.find("default-upstream")
    if settings.default_upstream in names or not names:
        return settings
    if written is not None:
        remedy = f"name one of {', '.join(names)}, or add it with --upstream"
        evaluator.fault(written.where, written.texts[0], rule="must be one of the upstreams", remedy=remedy)
        return settings
    return replace(settings, default_upstream=names[0])


def _check_names(evaluator: Evaluator, settings: MirrorSettings) -> None:
    names = Names(
        upstreams=[origin.name for origin in settings.upstreams],
        default_upstream=settings.default_upstream,
        is_local_namespace=lambda _: False,
    )
    written = evaluator.layers.find("access.local")
    for namespace in settings.access.local:
        if written is not None and not names.may_be_local(namespace):
            rule = "could be an upstream's: a local name begins neither with library nor with an upstream's name"
            evaluator.fault(written.where, namespace, rule=rule, remedy="choose another namespace")


_PEER_TLS: Final = "write https:// and give --peer-tls-cert, --peer-tls-key and --peer-tls-ca (hunqi mirror certs init)"


def _check_peers(evaluator: Evaluator, settings: MirrorSettings) -> None:
    peers = settings.peers
    for url in peers.urls:
        parts = urlsplit(url)
        plain = parts.scheme == "http" and not _is_loopback(Address(parts.hostname or "", 0))
        if plain or (parts.scheme == "https" and peers.tls is None and not evaluator.layers.find("peers.tls.cert")):
            rule = "peers speak mutual TLS, or plain HTTP on loopback"
            evaluator.fault(_where(evaluator, _BY_KEY["peers.urls"]), url, rule=rule, remedy=_PEER_TLS)
    if peers.listen is None:
        return
    where = _where(evaluator, _BY_KEY["peers.listen"])
    if peers.tls is None and not _is_loopback(peers.listen) and not evaluator.layers.find("peers.tls.cert"):
        rule = "peers speak plain HTTP on loopback only"
        evaluator.fault(where, str(peers.listen), rule=rule, remedy=_PEER_TLS)
    if peers.tls is not None and peers.tls.ca_file is None and not evaluator.layers.find("peers.tls.ca"):
        rule, remedy = "peers must show a certificate of the cluster", "give --peer-tls-ca"
        evaluator.fault(_where(evaluator, _BY_KEY["peers.tls.cert"]), "", rule=rule, remedy=remedy)
    if peers.listen == settings.listen and peers.listen.port:
        rule = "clients and peers need an address each"
        evaluator.fault(where, str(peers.listen), rule=rule, remedy="choose another port")


def _where(evaluator: Evaluator, setting: Setting) -> str:
    written = evaluator.layers.find(setting.key)
    return written.where if written else setting.key


def _is_loopback(address: Address) -> bool:
    if address.host == "localhost":
        return True
    try:
        return ip_address(address.host).is_loopback
    except ValueError:
        return False
