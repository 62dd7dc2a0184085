"""The JSON Schema of ``x-hunqi``, for editors and for ``GET /v1/schemas/x-hunqi``; made of the fields. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hunqi.apps.compose import fields
from hunqi.apps.compose.fields import Field, Kind

_ID: Final = "x-hunqi.schema.json"
_DURATION: Final = r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+|.*\$.*)$"
_SIZE: Final = r"^([0-9]+(\.[0-9]+)? ?[kmgtpKMGTP]?([iI]?[bB])?|.*\$.*)$"
_TEXT: Final[dict[str, Any]] = {"type": ["string", "number", "boolean"]}
_PLAIN: Final[Mapping[Kind, dict[str, Any]]] = {
    Kind.NUMBER: {"type": ["number", "string"], "minimum": 0},
    Kind.BOOLEAN: {"type": ["boolean", "string"]},
    Kind.DURATION: {"type": ["string", "integer"], "pattern": _DURATION},
    Kind.SIZE: {"type": ["string", "integer"], "pattern": _SIZE},
    Kind.PAIRS: {"type": ["object", "array"]},
    Kind.MAPPING: {"type": "object"},
}


def x_hunqi_schema() -> dict[str, Any]:
    """Return the schema: of ``x-hunqi`` at a service, and as ``$defs/project`` of that at the top of the file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": _ID,
        "title": "x-hunqi: routes, health and lifecycle in a Compose file",
        "$ref": "#/$defs/service",
        "$defs": {
            "service": _object(fields.SERVICE, "x-hunqi of a service."),
            "project": _object(fields.TOP, "x-hunqi at the top of a Compose file."),
        },
    }


def compose_schema() -> dict[str, Any]:
    """Return a schema of whole Compose files as far as ``x-hunqi`` goes: what an editor is pointed to."""
    schema = x_hunqi_schema()
    service = {"type": "object", "properties": {"x-hunqi": {"$ref": "#/$defs/service"}}}
    return {
        "$schema": schema["$schema"],
        "$id": "compose.schema.json",
        "title": "Compose files with x-hunqi",
        "type": "object",
        "properties": {
            "services": {"type": "object", "additionalProperties": service},
            "x-hunqi": {"$ref": "#/$defs/project"},
        },
        "$defs": schema["$defs"],
    }


def _object(known: tuple[Field, ...], text: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "description": text,
        "properties": {field.name: _described(field) for field in known},
        "additionalProperties": False,
    }
    required = [field.name for field in known if field.required]
    return found | ({"required": required} if required else {})


def _described(field: Field) -> dict[str, Any]:
    found: dict[str, Any] = {"description": re.sub("`", "", field.text), **_kind(field)}
    return found | ({"default": field.default} if field.default is not None else {})


def _kind(field: Field) -> dict[str, Any]:
    match field.kind:
        case Kind.TEXT:
            return {"enum": list(field.choices)} if field.choices else _TEXT
        case Kind.TEXTS | Kind.ENTRIES:
            return _listed(field)
        case Kind.INTEGER:
            return {"type": ["integer", "string"], "minimum": field.low, "maximum": field.high}
        case Kind.NUMBER | Kind.BOOLEAN | Kind.DURATION | Kind.SIZE | Kind.PAIRS | Kind.MAPPING:
            return _PLAIN[field.kind]
        case Kind.OBJECT:
            whole = _object(field.below, field.text.replace("`", ""))
            return {"anyOf": [_TEXT, whole]} if field.short is not None else whole
        case Kind.OBJECTS:
            return {"type": "array", "items": _object(field.below, "An entry.")}
        case Kind.MATCHES:
            how = {"anyOf": [_TEXT, _object(field.below, field.text.replace("`", ""))]}
            return {"type": "object", "additionalProperties": how}


def _listed(field: Field) -> dict[str, Any]:
    if field.kind is Kind.TEXTS:
        return {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
    # The members of an entry may hold more than one kind of value.
    members = {each.name: {"description": each.text.replace("`", "")} for each in field.below}
    entry = {"type": "object", "properties": members, "additionalProperties": False, "maxProperties": 1}
    return {"type": "array", "items": {"anyOf": [_TEXT, entry]}}
