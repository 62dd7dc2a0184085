"""Write docs/compose.md and docs/x-hunqi.schema.json: every key of a Compose file, and what becomes of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from hunqi.apps.compose import fields
from hunqi.apps.compose.check import KEYS
from hunqi.apps.compose.fields import Field
from hunqi.apps.compose.keys import Honour, Key
from hunqi.apps.compose.schema import x_hunqi_schema

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "compose.md"
SCHEMA = DOCS / "x-hunqi.schema.json"

_HEAD = """# Compose files

Written by `.venv/bin/python tools/compose_pages.py`; do not edit.

A Compose file of the [specification](https://compose-spec.io) is compiled to services of Swarm: several files,
`include`, `extends`, profiles, variables, short and long syntaxes. Nothing is dropped in silence: each key that is not
honoured as written is named with its line and what happens instead, by every deploy and by a check, and a strict one
takes these for errors. An unknown key is an error always.

## What is different from one machine

- **Ports.** `ports:` becomes a TCP or UDP route of the gateway, at a port of the range that was chosen at `hunqi up`;
  no other port of a node is ever opened. HTTP is what `x-hunqi.routes` names; nothing is guessed.
- **Files.** What lies beside the Compose file is not on the nodes. A bind mount of a file becomes a config, a
  directory of up to 50 files configs, one that is empty or not there a volume; a larger one is an error.
- **Replacing.** HTTP services are replaced with both revisions side by side; all others, and those with volumes of a
  node, stop first. `x-hunqi.order` says otherwise. With `update_config.parallelism` so many are started at a time:
  beside all the old ones, or, stop-first, after as many were stopped, while old and new ones serve together. A first
  deploy starts all. The next ones are begun when these are healthy, so there is no `delay`.
- **Restarts.** Without `restart` a task is restarted when it ends, since a cluster heals itself; a service that others
  wait for by `service_completed_successfully` runs as a job.
- **Templates.** Swarm's placeholders such as `{{.Task.Slot}}` work in environments and host names; any other `{{` is
  text.
- **Variables.** What `${X}` names is asked of the client that deploys; what is not named never leaves it.
- **Privileges.** Paths of the host, capabilities, kernel settings, the host's network, volume drivers with options and
  objects that exist are what an app asks of the machines; only an administrator may deploy an app that does. A secret
  that `hunqi secret` keeps for the app is the app's own.

## Keys

`in part` goes by the value; `otherwise` and `no` are named whenever they are written; `refused` is an error.
"""
_SECTIONS: tuple[tuple[str, str], ...] = (
    ("The file", ""),
    ("Services", "services.*."),
    ("deploy", "services.*.deploy."),
    ("Networks", "networks.*."),
    ("Volumes", "volumes.*."),
    ("Secrets", "secrets.*."),
    ("Configs", "configs.*."),
)
_FIELDS = """
## x-hunqi

What Compose has no word for. A field that is not known here is an error. The JSON Schema for editors is
[x-hunqi.schema.json](x-hunqi.schema.json).

```yaml
services:
  web:
    image: shop/web
    x-hunqi:
      routes:
        - host: shop.example.com
          port: 8080
      health: /up
      drain: 30s
```
"""


def page() -> str:
    """Return docs/compose.md."""
    parts = [_HEAD]
    for title, prefix in _SECTIONS:
        parts.append(f"\n### {title}\n\n| key | honoured | |\n|---|---|---|\n")
        parts += [_row(key, prefix) for key in _within(prefix)]
    parts.append(_FIELDS)
    for title, known in (
        ("At a service", fields.SERVICE),
        ("At the top of the file", fields.TOP),
        ("A route", fields.ROUTE),
        ("health", fields.HEALTH),
        ("internal", fields.INTERNAL),
        ("cors", fields.CORS),
        ("rate_limit", fields.RATE_LIMIT),
        ("A header of headers", fields.MATCH),
        ("rollout", fields.ROLLOUT),
        ("A step of steps", fields.STEP),
        ("match", fields.LANE_MATCH),
        ("A measure of measures", fields.MEASURE),
        ("key", fields.KEY),
        ("scale", fields.SCALE),
        ("scale.queue", fields.QUEUE),
        ("A slot of scale.schedule", fields.SLOT),
        ("scale.zero", fields.ZERO),
        ("scale.behavior", fields.BEHAVIOR),
        ("up and down of scale.behavior", fields.RULES),
        ("A policy of scale.behavior", fields.POLICY),
    ):
        parts.append(f"\n### {title}\n\n| field | | default |\n|---|---|---|\n")
        parts += [_field(field) for field in known]
    return "".join(parts)


def schema() -> str:
    """Return docs/x-hunqi.schema.json."""
    return json.dumps(x_hunqi_schema(), indent=2, ensure_ascii=False) + "\n"


def _within(prefix: str) -> Iterator[Key]:
    longer = [other for _, other in _SECTIONS if len(other) > len(prefix) and other.startswith(prefix)]
    for key in KEYS:
        if key.path.startswith(prefix) and not any(key.path.startswith(other) for other in longer):
            yield key


def _row(key: Key, prefix: str) -> str:
    honour = key.honour.value if key.honour is not Honour.REFUSED else "**refused**"
    return f"| `{key.path.removeprefix(prefix)}` | {honour} | {_cell(key.text)} |\n"


def _field(field: Field) -> str:
    choices = f" One of {', '.join(f'`{choice}`' for choice in field.choices)}." if field.choices else ""
    default = "" if field.default is None else f"`{json.dumps(field.default).strip(chr(34))}`"
    required = " Required." if field.required else ""
    return f"| `{field.name}` | {_cell(field.text)}{choices}{required} | {default} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> int:
    """Write both."""
    PAGE.write_text(page(), encoding="utf-8")
    SCHEMA.write_text(schema(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
