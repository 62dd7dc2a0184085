"""Frozen dataclasses to JSON and back, without a schema of their own: the types are the schema.

Handles dataclasses, enums, tuples, mappings with keys of text or whole numbers, datetimes (ISO 8601), optionals of
these and plain JSON. Defaults are left out, so that a field added later does not change what was written before.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping
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
    return _encoder(typing.cast("type[Any]", type(value)))(value)


def dumps(value: Any) -> str:
    """Return ``value`` as canonical JSON text: equal values have equal text."""
    return json.dumps(encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def decode(kind: type[T], data: Any) -> T:
    """Return the ``kind`` that ``data`` (plain JSON) stands for. Raises ``CodecError``."""
    try:
        return _decoder(kind)(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CodecError(f"this is no {kind.__name__}: {error}") from error


def loads(kind: type[T], text: str | bytes) -> T:
    """Return the ``kind`` that the JSON ``text`` stands for. Raises ``CodecError``."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise CodecError(f"this is no JSON: {error}") from error
    return decode(kind, data)


@functools.cache
def _encoder(kind: type) -> Callable[[Any], Any]:
    """Return what makes JSON of values of ``kind``; made once for each type, since tables have thousands of values."""
    if dataclasses.is_dataclass(kind):
        return _dataclass_encoder(kind)
    if issubclass(kind, Enum):
        return lambda value: value.value
    if issubclass(kind, datetime):
        return lambda value: value.isoformat()
    if issubclass(kind, Mapping):
        return lambda value: {str(key): encode(held) for key, held in value.items()}
    if issubclass(kind, (tuple, list)):
        return lambda value: [encode(held) for held in value]
    return _as_it_is


def _dataclass_encoder(kind: type) -> Callable[[Any], Any]:
    fields = [(each.name, *_default_of(each)) for each in dataclasses.fields(kind)]

    def encode_fields(value: Any) -> Any:
        made: dict[str, Any] = {}
        for name, default, is_exact in fields:
            held = getattr(value, name)
            if held is default or (held == default and (not is_exact or type(held) is type(default))):
                continue
            made[name] = encode(held)
        return made

    return encode_fields


def _default_of(each: dataclasses.Field[Any]) -> tuple[Any, bool]:
    """Return the field's default (an object that equals nothing if it has none), and whether its type counts too."""
    if each.default is not dataclasses.MISSING:
        return each.default, True
    if each.default_factory is not dataclasses.MISSING:
        return each.default_factory(), False
    return object(), True


@functools.cache
def _decoder(kind: Any) -> Callable[[Any], Any]:
    """Return what makes a value of ``kind`` of JSON; made once for each type."""
    if kind is Any:
        return _as_it_is
    origin = typing.get_origin(kind)
    if origin in {typing.Union, types.UnionType}:
        inner = _decoder(next(each for each in typing.get_args(kind) if each is not type(None)))
        return lambda data: None if data is None else inner(data)
    if origin is tuple:
        return _tuple_decoder(typing.get_args(kind))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        key_as, held_as = typing.get_args(kind)[0], _decoder(typing.get_args(kind)[1])
        if key_as is int:
            return lambda data: {int(key): held_as(held) for key, held in data.items()}
        return lambda data: {key: held_as(held) for key, held in data.items()}
    if dataclasses.is_dataclass(kind):
        return _dataclass_decoder(kind)
    return _plain_decoder(kind)


def _plain_decoder(kind: Any) -> Callable[[Any], Any]:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if kind is datetime:
        return datetime.fromisoformat

    def check(data: Any) -> Any:
        if kind is float and isinstance(data, int):
            return float(data)
        if not isinstance(data, kind):
            raise TypeError(f"{data!r} is no {kind.__name__}")
        return data

    return check if isinstance(kind, type) else _as_it_is


def _dataclass_decoder(kind: Any) -> Callable[[Any], Any]:
    decoders: dict[str, Callable[[Any], Any]] = {}

    def decode_fields(data: Any) -> Any:
        if not decoders:  # at the first value, since a type may hold its own kind
            decoders.update({name: _decoder(hint) for name, hint in typing.get_type_hints(kind).items()})
        return kind(**{key: decoders[key](held) for key, held in data.items()})

    return decode_fields


def _tuple_decoder(kinds: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        inner = _decoder(kinds[0])
        return lambda data: tuple([inner(held) for held in data])
    each = [_decoder(kind) for kind in kinds]
    return lambda data: tuple(decode(held) for decode, held in zip(each, data, strict=True))


def _as_it_is(value: Any) -> Any:
    return value
