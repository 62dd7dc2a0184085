"""What was written where: file, environment and flags, each as texts by setting, before they mean anything."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from hunqi.config.faults import ConfigError, Fault, unknown
from hunqi.config.setting import ENVIRONMENT_PREFIX, Setting
from hunqi.config.table import ALL

DEFAULT_FILE: Final = Path("/etc/hunqi/hunqi.toml")
FILE_VARIABLE: Final = "HUNQI_CONFIG"
_COMPOUND: Final = frozenset({"upstreams", "relays", "space.retention"})
"""Keys of the file whose tables have columns of their own."""

FlagValue = str | bool | Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything that a configuration is read from; tests and commands say each explicitly."""

    flags: Mapping[str, FlagValue] = field(default_factory=dict[str, FlagValue])
    """By the setting's key; absent where the flag was not given."""
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    config_file: Path | None = None
    """As given by ``--config``."""
    cwd: Path = Path("/")
    home: Path = Path("/root")
    is_root: bool = False
    cores: int = 1
    system_file: Path = DEFAULT_FILE
    """Read when it exists and no other file was named."""


def process_inputs(flags: Mapping[str, FlagValue], *, config_file: Path | None = None) -> Inputs:
    """Return the inputs of this process: its environment, working directory, user and cores."""
    return Inputs(
        flags=flags,
        environ=dict(os.environ),
        config_file=config_file,
        cwd=Path.cwd(),
        home=Path.home(),
        is_root=os.geteuid() == 0,
        cores=len(os.sched_getaffinity(0)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One value as somebody wrote it."""

    texts: tuple[str, ...]
    where: str
    base: Path
    """Relative paths start here: the file's directory, or the working directory."""


@dataclass(slots=True, kw_only=True)
class Layers:
    """The three layers after reading; ``faults`` collects what is wrong with them and with what they mean."""

    file: dict[str, Written] = field(default_factory=dict[str, Written])
    environment: dict[str, Written] = field(default_factory=dict[str, Written])
    flags: dict[str, Written] = field(default_factory=dict[str, Written])
    compound: dict[str, object] = field(default_factory=dict[str, object])
    """Tables of the file as TOML gave them, by key."""
    file_name: str = ""
    file_base: Path = Path("/")
    faults: list[Fault] = field(default_factory=list[Fault])

    def find(self, key: str) -> Written | None:
        """Return the strongest layer's value: flag, then environment, then file."""
        return self.flags.get(key) or self.environment.get(key) or self.file.get(key)


def read_layers(inputs: Inputs) -> Layers:
    """Read all three layers; raise :class:`ConfigError` only where a named file cannot be read at all."""
    layers = Layers()
    by_key = {setting.key: setting for setting in ALL}
    path = _file_of(inputs)
    if path is not None:
        layers.file_name, layers.file_base = str(path), path.parent
        _read_file(layers, _load_toml(path), by_key)
    _read_environment(layers, inputs, by_key)
    for key, value in inputs.flags.items():
        texts = _texts_of(value)
        if texts is not None:
            layers.flags[key] = Written(texts=texts, where=by_key[key].flag or key, base=inputs.cwd)
    return layers


def _file_of(inputs: Inputs) -> Path | None:
    named = inputs.config_file or inputs.environ.get(FILE_VARIABLE) or None
    if named is not None:
        return inputs.cwd / named
    return inputs.system_file if inputs.system_file.is_file() else None


def _load_toml(path: Path) -> Mapping[str, object]:
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        rule, remedy = f"cannot be read: {error.strerror}", "name a file that exists, or leave --config away"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        rule, remedy = f"is not TOML: {error}", "correct it at the place named"
    raise ConfigError([Fault(key=str(path), value="", rule=rule, remedy=remedy)])


def _read_file(layers: Layers, document: Mapping[str, object], by_key: Mapping[str, Setting]) -> None:
    for name in document:
        if name != "mirror":
            layers.faults.append(unknown(f"{layers.file_name}: {name}", name=name, known=["mirror"]))
    mirror = as_table(document.get("mirror", {}))
    if mirror is None:
        where = f"{layers.file_name}: mirror"
        layers.faults.append(Fault(key=where, value="", rule="must be a table", remedy="write [mirror]"))
        return
    for key, value in _leaves(mirror, prefix=""):
        _read_leaf(layers, key=key, value=value, by_key=by_key)


def _leaves(table: Mapping[str, object], *, prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        nested = as_table(value)
        if nested is not None and key not in _COMPOUND:
            yield from _leaves(nested, prefix=f"{key}.")
        else:
            yield key, value


def _read_leaf(layers: Layers, *, key: str, value: object, by_key: Mapping[str, Setting]) -> None:
    where = f"{layers.file_name}: mirror.{key}"
    if key in _COMPOUND:
        layers.compound[key] = value
        return
    setting = by_key.get(key)
    if setting is None:
        names = [*by_key, *_COMPOUND]
        layers.faults.append(unknown(where, name=key, known=names, value=_shown(value)))
        return
    written = write(value, where=where, base=layers.file_base)
    if written is None or (as_list(value) is not None and not setting.many):
        rule = "a list of texts" if setting.many else "one text, number or truth value"
        remedy = f'write for example {key.rpartition(".")[2]} = "{setting.kind.example}"'
        layers.faults.append(Fault(key=where, value=_shown(value), rule=rule, remedy=remedy))
        return
    layers.file[key] = written


def as_table(value: object) -> dict[str, object] | None:
    """Return a TOML value that is a table, else ``None``."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[object] | None:
    """Return a TOML value that is a list, else ``None``."""
    return cast("list[object]", value) if isinstance(value, list) else None


def write(value: object, *, where: str, base: Path) -> Written | None:
    """Return a TOML value as texts, or ``None`` where it is neither an allowed scalar nor a list of such."""
    texts = _texts_of(value)
    return None if texts is None else Written(texts=texts, where=where, base=base)


def _texts_of(value: object) -> tuple[str, ...] | None:
    match value:
        case list() | tuple():
            items = cast("Sequence[object]", value)
            texts = [_text_of(item) for item in items]
            flat = [text for text in texts if text is not None]
            return tuple(flat) if len(flat) == len(items) else None
        case _:
            text = _text_of(value)
            return None if text is None else (text,)


def _text_of(value: object) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(value)
        case _:
            return None


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read_environment(layers: Layers, inputs: Inputs, by_key: Mapping[str, Setting]) -> None:
    by_variable = {setting.variable: setting for setting in by_key.values()}
    for variable, text in sorted(inputs.environ.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or not text.strip():
            continue
        setting = by_variable.get(variable)
        if setting is None:
            layers.faults.append(unknown(variable, name=variable, known=by_variable, value=_shown(text)))
            continue
        texts = tuple(part.strip() for part in text.split(",") if part.strip()) if setting.many else (text,)
        layers.environment[setting.key] = Written(texts=texts, where=variable, base=inputs.cwd)
