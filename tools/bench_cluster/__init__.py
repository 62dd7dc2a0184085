"""`make bench-cluster`: the platform on three machines under load; writes its section of docs/benchmarks.md.

A module for each kind of row, each with one ``measure(session)`` that yields its rows. The machines are real Docker
daemons in network namespaces, the platform is driven as a user drives it, and the load is open: a constant rate,
latency counted from the intended start, nothing retried.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))
