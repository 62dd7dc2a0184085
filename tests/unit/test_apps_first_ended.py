"""A first deploy that is ended at any moment leaves nothing behind, though no revision ever came to be live."""

from __future__ import annotations

import pytest

from hunqi.apps.state import Desired
from support_apps import World, service, spec, web


@pytest.mark.parametrize("looks", range(1, 7))
@pytest.mark.parametrize("removed", [False, True], ids=["cancelled", "removed"])
def test_first_deploy_that_is_ended_is_drained_and_gone(looks: int, *, removed: bool) -> None:
    world = World()
    world.release(spec(web(), service("worker")))
    for _ in range(looks):
        world.look()
        world.pass_time()
    world.cancel()
    if removed:
        world.want(desired=Desired.REMOVED)

    world.settle()

    assert not world.services
    assert world.gone is removed
