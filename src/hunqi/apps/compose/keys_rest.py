"""The keys outside of services."""

from __future__ import annotations

from typing import Final

from hunqi.apps.compose.keys import Key, table

_TOP: Final = """
+ version  has no meaning any more, as the specification says
~ name  the app has the name it is deployed under
+ include  a project of its own, with its own directory and variables
+ include.path  a file of the project, or several that are merged
+ include.project_directory  what its paths are relative to
+ include.env_file  variables for its templates
+ services  see below
- models*  Hunqi runs no models
+ networks  an overlay each; services without any are on `default`
+ volumes  made on the node where a task first needs them
+ secrets  Swarm secrets, versioned by their content
+ configs  Swarm configs, versioned by their content
+ x-hunqi*  see the page of x-hunqi
"""

_NETWORK: Final = """
+ name  a network of this name that apps share; a privilege
~ driver  always overlay
+ driver_opts*  Options; `encrypted` encrypts the traffic between nodes
- ipam.driver  the engine's own
+ ipam.config.subnet  IPAM.Config.Subnet
- ipam.config.ip_range  Swarm gives the addresses
- ipam.config.gateway  Swarm gives the addresses
- ipam.config.aux_addresses*  Swarm gives the addresses
- ipam.options*  the engine's own
+ external  one that exists; a privilege
+ internal  no way out
~ enable_ipv4  always: overlays of Swarm have IPv4
- enable_ipv6  overlays of Swarm have IPv4 only
~ attachable  always: the gateways join
+ labels*  labels of the network
"""

_VOLUME: Final = """
~ name  of an external one; others are named after the app, so that no app reaches another's data
+ driver  VolumeOptions.DriverConfig.Name
+ driver_opts*  VolumeOptions.DriverConfig.Options
+ external  one that exists; a privilege
+ labels*  labels of the volume
"""

_KEPT: Final = """
~ name  the name of an external one; others are named after the app and their content
+ environment  a variable of the project
+ file  a file of the project
+ external  one that is there: kept by `hunqi secret`, or a Swarm secret
- labels*  versioned secrets carry Hunqi's labels only
! driver  secrets from drivers are not taken; use file, environment or external
! driver_opts*  secrets from drivers are not taken; use file, environment or external
+ template_driver  golang
"""

_CONFIG: Final = """
~ name  the name of an external one; others are named after the app and their content
+ content  the text, variables replaced
+ environment  a variable of the project
+ file  a file of the project
+ external  a Swarm config that is there
- labels*  versioned configs carry Hunqi's labels only
+ template_driver  golang
"""

REST_KEYS: Final[tuple[Key, ...]] = (
    *table("", _TOP),
    *table("networks.*.", _NETWORK),
    *table("volumes.*.", _VOLUME),
    *table("secrets.*.", _KEPT),
    *table("configs.*.", _CONFIG),
)
