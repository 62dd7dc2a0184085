"""`make soak`: mixed load with faults, for ten minutes and more; no wrong byte, nothing lost, memory and files flat.

Readers, pushers and slow clients work without a pause while upstreams break and content is evicted. Processes are
killed and the settings reloaded in the first third only: a process that dies forgets what it leaked, so memory and
open files are judged in the two thirds after it, and open files once more when the load is over.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))
