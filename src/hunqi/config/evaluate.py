"""From texts to values: each text read by its setting's kind; what is wrong becomes a fault instead of an end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hunqi.config import kinds
from hunqi.config.faults import Fault, unknown
from hunqi.config.kinds import RuleError
from hunqi.config.layers import Layers, Written, as_list, as_table, write
from hunqi.config.setting import Setting


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Reads texts as their settings' kinds and collects the faults in ``layers.faults``."""

    layers: Layers
    home: Path

    def fault(self, key: str, value: str, *, rule: str, remedy: str) -> None:
        """Note that something is wrong."""
        self.layers.faults.append(Fault(key=key, value=value, rule=rule, remedy=remedy))

    def read(self, setting: Setting, written: Written) -> Any:
        """Return the value of ``written``, or ``None`` after noting its fault."""
        values = [self._read_one(setting, text, written) for text in written.texts]
        if any(value is None for value in values):
            return None
        return tuple(values) if setting.many else values[0]

    def fields(self, setting: Setting, written: Written | None) -> dict[str, Any]:
        """Return what ``written`` sets, by field; nothing where it is absent or wrong."""
        value = None if written is None else self.read(setting, written)
        if value is None:
            return {}
        return dict(zip(setting.fields, value if len(setting.fields) > 1 else (value,), strict=True))

    def table(self, settings: Sequence[Setting], table: object, *, where: str) -> dict[str, Any] | None:
        """Return the fields that a compound table of the file sets; ``None`` where it is no table."""
        items = as_table(table)
        if items is None:
            self.fault(where, str(table), rule="must be a table", remedy="write it as a table in brackets")
            return None
        by_key = {setting.key: setting for setting in settings}
        result: dict[str, Any] = {}
        for key, value in items.items():
            setting = by_key.get(key)
            if setting is None:
                self.layers.faults.append(unknown(f"{where}.{key}", name=key, known=by_key))
                continue
            written = write(value, where=f"{where}.{key}", base=self.layers.file_base)
            if written is None or (as_list(value) is not None and not setting.many):
                self.fault(f"{where}.{key}", str(value), rule=setting.kind.rule, remedy=_example(setting))
                continue
            result |= self.fields(setting, written)
        return result

    def _read_one(self, setting: Setting, text: str, written: Written) -> Any:
        try:
            value = setting.kind.read(text)
        except RuleError as error:
            self.fault(written.where, f'"{text}"', rule=error.rule, remedy=_example(setting))
            return None
        if isinstance(value, Path):
            value = self._absolute(value, written.base)
            if setting.kind is kinds.FILE and not (value.is_file() and os.access(value, os.R_OK)):
                self.fault(written.where, f'"{text}"', rule=_unreadable(value), remedy="name a file that can be read")
                return None
        return value

    def _absolute(self, path: Path, base: Path) -> Path:
        if path.parts[:1] == ("~",):
            return self.home.joinpath(*path.parts[1:])
        return Path(os.path.normpath(base / path))


def _unreadable(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a directory"
    return f"{path} may not be read by this user" if path.exists() else f"{path} does not exist"


def _example(setting: Setting) -> str:
    return f"write for example {setting.kind.example}"
