"""What a container is told: a service's keys as the Engine API's ContainerSpec."""

from __future__ import annotations

import ipaddress
import re
import shlex
from typing import Any, Final

from hunqi.apps.compose.keys import NEEDS_44
from hunqi.apps.compose.names import is_alias
from hunqi.apps.compose.paths import absolute
from hunqi.apps.compose.report import show
from hunqi.apps.compose.section import Section
from hunqi.apps.compose.source import Files, Variables
from hunqi.apps.swarm import literal
from hunqi.engine.model import LABEL_PREFIX

_MIN_CHECK_NS: Final = 10**6
_CAPABILITY = re.compile(r"(CAP_)?[A-Z][A-Z0-9_]*")
_VARIABLE = re.compile(r"[^=\x00]+")
_ULIMITS: Final = re.compile(
    "core|cpu|data|fsize|locks|memlock|msgqueue|nice|nofile|nproc|rss|rtprio|rttime|sigpending|stack"
)
_SELINUX: Final = {"user": "User", "role": "Role", "type": "Type", "level": "Level"}


def container_spec(section: Section, files: Files, variables: Variables) -> dict[str, Any]:
    """Return the ContainerSpec of a service, without image, mounts, grants and how it is stopped."""
    found: dict[str, Any] = {
        "Command": _command(section, "entrypoint"),
        "Args": _command(section, "command"),
        "Env": _environment(section, files, variables),
        "Labels": _labels(section, files, variables),
        "Dir": _directory(section),
        "User": section.text("user"),
        "Groups": list(section.texts("group_add")),
        "Hostname": _hostname(section),
        "HealthCheck": _healthcheck(section.section("healthcheck")) if "healthcheck" in section else None,
        "Hosts": _hosts(section),
        "DNSConfig": _dns(section),
        "Init": section.boolean("init"),
        "ReadOnly": section.boolean("read_only"),
        "TTY": section.boolean("tty"),
        "OpenStdin": section.boolean("stdin_open"),
        "Sysctls": _sysctls(section),
        "CapabilityAdd": _capabilities(section, "cap_add"),
        "CapabilityDrop": _capabilities(section, "cap_drop"),
        "Ulimits": _ulimits(section.section("ulimits")),
        "Privileges": _privileges(section),
        "OomScoreAdj": section.integer("oom_score_adj", low=-1000, high=1000),
    }
    return {key: held for key, held in found.items() if held not in (None, [], {}, ())}


def _command(section: Section, key: str) -> list[str] | None:
    node = section.get(key)
    if node is None:
        return None
    if node.sequence is not None:
        words = list(section.texts(key))
    else:
        try:
            words = shlex.split(section.text(key) or "")
        except ValueError as error:
            section.problem(key, f"this cannot be split into words: {error}")
            return None
    if not words:
        section.changed(key, "Swarm cannot clear it: the image's own is run")
    return words


def _environment(section: Section, files: Files, variables: Variables) -> list[str]:
    found: dict[str, str | None] = {}
    for item in section.items("env_file"):
        path = item.text("path")
        if not path:
            continue
        required = item.boolean("required") is not False
        raw = item.choice("format", ("raw",)) == "raw"
        text = files.text(path, item.node, item.path, required=required)
        if text is not None:
            values = variables.read(text, path, item.node, item.path, raw=raw)
            found |= {name: _inherited(name, value, variables) for name, value in values.items()}
    for name, value in section.pairs("environment").items():
        if not _VARIABLE.fullmatch(name):
            section.problem("environment", f"{show(name)} is no name of a variable")
        found[name] = _inherited(name, value, variables)
    for name, value in found.items():
        if value is not None and "\x00" in value:
            section.problem("environment", f"the variable {show(name)} has a zero byte in it")
    return [f"{name}={literal(value)}" for name, value in sorted(found.items()) if value is not None]


def _inherited(name: str, value: str | None, variables: Variables) -> str | None:
    """Return a value; one that is not written is the project's variable of the name, and unset without one."""
    return variables.lookup(name) if value is None else value


def _labels(section: Section, files: Files, variables: Variables) -> dict[str, str]:
    found: dict[str, str | None] = {}
    for path in filter(None, section.texts("label_file")):
        text = files.text(path, section.node, section.below("label_file"))
        if text is not None:
            found |= variables.read(text, path, section.node, section.below("label_file"))
    found |= section.pairs("labels")
    return user_labels(section, "labels", found)


def user_labels(section: Section, key: str, found: dict[str, str | None]) -> dict[str, str]:
    """Return labels that a user gives; ours are a problem."""
    for name in found:
        if name.startswith(LABEL_PREFIX):
            section.problem(key, f"labels below {LABEL_PREFIX} are Hunqi's own: rename {show(name)}")
    return {name: value or "" for name, value in sorted(found.items())}


def _directory(section: Section) -> str | None:
    text = section.text("working_dir")
    if text is not None and not absolute(text):
        section.problem("working_dir", f"{show(text)} is no absolute path in the container")
        return None
    return text


def _hostname(section: Section) -> str | None:
    text = section.text("hostname")
    if text is None or is_alias(re.sub(r"\{\{[^{}]*\}\}", "x", text)):
        return None if text is None else literal(text)
    section.problem("hostname", f"{show(text)} is no host name")
    return None


def _healthcheck(check: Section) -> dict[str, Any]:
    if check.boolean("disable"):
        return {"Test": ["NONE"]}
    found: dict[str, Any] = {"Test": _test(check)}
    for key, name in (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start_period", "StartPeriod"),
        ("start_interval", "StartInterval"),
    ):
        value = check.duration_ns(key)
        if value is not None and 0 < value < _MIN_CHECK_NS:
            check.problem(key, "a healthcheck's times are a millisecond or more")
        found[name] = value
    found["Retries"] = check.integer("retries", high=1_000_000)
    return {key: held for key, held in found.items() if held is not None}


def _test(check: Section) -> list[str] | None:
    node = check.get("test")
    if node is None:
        return None
    if node.sequence is None:
        text = check.text("test")
        return ["CMD-SHELL", text] if text else None
    words = list(check.texts("test"))
    if not words or words[0] not in {"NONE", "CMD", "CMD-SHELL"} or (words[0] != "NONE" and len(words) < 2):
        check.problem("test", "the list begins with NONE, CMD or CMD-SHELL, and the command follows")
        return None
    return words


def _hosts(section: Section) -> list[str]:
    found: list[str] = []
    for name, node in section.section("extra_hosts").entries.items():
        for item in node.sequence or ():
            address = (item.text or "").strip("[]")
            if not is_alias(name) or not (address == "host-gateway" or _is_address(address)):
                section.problem("extra_hosts", f"{show(name)}: a host name and an address are expected")
            else:
                found.append(f"{address} {name}")
    return found


def _dns(section: Section) -> dict[str, list[str]]:
    servers = section.texts("dns")
    for server in servers:
        if not _is_address(server):
            section.problem("dns", f"{show(server)} is no address")
    found = {"Nameservers": servers, "Search": section.texts("dns_search"), "Options": section.texts("dns_opt")}
    return {key: list(held) for key, held in found.items() if held}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _sysctls(section: Section) -> dict[str, str]:
    found = {name: value or "" for name, value in section.pairs("sysctls").items()}
    for name in found:
        section.report.privilege(section.entries["sysctls"], section.below("sysctls"), f"sets {name} in its namespaces")
    return found


def _capabilities(section: Section, key: str) -> list[str]:
    found: list[str] = []
    for text in section.texts(key):
        name = text.upper()
        if not _CAPABILITY.fullmatch(name):
            section.problem(key, f"{show(text)} is no capability")
            continue
        found.append(name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}")
        if key == "cap_add":
            section.report.privilege(section.entries[key], section.below(key), f"has the capability {found[-1]}")
    return found


def _ulimits(section: Section) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, node in section.entries.items():
        if not _ULIMITS.fullmatch(name):
            section.problem(name, f"{show(name)} is none of {_ULIMITS.pattern.replace('|', ', ')}")
            continue
        if node.mapping is not None:
            limits = section.section(name)
            soft, hard = (limits.integer(key, low=-1) for key in ("soft", "hard"))
        else:
            soft = hard = section.integer(name, low=-1)
        if soft is None or hard is None:
            section.problem(name, "a number, or soft and hard, is expected")
        else:
            found.append({"Name": name, "Soft": soft, "Hard": hard})
    return found


def _privileges(section: Section) -> dict[str, Any]:
    found: dict[str, Any] = {}
    selinux: dict[str, Any] = {}
    for option in section.texts("security_opt"):
        name, _, value = option.replace("=", ":", 1).partition(":")
        match name:
            case "no-new-privileges" if value in {"", "true"}:
                found["NoNewPrivileges"] = True
                section.changed("security_opt", f"no-new-privileges {NEEDS_44}")
            case "seccomp" if value == "unconfined":
                found["Seccomp"] = {"Mode": "unconfined"}
                section.changed("security_opt", f"seccomp {NEEDS_44}")
            case "apparmor" if value == "unconfined":
                found["AppArmor"] = {"Mode": "disabled"}
                section.changed("security_opt", f"apparmor {NEEDS_44}")
            case "label" if value == "disable":
                selinux["Disable"] = True
            case "label" if value.partition(":")[0] in _SELINUX:
                key, _, held = value.partition(":")
                selinux[_SELINUX[key]] = held
            case _:
                section.ignored("security_opt", f"Swarm has no {show(option)}")
    if {"Seccomp", "AppArmor"} & found.keys() or selinux.get("Disable"):
        section.report.privilege(
            section.entries["security_opt"], section.below("security_opt"), "runs without a confinement of the kernel's"
        )
    if selinux:
        found["SELinuxContext"] = {"Disable": False, **selinux}
    return found
