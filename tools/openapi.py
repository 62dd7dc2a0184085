"""Write docs/openapi.json, and from it src/hunqi/client/model.py: the client's types are the interface's."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hunqi.api.app import build_api

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTION = ROOT / "docs" / "openapi.json"
TYPES = ROOT / "src" / "hunqi" / "client" / "model.py"
_HEAD = '''"""The interface's JSON objects, as types. Written by `.venv/bin/python tools/openapi.py`; do not edit."""

from __future__ import annotations

from typing import Any, Literal, TypedDict
'''
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


class _Nothing:
    """Stands for every room: a description asks nothing of them."""

    def __getattr__(self, name: str) -> _Nothing:
        return self


def describe() -> dict[str, Any]:
    """Return the description of the interface."""
    nothing = cast("Any", _Nothing())
    return build_api(nothing, nothing, nothing, nothing).openapi()


def render(description: Mapping[str, Any]) -> str:
    """Return the text of docs/openapi.json."""
    return json.dumps(description, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def render_types(description: Mapping[str, Any]) -> str:
    """Return the text of the client's types: what the interface answers with."""
    schemas: dict[str, Any] = description["components"]["schemas"]
    parts = [_HEAD]
    for name in sorted(_answered(description, schemas)):
        schema = schemas[name]
        if "enum" in schema:
            values = "".join(f'\n    "{value}",' for value in schema["enum"])
            parts.append("\n" if parts[-1] is _HEAD else "\n\n")
            parts.append(f"{name} = Literal[{values}\n]\n")
            continue
        words = " ".join(str(schema.get("description") or name).split("\n\n")[0].split()).replace("``", "`")
        words = textwrap.fill(words, 110, subsequent_indent="    ")
        parts.append(f'\n\nclass {name}(TypedDict):\n    """{words}"""\n\n')
        # Answers hold every member, those with defaults too.
        parts += [f"    {member}: {_type(kind)}\n" for member, kind in schema.get("properties", {}).items()]
    return "".join(parts)


def _answered(description: Mapping[str, Any], schemas: Mapping[str, Any]) -> set[str]:
    """Return the names of the objects that answers are made of; pages are read whole, so they have no type."""
    found: set[str] = set()
    waiting: list[Any] = [
        operation["responses"] for path in description["paths"].values() for operation in path.values()
    ]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            reference = each.get("$ref", "")
            name = reference.rpartition("/")[2]
            if name and name not in found and name != "ApiProblem":
                found.add(name)
                waiting.append(schemas[name])
            waiting.extend(value for key, value in each.items() if key != "$ref")
        elif isinstance(each, list):
            waiting.extend(each)
    return {name for name in found if not name.startswith("Page_")}


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return f"Literal[{', '.join(repr(value) for value in schema['enum'])}]"
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return f"list[{_type(schema['prefixItems'][0])}]"
        case "array":
            return f"list[{_type(schema.get('items', {}))}]"
        case "object":
            values = schema.get("additionalProperties")
            return f"dict[str, {_type(values) if isinstance(values, dict) else 'Any'}]"
        case str() as name if name in _PLAIN:
            return _PLAIN[name]
        case _:
            return "Any"


def main() -> int:
    """Write both."""
    description = describe()
    DESCRIPTION.write_text(render(description), encoding="utf-8")
    TYPES.write_text(render_types(description), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
