"""Fixtures that whole sessions share (beds of real Docker daemons), and the order of the tests."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import pytest

from testbed.swarm import Bed, swarm

LONGEST_FIRST: Final = (
    "test_cluster_faults",
    "test_tour",
    "test_control_managers",
    "test_platform_up",
    "test_nodes_swarm",
    "test_gateway_node",
    "test_operate_retention",
    "test_apps_deploy",
    "test_setup_command",
    "test_operate",
    "test_agent_gateway",
    "test_operate_archives",
    "test_space",
    "test_clients_registries",
    "test_first_push",
    "test_agent_docker",
    "test_peers_local",
    "test_peers_blobs",
    "test_push_malformed",
    "test_mirror_kills",
    "test_relays",
    "test_control_takeover",
    "test_state_takeover",
    "test_zoo_alone",
)
"""Files whose tests take long: with ``--no-loadscope-reorder`` no worker begins one when the others are done."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long ones first; all others stay as they are."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


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
