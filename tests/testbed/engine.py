"""Which Docker Engine the test beds run: this machine's, or the one that the environment names.

``HUNQI_TEST_DOCKERD`` is the path of another ``dockerd`` (``make test-engines`` fetches some), ``HUNQI_TEST_STORE`` is
``containerd`` for images in containerd's store, as Docker 29 and later keep them, instead of by overlay2.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DOCKERD: Final = os.environ.get("HUNQI_TEST_DOCKERD") or "dockerd"
CONTAINERD_STORE: Final = os.environ.get("HUNQI_TEST_STORE") == "containerd"
STORAGE_DRIVER: Final = "overlayfs" if CONTAINERD_STORE else "overlay2"
"""As the engine names what it stores images by."""


def write_config(file: Path) -> None:
    """Write the daemon.json that chooses the store."""
    config: Mapping[str, object] = {"storage-driver": STORAGE_DRIVER}
    if CONTAINERD_STORE:
        config = {"features": {"containerd-snapshotter": True}}
    file.write_text(json.dumps(config))
