"""How much a service gets, where it runs, and how it is restarted, as the Engine API has it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from hunqi.apps.compose.report import show
from hunqi.apps.compose.section import Section
from hunqi.apps.model import Mode

_NANO: Final = 10**9
_DEFAULT_PERIOD: Final = 100_000
_CONSTRAINT = re.compile(
    r"(node\.(id|hostname|ip|role|platform\.(os|arch)|labels\.[\w.-]+)|engine\.labels\.[\w.-]+)\s*(==|!=)\s*\S.*"
)
_PLATFORM = re.compile(r"([a-z]+)/([a-z0-9_]+)(/[a-z0-9]+)?")
_ON_FAILURE = re.compile(r"on-failure(?::([0-9]{1,6}))?")
_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_RESTARTS: Final = {"no": "none", "always": "any", "unless-stopped": "any"}


def resources(section: Section) -> dict[str, Any]:
    """Return TaskTemplate.Resources."""
    deploy = section.section("deploy").section("resources")
    limits, reservations = deploy.section("limits"), deploy.section("reservations")
    memory = _one(section, "mem_limit", section.size_bytes("mem_limit"), limits.size_bytes("memory"))
    found: dict[str, Any] = {
        "Limits": {
            "NanoCPUs": _one(section, "cpus", _cpus(section), _nano(limits.number("cpus"))),
            "MemoryBytes": memory,
            "Pids": _one(section, "pids_limit", _pids(section, "pids_limit"), _pids(limits, "pids")),
        },
        "Reservations": {
            "NanoCPUs": _nano(reservations.number("cpus")),
            "MemoryBytes": _one(
                section, "mem_reservation", section.size_bytes("mem_reservation"), reservations.size_bytes("memory")
            ),
            "GenericResources": _generic(section, reservations),
        },
        "SwapBytes": _swap(section, memory),
        "MemorySwappiness": section.integer("mem_swappiness", high=100),
    }
    for key in ("Limits", "Reservations"):
        found[key] = {name: held for name, held in found[key].items() if held not in (None, [])}
    return {key: held for key, held in found.items() if held not in (None, {})}


def _one(section: Section, key: str, short: int | None, long: int | None) -> int | None:
    """Return what the key of the service or that below ``deploy`` says; they must not contradict."""
    if short is not None and long is not None and short != long:
        section.problem(key, "this and deploy.resources say different things: leave one of them out")
    return short if long is None else long


def _nano(value: Decimal | None) -> int | None:
    return None if value is None else int(value * _NANO)


def _cpus(section: Section) -> int | None:
    quota, period = section.integer("cpu_quota", low=-1), section.integer("cpu_period", low=1)
    if quota is None or quota <= 0:
        return _nano(section.number("cpus"))
    return _one(section, "cpu_quota", quota * _NANO // (period or _DEFAULT_PERIOD), _nano(section.number("cpus")))


def _pids(section: Section, key: str) -> int | None:
    value = section.integer(key, low=-1)
    return None if value == -1 else value


def _swap(section: Section, memory: int | None) -> int | None:
    text = section.text("memswap_limit")
    if text is None or text == "0":
        return None
    if text == "-1":
        return -1
    total = section.size_bytes("memswap_limit")
    if total is None:
        return None
    if memory is None or total < memory:
        section.problem("memswap_limit", "it is memory and swap together: set mem_limit, not larger than it")
        return None
    return total - memory


def _generic(section: Section, reservations: Section) -> list[dict[str, Any]]:
    found: dict[str, int] = {}
    for item in reservations.items("generic_resources"):
        discrete = item.section("discrete_resource_spec")
        kind, value = discrete.text("kind"), discrete.integer("value", low=1)
        if kind is None or value is None or not _KIND.fullmatch(kind):
            item.problem("discrete_resource_spec", "a kind and a value of 1 or more are expected")
        else:
            found[kind] = found.get(kind, 0) + value
    for source, key in ((section, "gpus"), (reservations, "devices")):
        for item in source.items(key):
            kind, value = _device(item)
            found[kind] = found.get(kind, 0) + value
    return [{"DiscreteResourceSpec": {"Kind": kind, "Value": value}} for kind, value in found.items()]


def _device(item: Section) -> tuple[str, int]:
    driver = item.text("driver") or "nvidia"
    if not _KIND.fullmatch(driver):
        item.problem("driver", f"{show(driver)} is no driver")
        driver = "nvidia"
    count = 1 if item.text("count") in {None, "all"} else item.integer("count", low=1, high=1024)
    kind, wanted = f"{driver.upper()}-GPU", max(count or 1, len(item.texts("device_ids")))
    item.report.changed(
        item.node, item.path, f"{wanted} of the generic resource {kind} is reserved: nodes offer it, or nothing fits"
    )
    return kind, wanted


def placement(section: Section) -> dict[str, Any]:
    """Return TaskTemplate.Placement."""
    deploy = section.section("deploy").section("placement")
    constraints = list(deploy.texts("constraints"))
    for text in constraints:
        if not _CONSTRAINT.fullmatch(text):
            deploy.problem("constraints", f"{show(text)} is no constraint; write node.labels.disk==ssd")
    spreads = [spread for item in deploy.items("preferences") if (spread := item.text("spread"))]
    found: dict[str, Any] = {
        "Constraints": constraints,
        "Preferences": [{"Spread": {"SpreadDescriptor": spread}} for spread in spreads],
        "MaxReplicas": deploy.integer("max_replicas_per_node"),
        "Platforms": _platforms(section),
    }
    return {key: held for key, held in found.items() if held not in (None, [])}


def _platforms(section: Section) -> list[dict[str, str]]:
    text = section.text("platform")
    if text is None:
        return []
    match = _PLATFORM.fullmatch(text)
    if match is None:
        section.problem("platform", f"{show(text)} is no platform; write linux/amd64")
        return []
    return [{"OS": match[1], "Architecture": match[2]}]


def restart_policy(section: Section, mode: Mode) -> dict[str, Any]:
    """Return TaskTemplate.RestartPolicy; without a word about it tasks are restarted, jobs only when they failed."""
    job = mode in {Mode.REPLICATED_JOB, Mode.GLOBAL_JOB}
    policy = section.section("deploy").section("restart_policy")
    if policy.entries:
        found: dict[str, Any] = {
            "Condition": policy.choice("condition", ("none", "on-failure", "any")),
            "Delay": policy.duration_ns("delay"),
            "MaxAttempts": policy.integer("max_attempts"),
            "Window": policy.duration_ns("window"),
        }
    else:
        found = _restart(section)
    if job and found.get("Condition") == "any":
        section.changed("restart" if "restart" in section else "deploy", "a job is restarted when it failed only")
        found["Condition"] = "on-failure"
    found["Condition"] = found.get("Condition") or ("on-failure" if job else "any")
    return {key: held for key, held in found.items() if held is not None}


def _restart(section: Section) -> dict[str, Any]:
    text = section.text("restart")
    if text is None:
        return {}
    if text in {"false", "no", ""}:
        return {"Condition": "none"}
    if (match := _ON_FAILURE.fullmatch(text)) is not None:
        return {"Condition": "on-failure", "MaxAttempts": int(match[1]) if match[1] else None}
    if text not in _RESTARTS:
        section.problem("restart", f"{show(text)} is none of no, always, on-failure, on-failure:3, unless-stopped")
        return {}
    return {"Condition": _RESTARTS[text]}


def log_driver(section: Section) -> dict[str, Any]:
    """Return TaskTemplate.LogDriver, empty for the engine's own."""
    logging = section.section("logging")
    driver = logging.text("driver")
    options = {name: value or "" for name, value in logging.pairs("options").items()}
    if driver is None and not options:
        return {}
    return {"Name": driver or "json-file", "Options": options}
