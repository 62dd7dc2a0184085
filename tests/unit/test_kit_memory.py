"""Code that was unmapped runs again; what libraries have written stays."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from hunqi.kit import memory

_UNMAPPED = """
import hashlib, json, sqlite3, ssl, zlib
from hunqi.kit.memory import unmap_code

def mapped():
    return sum(int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("Rss:"))

def work():
    database = sqlite3.connect(":memory:")
    database.execute("create table t (a)")
    ssl.create_default_context()
    return hashlib.sha256(zlib.compress(b"x" * 1000)).hexdigest()

first = work()
before = mapped()
unmap_code()
after = mapped()
print(json.dumps([before, after, first == work()]))
"""


def test_unmapped_code_runs_again() -> None:
    done = subprocess.run([sys.executable, "-c", _UNMAPPED], capture_output=True, text=True, timeout=60, check=True)
    before, after, same = json.loads(done.stdout)
    assert after < before - 1000, "kilobytes"
    assert same


async def test_it_goes_on_until_it_is_cancelled() -> None:
    task = asyncio.ensure_future(memory.give_back_often(first_s=0.0, round_s=0.001))
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
