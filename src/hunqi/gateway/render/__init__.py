"""A route table becomes Envoy's v3 resources: pure, one module per concern.

``Renderer`` gives the files that an Envoy at a place reads. Equal tables give equal files, so that what did not change
is not written again.
"""

from __future__ import annotations

import json

from hunqi.gateway.model import Place, RouteTable
from hunqi.gateway.render.common import JSON
from hunqi.gateway.render.kept import CLUSTERS, LISTENERS, Renderer

__all__ = ["CLUSTERS", "LISTENERS", "Renderer", "render"]


def render(table: RouteTable, place: Place) -> dict[str, list[JSON]]:
    """Return the resources as objects, by the path of their file below ``place.folder``: for those who look at one."""
    return {path: [json.loads(each) for each in texts] for path, texts in Renderer(place).render(table).items()}
