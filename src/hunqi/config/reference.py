"""The configuration reference, made from the table of settings.

``python -m hunqi.config.reference > docs/configuration.md`` renews it; a test compares the two.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Final

from hunqi.config.compound import ORIGIN, RETENTION
from hunqi.config.origins import variable_of
from hunqi.config.setting import Setting
from hunqi.config.table import ALL
from hunqi.mirror.settings import WELL_KNOWN_UPSTREAMS, MirrorSettings, Origin

_DEFAULTS: Final = MirrorSettings(data_dir=Path("/"))
_INTRODUCTION: Final = """\
# Configuration

Three layers, the later one stronger: the **file** (`--config FILE`, else `HUNQI_CONFIG`, else `/etc/hunqi/hunqi.toml`
when it exists), the **environment**, and the **flags** of `hunqi mirror serve`. All faults are reported together, each
with its place, its value, the rule and a remedy; a key that nobody knows is a fault.

- Sizes: `512MiB`, `50GiB`, `1.5TiB`, `500MB` or plain bytes. Durations: `500ms`, `60s`, `5m`, `1h30m`, `7d`; the unit
  is always written. Percentages: `90%`.
- A list is a TOML list in the file, separated by commas in the environment, and a repeated flag.
- Relative paths start at the file's directory, elsewhere at the working directory.
- An empty variable counts as not set.

```toml
# hunqi.toml
[mirror]
listen = "127.0.0.1:5000"
data = "/var/lib/hunqi/mirror"

[mirror.space]
cache-max = "200GiB"

[mirror.tags]
ttl = "60s"
patterns = ["library/*:latest=5m", "team/*:*=0s"]

[mirror.upstreams]
"docker.io" = "https://registry-1.docker.io"
"ghcr.io" = { url = "https://ghcr.io", credentials-file = "ghcr.json", deny = ["evil/*"] }

[[mirror.relays]]
name = "*"
url = "https://mirror.example.com"

[[mirror.space.retention]]
pattern = "team/*"
keep-newest = 10
untagged-after = "7d"
```
"""


def default_text(setting: Setting) -> str:
    """Return the default as a user would write it; empty where nothing is set."""
    if setting.default is not None:
        return setting.default
    values = [_default_of(field) for field in setting.fields]
    if values[0] is None or values[0] == ():
        return ""
    return setting.kind.show(values[0] if len(values) == 1 else tuple(values))


def _default_of(field: str) -> object:
    try:
        return attrgetter(field)(_DEFAULTS)
    except AttributeError:
        return None  # within an optional group, such as tls.cert_file


def render_reference() -> str:
    """Return the whole of docs/configuration.md."""
    return "\n".join(
        [
            _INTRODUCTION,
            *_main_table(),
            "## Where upstreams point",
            "",
            "A variable named after an upstream points it elsewhere, for a test or a closed network; a `--upstream`",
            "flag is stronger. Any upstream of the file has such a variable: its name in capitals, `_` for what is no",
            "letter or digit.",
            "",
            "| variable | upstream | default |",
            "|---|---|---|",
            *(f"| `{variable_of(name)}` | {name} | `{url}` |" for name, url in WELL_KNOWN_UPSTREAMS.items()),
            "",
            "`HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` (or in lower case, which is stronger) hold for every upstream.",
            "",
            *_compound_table("## Keys of an upstream or a relay", ORIGIN, defaults=True),
            "A relay also has `name`: the upstream that it stands before, or `*` (the default) for all. It has",
            "no `allow` and no `deny`: those of the upstream count.",
            "",
            *_compound_table("## Keys of a retention rule", RETENTION, defaults=False),
            "Rules are for pushed repositories only; `hunqi mirror gc` applies the first whose pattern matches.",
            "",
        ]
    )


def _main_table() -> list[str]:
    lines: list[str] = []
    for panel in dict.fromkeys(setting.panel for setting in ALL):
        lines += [
            f"## {panel}",
            "",
            "| key under `[mirror]` | variable | flag | default | what for |",
            "|---|---|---|---|---|",
        ]
        lines += [_row(setting) for setting in ALL if setting.panel == panel]
        lines.append("")
    return lines


def _row(setting: Setting) -> str:
    default = default_text(setting)
    shown = default if setting.default is not None or not default else f"`{default}`"
    flags = " ".join(f"`{flag}`" for flag in (setting.flag, setting.off_flag) if flag)
    return f"| `{setting.key}` | `{setting.variable}` | {flags} | {shown} | {setting.help} |"


def _compound_table(title: str, settings: Sequence[Setting], *, defaults: bool) -> list[str]:
    lines = [title, "", "| key | kind | default | what for |", "|---|---|---|---|"]
    for setting in settings:
        value = getattr(Origin(name="", url=""), setting.fields[0]) if defaults else None
        default = f"`{setting.kind.show(value)}`" if value else ""
        lines.append(f"| `{setting.key}` | {setting.kind.name} | {default} | {setting.help} |")
    return [*lines, ""]


if __name__ == "__main__":
    sys.stdout.write(render_reference())
