"""Each animal misbehaves as its name says, and stops when it is healed."""

from __future__ import annotations

import time

import pytest

from testbed import images
from testbed.client import Answer, fetch
from testbed.zoo import ANIMALS, Animal, ZooRegistry

pytestmark = pytest.mark.real
MIB = images.MIB
SIZE = 3 * MIB
IMAGE = images.opaque([SIZE], seed="zoo")
BLOB = IMAGE.layers[0]
RIGHT = IMAGE.blobs[BLOB]


def ask(zoo: ZooRegistry, span: str | None = None, *, timeout_s: float = 0.5, **headers: str) -> Answer:
    fields = {"Range": f"bytes={span}"} if span else {}
    url = f"{zoo.url}/v2/docker.io/library/x/blobs/{BLOB}"
    return fetch(url, headers={**fields, **headers}, timeout_s=timeout_s)


@pytest.mark.parametrize("animal", ANIMALS.values(), ids=ANIMALS)
def test_a_healed_animal_is_honest(animal: Animal) -> None:
    with ZooRegistry([IMAGE], animal) as zoo:
        zoo.heal()
        assert ask(zoo).body == RIGHT
        part = ask(zoo, "100-199")
        assert (part.status, part.body) == (206, RIGHT[100:200])
        assert part.headers["content-range"] == f"bytes 100-199/{SIZE}"
        assert ask(zoo, f"{SIZE}-").status == 416
        for reference in ("latest", IMAGE.digest):
            assert fetch(f"{zoo.url}/v2/library/x/manifests/{reference}").body == IMAGE.root.data


def test_refuses() -> None:
    with ZooRegistry([IMAGE], ANIMALS["refuses"]) as zoo, pytest.raises(ConnectionRefusedError):
        ask(zoo)


def test_accepts_and_stays_silent() -> None:
    with ZooRegistry([IMAGE], ANIMALS["accepts-and-stays-silent"]) as zoo, pytest.raises(TimeoutError):
        ask(zoo, timeout_s=0.2)


def test_stalls_in_the_middle() -> None:
    with ZooRegistry([IMAGE], ANIMALS["stalls-in-the-middle"]) as zoo:
        with pytest.raises(TimeoutError):
            ask(zoo, timeout_s=0.2)
        assert zoo.server.sent_bytes() == SIZE * 2 // 5


def test_cuts_at_40_percent_of_the_blob_for_ever() -> None:
    with ZooRegistry([IMAGE], ANIMALS["cuts-at-40-percent"]) as zoo:
        assert ask(zoo).body == RIGHT[: SIZE * 2 // 5]
        assert ask(zoo, f"{SIZE // 2}-").body == b""
        assert ask(zoo, "0-99").body == RIGHT[:100]


def test_cuts_every_mib() -> None:
    with ZooRegistry([IMAGE], ANIMALS["cuts-every-mib"]) as zoo:
        pieces = [ask(zoo, f"{start}-") for start in range(0, SIZE, MIB)]
        assert [piece.cut for piece in pieces] == [True, True, False]
        assert b"".join(piece.body for piece in pieces) == RIGHT


def test_wrong_bytes_once_and_always() -> None:
    with ZooRegistry([IMAGE], ANIMALS["wrong-bytes-once"]) as zoo:
        assert ask(zoo, "0-99").body == RIGHT[:100]
        assert ask(zoo).digest != BLOB
        assert ask(zoo).digest == BLOB
    with ZooRegistry([IMAGE], ANIMALS["wrong-bytes-always"]) as zoo:
        assert {ask(zoo).digest == BLOB for _ in range(3)} == {False}


def test_wrong_lengths() -> None:
    with ZooRegistry([IMAGE], ANIMALS["length-too-long"]) as zoo:
        answer = ask(zoo)
        assert (answer.promised_bytes, len(answer.body), answer.cut) == (SIZE + 1000, SIZE, True)
    with ZooRegistry([IMAGE], ANIMALS["length-too-short"]) as zoo:
        answer = ask(zoo)
        assert (answer.promised_bytes, len(answer.body), answer.cut) == (SIZE - 1000, SIZE - 1000, False)


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("html-with-200", [200, 200]),
        ("unauthorized-loop", [401, 401]),
        ("limited-with-headers", [429, 429]),
        ("limited-without-headers", [429, 429]),
        ("error-then-fine", [500, 500, 200]),
    ],
)
def test_statuses(name: str, statuses: list[int]) -> None:
    with ZooRegistry([IMAGE], ANIMALS[name]) as zoo:
        answers = [ask(zoo, Authorization="Bearer zoo") for _ in statuses]
        assert [answer.status for answer in answers] == statuses
        assert ("retry-after" in answers[0].headers) == (name == "limited-with-headers")
        assert ("html" in answers[0].headers.get("content-type", "")) == (name == "html-with-200")
        assert len(zoo.blob_gets(BLOB)) == len(statuses)


@pytest.mark.parametrize("name", ["no-range-support", "range-ignored"])
def test_no_ranges(name: str) -> None:
    with ZooRegistry([IMAGE], ANIMALS[name]) as zoo:
        assert ask(zoo).body == RIGHT[: SIZE * 2 // 5]
        answer = ask(zoo, f"{MIB}-")
        assert (answer.status, answer.body) == (200, RIGHT)


def test_range_answered_with_200() -> None:
    with ZooRegistry([IMAGE], ANIMALS["range-answered-with-200"]) as zoo:
        answer = ask(zoo, f"{MIB}-")
        assert (answer.status, answer.body) == (200, RIGHT[MIB:])


def test_slow_trickle_never_stalls_and_never_ends() -> None:
    with ZooRegistry([IMAGE], ANIMALS["slow-trickle"]) as zoo:
        answer = fetch(f"{zoo.url}/v2/x/blobs/{BLOB}", timeout_s=0.5, stop_after_bytes=4096)
        assert 0.5 < answer.took_s < 3


def test_redirect_goes_to_another_host_after_a_token() -> None:
    with ZooRegistry([IMAGE], ANIMALS["redirects-elsewhere"]) as zoo:
        assert ask(zoo).status == 401
        answer = ask(zoo, Authorization="Bearer zoo")
        assert answer.status == 307
        assert answer.headers["location"].startswith("http://localhost:")
        assert fetch(answer.headers["location"]).body == RIGHT
        assert "authorization" not in zoo.elsewhere.records[0].headers


def test_changed_etag() -> None:
    with ZooRegistry([IMAGE], ANIMALS["changed-etag"]) as zoo:
        old = ask(zoo)
        assert (old.headers["etag"], old.cut, old.body == RIGHT[: len(old.body)]) == ('"old"', True, False)
        assert ask(zoo, f"{MIB}-", **{"If-Range": '"old"'}).status == 200
        assert ask(zoo, f"{MIB}-", **{"If-Range": '"new"'}).status == 206


def test_a_zoo_stops_at_once_with_connections_open() -> None:
    zoo = ZooRegistry([IMAGE], ANIMALS["stalls-in-the-middle"])
    with zoo, pytest.raises(TimeoutError):
        ask(zoo, timeout_s=0.2)
    started = time.monotonic()
    zoo.server.stop()
    assert time.monotonic() - started < 2
    assert zoo.server.open_connections == 0
