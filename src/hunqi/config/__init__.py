"""The only reader of configuration files and of the environment.

Three layers, the later one stronger: the file (``--config``, ``HUNQI_CONFIG`` or ``/etc/hunqi/hunqi.toml`` when it
exists), the environment (``HUNQI_MIRROR_…``, ``DOCKER_IO=URL`` and the like, the proxy variables), flags. All faults
come in one report.
"""

from hunqi.config.faults import ConfigError, Fault
from hunqi.config.layers import FlagValue, Inputs, process_inputs
from hunqi.config.load import Places, load_mirror_settings, load_places

__all__ = [
    "ConfigError",
    "Fault",
    "FlagValue",
    "Inputs",
    "Places",
    "load_mirror_settings",
    "load_places",
    "process_inputs",
]
