"""Every bad upstream, alone and beside an honest one: right bytes, or an error, and never a wrong byte kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from hunqi.mirror.fetch.state import FetchStatus
from hunqi.mirror.settings import FetchSettings
from hunqi.mirror.sources.model import SourceKind
from hunqi.oci.digest import Digest
from support_fetch import PLAIN, RANGES, RemoteBlob, bench, source
from testbed.images import MIB, opaque
from testbed.zoo import ANIMALS, HONEST, Fate, ZooRegistry

IMAGE = opaque([6 * MIB])
LAYER = Digest.parse(IMAGE.layers[0])
DATA = IMAGE.blobs[str(LAYER)]
BLOB = RemoteBlob(upstream="docker.io", repository="library/demo", digest=LAYER)
MODES = pytest.mark.parametrize("settings", [PLAIN, RANGES], ids=["plain", "ranges"])


@MODES
@pytest.mark.parametrize("name", [name for name in ANIMALS if name != "slow-trickle"])
def test_alone_it_gives_what_its_kind_allows(tmp_path: Path, name: str, settings: FetchSettings) -> None:
    animal = ANIMALS[name]
    with ZooRegistry([IMAGE], animal) as zoo, bench(tmp_path, [source(zoo.url)], settings=settings) as b:
        states = []
        for _ in range(2 if animal.alone is Fate.HEALS else 1):
            fetch = b.fetches.join(BLOB, repo="docker.io/library/demo", size=len(DATA))
            states.append(fetch.wait(20))
            assert states[-1].status is not FetchStatus.RUNNING
            assert fetch.closed.wait(5)
        if animal.alone in {Fate.RIGHT, Fate.HEALS}:
            assert states[-1].status is FetchStatus.DONE, states[-1].error
        if animal.alone is Fate.FAILS:
            assert states[-1].status is FetchStatus.FAILED
            assert states[-1].error is not None
        kept = b.content / LAYER.hex
        assert kept.exists() == (states[-1].status is FetchStatus.DONE)
        if kept.exists():
            assert kept.read_bytes() == DATA


@MODES
@pytest.mark.parametrize("name", ANIMALS)
def test_beside_an_honest_source_nothing_is_seen_of_it(tmp_path: Path, name: str, settings: FetchSettings) -> None:
    with (
        ZooRegistry([IMAGE], ANIMALS[name]) as bad,
        ZooRegistry([IMAGE], HONEST) as good,
        bench(tmp_path, [source(bad.url, kind=SourceKind.RELAY), source(good.url)], settings=settings) as b,
    ):
        fetch = b.fetches.join(BLOB, repo="docker.io/library/demo", size=len(DATA))
        state = fetch.wait(30)
        assert state.status is FetchStatus.DONE, state.error
        assert (b.content / LAYER.hex).read_bytes() == DATA
        assert fetch.closed.wait(5)
        assert b.parts() == []
