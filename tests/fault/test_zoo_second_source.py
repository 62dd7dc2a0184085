"""Each bad source is asked first, as a relay, with a good upstream behind it: clients see nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
from testbed.zoo import ANIMALS, Animal, ZooRegistry

pytestmark = [pytest.mark.real, pytest.mark.slow]
LIES = {"wrong-bytes-once", "wrong-bytes-at-the-start-once", "wrong-bytes-always", "changed-etag"}
"""Wrong bytes are on their way to the client before the digest tells; the last 64 KiB never follow them."""


@pytest.fixture(params=[SMALL_BYTES, BIG_BYTES], ids=["3MiB", "24MiB"])
def size_bytes(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def good(animal: Animal, size_bytes: int) -> Iterator[ZooRegistry]:
    with ZooRegistry([image_of(size_bytes, seed=animal.name)]) as running:
        yield running


@pytest.fixture
def bad(animal: Animal, size_bytes: int) -> Iterator[ZooRegistry]:
    with ZooRegistry([image_of(size_bytes, seed=animal.name)], animal) as running:
        yield running


@pytest.fixture
def mirror(tmp_path: Path, bad: ZooRegistry, good: ZooRegistry) -> Iterator[RunningMirror]:
    relays = [("docker.io", bad.url)]
    with RunningMirror(tmp_path, upstreams={"docker.io": good.url}, relays=relays, args=IMPATIENT) as running:
        yield running


@pytest.mark.parametrize("animal", ANIMALS.values(), ids=ANIMALS)
def test_trouble_is_invisible_where_another_source_can_finish(
    animal: Animal, bad: ZooRegistry, mirror: RunningMirror, size_bytes: int
) -> None:
    first, second = image_of(size_bytes, seed=animal.name).layers
    assert get_manifest(mirror).status == 200
    answer = get_blob(mirror, first)
    if animal.name in LIES:
        assert is_right(answer, first) or answer.cut, answer
        assert get_until_right(mirror, first) <= 2
    else:
        assert is_right(answer, first), answer
    assert wrong_files(mirror.data) == []
    bad.heal()
    if animal.name in LIES:
        assert get_until_right(mirror, second) <= 2, "it may have been read ahead while the source lied"
    else:
        assert is_right(get_blob(mirror, second), second)


@pytest.mark.parametrize("animal", [ANIMALS["cuts-at-40-percent"]], ids=lambda it: it.name)
def test_the_next_source_goes_on_where_the_first_broke(
    animal: Animal, bad: ZooRegistry, good: ZooRegistry, mirror: RunningMirror, size_bytes: int
) -> None:
    blob = image_of(size_bytes, seed=animal.name).layers[0]
    assert get_manifest(mirror).status == 200
    assert is_right(get_blob(mirror, blob), blob)
    sent = bad.server.sent_bytes(containing=blob) + good.server.sent_bytes(containing=blob)
    assert bad.server.sent_bytes(containing=blob) > 0
    assert sent <= size_bytes * 1.05


@pytest.mark.parametrize("animal", [ANIMALS["refuses"], ANIMALS["accepts-and-stays-silent"]], ids=lambda it: it.name)
def test_a_source_that_was_found_down_does_not_delay_the_next_blob(
    animal: Animal, mirror: RunningMirror, size_bytes: int
) -> None:
    first, second = image_of(size_bytes, seed=animal.name).layers
    assert get_manifest(mirror).status == 200
    assert is_right(get_blob(mirror, first), first)
    answer = get_blob(mirror, second)
    assert is_right(answer, second)
    assert answer.first_byte_s < 0.5
