"""The engine's pure parts: addresses, versions, frames, log lines, placement in the fake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.engine import parse
from hunqi.engine.address import Address
from hunqi.engine.errors import EngineFailedError, EngineRefusedError
from hunqi.engine.fake.placement import FakeNode, Load, matches, place
from hunqi.engine.frames import Frames
from hunqi.engine.logs import Lines
from hunqi.engine.model import TaskState


class Pieces:
    """Bytes in the pieces given."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def framed(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unix:///run/docker.sock", "unix:///run/docker.sock"),
        ("/run/docker.sock", "unix:///run/docker.sock"),
        ("tcp://10.0.0.1:2375", "tcp://10.0.0.1:2375"),
    ],
)
def test_an_address_is_a_socket_or_a_host_and_port(text: str, shown: str) -> None:
    assert str(Address.parse(text)) == shown
    assert Address.parse(shown) == Address.parse(text)


@pytest.mark.parametrize(
    "text", ["", "docker.sock", "tcp://host", "tcp://host:port", "ssh://host", "unix://", "tcp://:1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(EngineRefusedError):
        Address.parse(text)


def test_what_was_pulled_by_digest_has_no_tag_however_the_engine_stores_it() -> None:
    digest = "127.0.0.1:5000/shop/web@sha256:" + "a" * 64
    by_overlay2 = parse.image({"Id": "1", "RepoTags": ["<none>:<none>"], "RepoDigests": [digest]})
    by_containerd = parse.image({"Id": "1", "RepoTags": [digest, "mine:1"], "RepoDigests": [digest]})
    assert (by_overlay2.tags, by_overlay2.digests) == ((), (digest,))
    assert (by_containerd.tags, by_containerd.digests) == (("mine:1",), (digest,))


@given(
    frames=st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=300)), max_size=12),
    cuts=st.lists(st.integers(1, 50), min_size=1, max_size=40),
)
def test_frames_come_whole_however_the_bytes_are_cut(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(framed(stream, payload) for stream, payload in frames)
    taken: list[tuple[str, bytes]] = []
    collector, at, turn = Frames(), 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        collector.feed(data[at : at + size])
        at, turn = at + size, turn + 1
        while (frame := collector.take()) is not None:
            taken.append(frame)
    assert taken == [({1: "stdout", 2: "stderr"}[stream], payload) for stream, payload in frames]


@given(st.binary(max_size=200))
def test_what_is_no_frame_never_ends_in_another_error(data: bytes) -> None:
    collector = Frames()
    collector.feed(data)
    try:
        while collector.take() is not None:
            continue
    except EngineFailedError:
        return


@given(
    text=st.text(st.characters(exclude_characters="\n\r", exclude_categories=("Cs",)), max_size=60),
    size=st.integers(1, 9),
)
async def test_a_line_of_a_log_comes_whole_and_with_its_owner(text: str, size: int) -> None:
    details = "com.docker.swarm.node.id=n1,com.docker.swarm.service.id=s1,com.docker.swarm.task.id=t1,x=a%2Cb"
    line = f"2026-01-02T03:04:05.000000006Z {details} {text}\n".encode()
    data = (
        framed(2, line[:40])
        + framed(1, b"2026-01-01T00:00:00Z com.docker.swarm.task.id=t2 other")
        + framed(2, line[40:])
    )
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    lines = [line async for line in Lines(Pieces(pieces), detailed=True)]
    assert [(each.stream, each.task, each.text) for each in lines] == [
        ("stderr", "t1", text),
        ("stdout", "t2", "other"),
    ]
    assert (lines[0].time, lines[0].node, lines[0].service) == ("2026-01-02T03:04:05.000000006Z", "n1", "s1")


async def test_a_terminals_lines_are_not_framed() -> None:
    lines = [line.text async for line in Lines(Pieces([b"2026 a\r\n20", b"26 b\r\n"]), detailed=False, framed=False)]
    assert lines == ["a", "b"]


async def test_a_line_without_end_comes_in_pieces() -> None:
    data = b"2026-01-01T00:00:00Z " + b"x" * 1_500_000
    pieces = [framed(1, data[at : at + 16_384]) for at in range(0, len(data), 16_384)]
    lines = [line async for line in Lines(Pieces(pieces), detailed=False)]
    assert len(lines) == 2
    assert max(len(line.text) for line in lines) <= 1_100_000


def test_a_task_in_the_least_that_docker_shows_is_parsed() -> None:
    task = parse.task({"ID": "t", "Status": {}, "DesiredState": "running"})
    assert (task.state, task.desired_state, task.node_id, task.addresses) == (
        TaskState.NEW,
        TaskState.RUNNING,
        None,
        {},
    )
    assert not task.serving


def test_lists_that_are_null_are_empty_and_others_are_refused() -> None:
    assert parse.items(None, "tasks") == []
    for wrong in ({}, "x", [1]):
        with pytest.raises(EngineFailedError):
            parse.items(wrong, "tasks")


def node(name: str, **more: object) -> FakeNode:
    return FakeNode(id=name, version=1, hostname=name, address="192.0.2.1", **more)  # pyright: ignore[reportArgumentType]


def test_a_task_is_placed_where_its_service_has_fewest_then_where_fewest_are() -> None:
    nodes = [node("a"), node("b"), node("c")]
    load = {"a": Load(tasks=1), "b": Load(tasks=5), "c": Load(tasks=2)}
    assert place({}, nodes, load, own={}) == ("a", "")
    assert place({}, nodes, load, own={"a": 1}) == ("c", "")
    assert place({}, nodes, load, own={"a": 1, "c": 1}) == ("b", "")


def test_why_nothing_fits_is_counted_by_reason() -> None:
    nodes = [node("a", availability="drain"), node("b", memory_bytes=2**20), node("c", labels={"disk": "hdd"})]
    template = {
        "Placement": {"Constraints": ["node.labels.disk == hdd"]},
        "Resources": {"Reservations": {"MemoryBytes": 2**30}},
    }
    assert place(template, nodes, {"c": Load(memory_bytes=8 * 2**30)}, own={}) == (
        None,
        "no suitable node (not available for new tasks on 1 node; insufficient resources on 2 nodes)",
    )


@pytest.mark.parametrize(
    ("constraint", "met"),
    [
        ("node.labels.disk==ssd", True),
        ("node.labels.disk != ssd", False),
        ("node.labels.other==x", False),
        ("node.labels.other!=x", True),
        ("node.hostname==A", True),
        ("node.role==worker", False),
        ("node.platform.os==linux", True),
        ("node.id!=a", False),
    ],
)
def test_constraints_are_met_as_swarm_has_it(constraint: str, met: bool) -> None:
    assert matches(constraint, node("a", labels={"disk": "ssd"})) is met
