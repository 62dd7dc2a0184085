"""The names of the Engine API's ServiceSpec, from its documentation: 1.41, and what later versions added to it.

``*`` stands for names of the user's; a list holds the shape of its items; None is a value.
"""

from __future__ import annotations

from typing import Any

TEXTS: dict[str, Any] = {"*": None}
_FILE = {"Name": None, "UID": None, "GID": None, "Mode": None}

SERVICE_SPEC: dict[str, Any] = {
    "Name": None,
    "Labels": TEXTS,
    "TaskTemplate": {
        "ContainerSpec": {
            "Image": None,
            "Labels": TEXTS,
            "Command": None,
            "Args": None,
            "Hostname": None,
            "Env": None,
            "Dir": None,
            "User": None,
            "Groups": None,
            "Privileges": {
                "SELinuxContext": {"Disable": None, "User": None, "Role": None, "Type": None, "Level": None},
                "Seccomp": {"Mode": None},  # 1.44
                "AppArmor": {"Mode": None},  # 1.44
                "NoNewPrivileges": None,  # 1.44
            },
            "TTY": None,
            "OpenStdin": None,
            "ReadOnly": None,
            "Mounts": [
                {
                    "Target": None,
                    "Source": None,
                    "Type": None,
                    "ReadOnly": None,
                    "BindOptions": {"Propagation": None, "NonRecursive": None},
                    "VolumeOptions": {
                        "NoCopy": None,
                        "Labels": TEXTS,
                        "DriverConfig": {"Name": None, "Options": TEXTS},
                        "Subpath": None,  # 1.45
                    },
                    "TmpfsOptions": {"SizeBytes": None, "Mode": None, "Options": None},  # Options: 1.46
                }
            ],
            "StopSignal": None,
            "StopGracePeriod": None,
            "HealthCheck": {
                "Test": None,
                "Interval": None,
                "Timeout": None,
                "Retries": None,
                "StartPeriod": None,
                "StartInterval": None,  # 1.44
            },
            "Hosts": None,
            "DNSConfig": {"Nameservers": None, "Search": None, "Options": None},
            "Secrets": [{"File": _FILE, "SecretID": None, "SecretName": None}],
            "Configs": [{"File": _FILE, "ConfigID": None, "ConfigName": None}],
            "Init": None,
            "Sysctls": TEXTS,
            "CapabilityAdd": None,
            "CapabilityDrop": None,
            "Ulimits": [{"Name": None, "Soft": None, "Hard": None}],
            "OomScoreAdj": None,  # 1.46
        },
        "Resources": {
            "Limits": {"NanoCPUs": None, "MemoryBytes": None, "Pids": None},
            "Reservations": {
                "NanoCPUs": None,
                "MemoryBytes": None,
                "GenericResources": [{"DiscreteResourceSpec": {"Kind": None, "Value": None}}],
            },
            "SwapBytes": None,  # 1.52
            "MemorySwappiness": None,  # 1.52
        },
        "RestartPolicy": {"Condition": None, "Delay": None, "MaxAttempts": None, "Window": None},
        "Placement": {
            "Constraints": None,
            "Preferences": [{"Spread": {"SpreadDescriptor": None}}],
            "MaxReplicas": None,
            "Platforms": [{"Architecture": None, "OS": None}],
        },
        "ForceUpdate": None,
        "Networks": [{"Target": None, "Aliases": None, "DriverOpts": TEXTS}],
        "LogDriver": {"Name": None, "Options": TEXTS},
    },
    "Mode": {
        "Replicated": {"Replicas": None},
        "Global": {},
        "ReplicatedJob": {"MaxConcurrent": None, "TotalCompletions": None},
        "GlobalJob": {},
    },
    "EndpointSpec": {"Mode": None},
}


def strangers(body: Any, shape: Any, path: str = "") -> list[str]:
    """Return the paths of names that the API does not have."""
    if isinstance(shape, list):
        return [found for item in body for found in strangers(item, shape[0], f"{path}[]")]
    if not isinstance(shape, dict):
        return []
    if not isinstance(body, dict):
        return [f"{path} is no object"]
    if "*" in shape:
        return [f"{path}.{key} is no text" for key, held in body.items() if not isinstance(held, str)]
    unknown = [f"{path}.{key}" for key in body if key not in shape]
    known = (strangers(held, shape[key], f"{path}.{key}") for key, held in body.items() if key in shape)
    return [*unknown, *(found for each in known for found in each)]
