"""Write the diagram of a rollout's states into docs/rollouts.md, from the table that the code goes by."""

from __future__ import annotations

import sys
from pathlib import Path

from hunqi.rollouts.states import ENDS, TABLE, State

TARGET = Path(__file__).resolve().parent.parent / "docs" / "rollouts.md"
BEGIN = "<!-- states: written by tools/rollout_diagram.py -->\n"
END = "<!-- end of states -->\n"


def diagram() -> str:
    """Return the diagram; ways from one state to the same other one share an arrow."""
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR", f"    [*] --> {State.STARTING}: a deploy"]
    for state, row in TABLE.items():
        ways: dict[State, list[str]] = {}
        for happening, after in row.items():
            ways.setdefault(after, []).append(happening.value)
        lines += [f"    {state} --> {after}: {'<br>'.join(texts)}" for after, texts in ways.items()]
    lines += [f"    {end} --> [*]" for end in sorted(ENDS)]
    return "\n".join([*lines, "```", ""])


def render(page: str) -> str:
    """Return the page with the diagram as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{diagram()}\n{END}{after}"


def main() -> int:
    """Write the page."""
    TARGET.write_text(render(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
