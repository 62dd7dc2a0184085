"""What is remembered ends in time and stays within bounds."""

from __future__ import annotations

from hunqi.mirror.resolve.memory import Bodies, Body, Expiring
from hunqi.oci.digest import Digest


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_entry_ends_in_time() -> None:
    clock = Clock()
    memory: Expiring[str, int] = Expiring(clock)
    memory.put("a", 1, for_s=10.0)
    clock.now = 9.0
    assert memory.get("a") == 1
    assert memory.remaining_s("a") == 1.0
    clock.now = 10.0
    assert memory.get("a") is None
    assert memory.remaining_s("a") == 0.0


def test_the_oldest_entry_makes_room() -> None:
    memory: Expiring[int, int] = Expiring(Clock(), max_entries=3)
    for number in range(4):
        memory.put(number, number, for_s=10.0)
    assert [memory.get(number) for number in range(4)] == [None, 1, 2, 3]


def test_bodies_stay_within_their_bytes_and_keep_what_is_used() -> None:
    bodies = Bodies(max_bytes=30)
    digests = [Digest.of(bytes([number])) for number in range(4)]
    for digest in digests[:3]:
        bodies.put("r", digest, Body(data=b"x" * 10, media_type="t"))
    assert bodies.get("r", digests[0]) is not None
    bodies.put("r", digests[3], Body(data=b"x" * 10, media_type="t"))
    assert [bodies.get("r", digest) is not None for digest in digests] == [True, False, True, True]


def test_a_body_belongs_to_one_repository() -> None:
    bodies = Bodies(max_bytes=30)
    digest = Digest.of(b"")
    bodies.put("public", digest, Body(data=b"x", media_type="t"))
    assert bodies.get("private", digest) is None


def test_a_body_over_the_bound_is_not_kept_and_replaced_bytes_are_not_counted_twice() -> None:
    bodies = Bodies(max_bytes=30)
    digest = Digest.of(b"")
    bodies.put("r", digest, Body(data=b"x" * 31, media_type="t"))
    assert bodies.get("r", digest) is None
    for _ in range(5):
        bodies.put("r", digest, Body(data=b"x" * 20, media_type="t"))
    assert bodies.get("r", digest) is not None
