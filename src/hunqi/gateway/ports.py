"""Published TCP and UDP ports: rules of iptables that lead a port of the machine to the sandbox.

Docker publishes http, https and ``/ready`` (``boxes``). A range of a hundred ports published that way would be two
hundred proxy processes; and what is published cannot be changed without making the sandbox anew. So ports of routes
are led there by a chain of our own, as Docker itself does it: one table each for addresses and for letting through,
replaced whole, and only for ports that some route has.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection, Sequence
from typing import ClassVar, Final

from hunqi.apps.model import Protocol
from hunqi.errors import DependencyError
from hunqi.gateway.model import RouteTable

CHAIN: Final = "HUNQI-GATEWAY"
_RUN_S: Final = 15.0
_LOCK_S: Final = "5"
_JUMPS: Final = (
    ("nat", "PREROUTING", ("-m", "addrtype", "--dst-type", "LOCAL")),
    ("nat", "OUTPUT", ("!", "-d", "127.0.0.0/8", "-m", "addrtype", "--dst-type", "LOCAL")),
    ("filter", "DOCKER-USER", ()),
)

Port = tuple[str, int]
"""``tcp`` or ``udp``, and the number."""


class PortsFailedError(DependencyError):
    """The rules could not be set."""

    code: ClassVar[str] = "gateway.ports-failed"


def wanted_ports(table: RouteTable) -> frozenset[Port]:
    """Return the ports that routes of ``table`` have, without those of names (https)."""
    first, last = table.edge.tcp_ports
    return frozenset(
        ("udp" if route.spec.protocol is Protocol.UDP else "tcp", route.spec.tcp_port)
        for route in table.routes
        if route.spec.tcp_port is not None and not route.spec.hosts and first <= route.spec.tcp_port <= last
    )


def render_rules(ports: Collection[Port], address: str) -> str:
    """Return the input of ``iptables-restore --noflush`` that replaces our chains. Raises ``ValueError``."""
    sandbox = ipaddress.IPv4Address(address)
    nat = [
        f"-A {CHAIN} -p {kind} -m {kind} --dport {int(port)} -j DNAT --to-destination {sandbox}:{int(port)}"
        for kind, port in sorted(ports)
    ]
    through = [
        f"-A {CHAIN} -d {sandbox}/32 -p {kind} -m {kind} --dport {int(port)} -j ACCEPT" for kind, port in sorted(ports)
    ]
    tables = (("nat", nat), ("filter", through))
    return "".join(
        f"*{name}\n:{CHAIN} - [0:0]\n" + "".join(f"{rule}\n" for rule in rules) + "COMMIT\n" for name, rules in tables
    )


class Ports:
    """The rules of one machine. They stay when the agent goes."""

    def __init__(self, enter: Sequence[str] = ()) -> None:
        """``enter`` is put before each command: what runs it on the machine, where that is not here."""
        self._enter = tuple(enter)
        self._set: tuple[frozenset[Port], str] | None = None

    async def keep(self, ports: frozenset[Port], address: str) -> None:
        """Have exactly ``ports`` led to ``address``. Does nothing when that was so last time.

        Raises ``PortsFailedError``.
        """
        if self._set == (ports, address):
            return
        if self._set is None and not ports and not await self._exists():
            self._set = (ports, address)
            return
        await self._run(["iptables-restore", "--noflush", "-w", _LOCK_S], render_rules(ports, address))
        for table, chain, match in _JUMPS:
            rule = [chain, *match, "-j", CHAIN]
            if await self._status(["iptables", "-w", _LOCK_S, "-t", table, "-C", *rule]):
                await self._run(["iptables", "-w", _LOCK_S, "-t", table, "-I", *rule])
        self._set = (ports, address)

    def forget(self) -> None:
        """Set the rules anew next time: somebody may have removed them."""
        self._set = None

    async def _exists(self) -> bool:
        return await self._status(["iptables", "-w", _LOCK_S, "-t", "nat", "-S", CHAIN]) == 0

    async def _run(self, command: Sequence[str], text: str = "") -> None:
        status, said = await self._execute(command, text)
        if status:
            raise PortsFailedError(
                f"the published ports are not led to the gateway: {command[0]}: {said.strip()[:300]}"
            )

    async def _status(self, command: Sequence[str]) -> int:
        return (await self._execute(command, ""))[0]

    async def _execute(self, command: Sequence[str], text: str) -> tuple[int, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._enter,
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            raise PortsFailedError(
                f"the published ports are not led to the gateway: {command[0]}: {error.strerror}"
            ) from error
        try:
            async with asyncio.timeout(_RUN_S):
                said, _ = await process.communicate(text.encode())
        except TimeoutError as error:
            raise PortsFailedError(f"{command[0]} did not end within {_RUN_S:.0f} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, said.decode(errors="replace")
