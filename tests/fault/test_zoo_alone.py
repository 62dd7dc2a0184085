"""Each bad upstream as the only source: the client is told fast or gets a short body, never a complete wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.client import Answer
from testbed.mirror import RunningMirror
from testbed.trial import (
    BIG_BYTES,
    IMPATIENT,
    SMALL_BYTES,
    get_blob,
    get_manifest,
    get_until_right,
    image_of,
    is_right,
    wrong_files,
)
from testbed.zoo import ANIMALS, Animal, Fate, ZooRegistry

pytestmark = [pytest.mark.real, pytest.mark.slow]
NEVER_ENDING = {"slow-trickle": 3.0}
"""Sources that never stall and never end: there is no cap on a whole, so the client leaves, after these seconds."""


@pytest.fixture(params=[SMALL_BYTES, BIG_BYTES], ids=["3MiB", "24MiB"])
def size_bytes(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def zoo(animal: Animal, size_bytes: int) -> Iterator[ZooRegistry]:
    with ZooRegistry([image_of(size_bytes, seed=animal.name)], animal) as running:
        yield running


@pytest.fixture
def mirror(tmp_path: Path, zoo: ZooRegistry) -> Iterator[RunningMirror]:
    with RunningMirror(tmp_path, upstreams={"docker.io": zoo.url}, args=IMPATIENT) as running:
        yield running


def assert_fate(answer: Answer, digest: str, fate: Fate) -> None:
    match fate:
        case Fate.RIGHT:
            assert is_right(answer, digest), answer
        case Fate.FAILS:
            assert not answer.is_whole, answer
            assert answer.status == 0 or answer.cut or answer.status >= 400, answer
        case Fate.HEALS | Fate.EITHER:
            assert is_right(answer, digest) or answer.cut or answer.status >= 400, answer


@pytest.mark.parametrize("animal", ANIMALS.values(), ids=ANIMALS)
def test_client_gets_the_right_body_or_a_visible_failure_and_all_heals(
    animal: Animal, zoo: ZooRegistry, mirror: RunningMirror, size_bytes: int
) -> None:
    first, second = image_of(size_bytes, seed=animal.name).layers
    if not (animal.refuses or animal.silent):
        assert get_manifest(mirror).status == 200
    answer = get_blob(mirror, first, deadline_s=NEVER_ENDING.get(animal.name, 45.0))
    assert_fate(answer, first, animal.alone)
    if animal.alone is Fate.HEALS:
        get_until_right(mirror, first)
    assert wrong_files(mirror.data) == []
    zoo.heal()
    get_until_right(mirror, first)
    get_until_right(mirror, second)
    assert wrong_files(mirror.data) == []


@pytest.mark.parametrize("size_bytes", [SMALL_BYTES], ids=["3MiB"])
@pytest.mark.parametrize("animal", [ANIMALS["refuses"], ANIMALS["accepts-and-stays-silent"]], ids=lambda it: it.name)
def test_a_source_that_is_down_is_answered_fast(animal: Animal, mirror: RunningMirror, size_bytes: int) -> None:
    blob = image_of(size_bytes, seed=animal.name).layers[0]
    for answer in (get_manifest(mirror), get_blob(mirror, blob)):
        assert answer.status in (502, 503, 504), answer
        assert answer.took_s < 8


@pytest.mark.parametrize("size_bytes", [SMALL_BYTES], ids=["3MiB"])
@pytest.mark.parametrize(
    "animal", [ANIMALS["limited-with-headers"], ANIMALS["limited-without-headers"]], ids=lambda it: it.name
)
def test_429_stays_429(animal: Animal, mirror: RunningMirror, size_bytes: int) -> None:
    assert get_manifest(mirror).status == 200
    answer = get_blob(mirror, image_of(size_bytes, seed=animal.name).layers[0])
    assert answer.status == 429
    if animal.name == "limited-with-headers":
        assert 0 < int(answer.headers["retry-after"]) <= 7


@pytest.mark.parametrize("animal", [ANIMALS["redirects-elsewhere"]], ids=lambda it: it.name)
def test_no_credential_follows_a_redirect_to_another_host(
    animal: Animal, zoo: ZooRegistry, mirror: RunningMirror, size_bytes: int
) -> None:
    blob = image_of(size_bytes, seed=animal.name).layers[0]
    assert get_manifest(mirror).status == 200
    assert is_right(get_blob(mirror, blob), blob)
    assert any("authorization" in record.headers for record in zoo.server.records)
    assert zoo.elsewhere.records
    assert all("authorization" not in record.headers for record in zoo.elsewhere.records)


@pytest.mark.parametrize("size_bytes", [SMALL_BYTES], ids=["3MiB"])
@pytest.mark.parametrize("animal", [ANIMALS["cuts-every-mib"]], ids=lambda it: it.name)
def test_a_cut_is_resumed_where_it_happened(
    animal: Animal, zoo: ZooRegistry, mirror: RunningMirror, size_bytes: int
) -> None:
    blob = image_of(size_bytes, seed=animal.name).layers[0]
    assert get_manifest(mirror).status == 200
    assert is_right(get_blob(mirror, blob), blob)
    assert zoo.server.sent_bytes(containing=blob) <= size_bytes * 1.02
