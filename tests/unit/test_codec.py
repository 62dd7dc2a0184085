"""Values to JSON and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hunqi.apps.model import AppSpec, Grant, HealthSpec, Mount, Protocol, RouteSpec, ServiceSpec
from hunqi.gateway.model import Certificate
from hunqi.kit import codec
from hunqi.kit.codec import CodecError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    name: str
    ratio: float = 1.0
    colour: Colour = Colour.RED


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    leaves: tuple[Leaf, ...] = ()
    by_name: dict[str, Leaf] = field(default_factory=dict[str, Leaf])
    pair: tuple[int, str] = (1, "one")
    best: Leaf | None = None
    at: datetime | None = None
    anything: Any = None


LEAVES = st.builds(
    Leaf, name=st.text(), ratio=st.floats(allow_nan=False, allow_infinity=False), colour=st.sampled_from(Colour)
)
TREES = st.builds(
    Tree,
    leaves=st.lists(LEAVES, max_size=3).map(tuple),
    by_name=st.dictionaries(st.text(), LEAVES, max_size=3),
    pair=st.tuples(st.integers(), st.text()),
    best=st.none() | LEAVES,
    at=st.none() | st.datetimes(timezones=st.just(UTC)),
    anything=st.none() | st.lists(st.integers()) | st.dictionaries(st.text(), st.booleans()),
)


@given(TREES)
def test_what_is_written_is_read_back(tree: Tree) -> None:
    assert codec.loads(Tree, codec.dumps(tree)) == tree


def test_defaults_are_left_out_so_that_later_fields_change_no_old_text() -> None:
    assert codec.dumps(Tree(best=Leaf(name="a"))) == '{"best":{"name":"a"}}'


def test_a_number_that_only_equals_the_default_keeps_its_kind() -> None:
    assert codec.encode(Tree(pair=(1, "one"))) == {}
    assert codec.loads(Leaf, '{"name":"a","ratio":2}').ratio == 2.0


def test_an_app_spec_survives() -> None:
    web = ServiceSpec(
        name="web",
        image="nginx@sha256:" + "0" * 64,
        routes=(RouteSpec(port=80, hosts=("a.example",), protocol=Protocol.HTTP2),),
        mounts=(Mount(kind="volume", target="/data", source="data", options={"NoCopy": True}),),
        secrets=(Grant(source="key", target="/run/secrets/key", mode=0o400),),
        health=HealthSpec(path="/up"),
        template={"ContainerSpec": {"Env": ["A=1"]}},
    )
    spec = AppSpec(name="shop", services={"web": web}, extensions={"scale": {"max": 5}})
    assert codec.loads(AppSpec, codec.dumps(spec)) == spec


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"name": 5}', '{"name": "a", "colour": "green"}', '{"name": "a", "unknown": 1}', "null"],
)
def test_json_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(CodecError):
        codec.loads(Leaf, text)


def test_keys_of_certificates_are_not_shown() -> None:
    certificate = Certificate(hosts=("a",), chain_pem="chain", key_pem="very secret")
    assert "very secret" not in repr(certificate)
    assert codec.loads(Certificate, codec.dumps(certificate)) == certificate
