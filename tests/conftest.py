"""Fixtures that whole sessions share: beds of real Docker daemons."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from testbed.swarm import Bed, swarm


@pytest.fixture(scope="session")
def one_node() -> Generator[Bed]:
    """A Swarm of one machine; mark the tests with ``ONE_NODE``."""
    with swarm(1) as bed:
        yield bed


@pytest.fixture(scope="session")
def three_nodes() -> Generator[Bed]:
    """A Swarm of three managers; mark the tests with ``THREE_NODES``."""
    with swarm(3) as bed:
        yield bed
