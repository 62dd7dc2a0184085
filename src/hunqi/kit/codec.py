"""Frozen dataclasses to JSON and back, without a schema of their own: the types are the schema.

Handles dataclasses, enums, tuples, mappings with text keys, datetimes (ISO 8601), optionals of these and plain JSON.
Defaults are left out, so that a field added later does not change what was written before.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, TypeVar

from hunqi.errors import InvariantError

T = TypeVar("T")


class CodecError(InvariantError):
    """The JSON is not of the type that it should be."""

    code: ClassVar[str] = "kit.codec"


def encode(value: Any) -> Any:
    """Return ``value`` as plain JSON; fields that equal their default are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            each.name: encode(held)
            for each in dataclasses.fields(value)
            if not _is_default(each, held := getattr(value, each.name))
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): encode(held) for key, held in typing.cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (tuple, list)):
        return [encode(held) for held in typing.cast("list[Any]", value)]
    return value


def dumps(value: Any) -> str:
    """Return ``value`` as canonical JSON text: equal values have equal text."""
    return json.dumps(encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def decode(kind: type[T], data: Any) -> T:
    """Return the ``kind`` that ``data`` (plain JSON) stands for. Raises ``CodecError``."""
    try:
        return _decode(kind, data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CodecError(f"this is no {kind.__name__}: {error}") from error


def loads(kind: type[T], text: str | bytes) -> T:
    """Return the ``kind`` that the JSON ``text`` stands for. Raises ``CodecError``."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise CodecError(f"this is no JSON: {error}") from error
    return decode(kind, data)


def _is_default(each: dataclasses.Field[Any], held: Any) -> bool:
    if each.default is not dataclasses.MISSING:
        return bool(held == each.default) and type(held) is type(each.default)
    if each.default_factory is not dataclasses.MISSING:
        return bool(held == each.default_factory())
    return False


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _decode(kind: Any, data: Any) -> Any:
    if kind is Any:
        return data
    origin = typing.get_origin(kind)
    if origin in {typing.Union, types.UnionType}:
        return _decode_union(kind, data)
    if origin is tuple:
        return _decode_tuple(typing.get_args(kind), data)
    if origin is not None and issubclass(origin, Mapping):
        value_kind = typing.get_args(kind)[1]
        return {key: _decode(value_kind, held) for key, held in data.items()}
    if dataclasses.is_dataclass(kind):
        hints = _hints(typing.cast("type", kind))
        return typing.cast("Any", kind)(**{key: _decode(hints[key], held) for key, held in data.items()})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    if kind is datetime:
        return datetime.fromisoformat(data)
    if kind is float and isinstance(data, int):
        return float(data)
    if isinstance(kind, type) and not isinstance(data, kind):
        raise TypeError(f"{data!r} is no {kind.__name__}")
    return data


def _decode_union(kind: Any, data: Any) -> Any:
    if data is None:
        return None
    rest = [each for each in typing.get_args(kind) if each is not type(None)]
    return _decode(rest[0], data)


def _decode_tuple(kinds: tuple[Any, ...], data: Any) -> Any:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_decode(kinds[0], held) for held in data)
    return tuple(_decode(each, held) for each, held in zip(kinds, data, strict=True))
