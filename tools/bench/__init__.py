"""`make bench`: the mirror against docker-registry and nginx, in one run; writes docs/benchmarks.md.

A module for each kind of row, each with one ``measure(bench)`` that yields its rows. Rivals take turns within a round,
the order is another in each round, and medians over the rounds are compared: ratios count, absolutes drift with the
machine. A download that is short, wrong or refused ends the run.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))
