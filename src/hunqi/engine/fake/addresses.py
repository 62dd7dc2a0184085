"""Addresses of the fake's networks: the lowest that is free, given again when what had it has ended."""

from __future__ import annotations

import heapq
from ipaddress import IPv4Address, IPv4Network


class Addresses:
    """What is given on each network."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}
        self._returned: dict[str, list[int]] = {}

    def take(self, network_id: str, subnet: str) -> str:
        """Return a free address of the network."""
        returned = self._returned.setdefault(network_id, [])
        if returned:
            number = heapq.heappop(returned)
        else:
            number = self._next.get(network_id, 2)
            self._next[network_id] = number + 1
        return str(IPv4Network(subnet)[number])

    def give_back(self, network_id: str, subnet: str, address: str) -> None:
        """Take an address back."""
        number = int(IPv4Address(address)) - int(IPv4Network(subnet).network_address)
        heapq.heappush(self._returned.setdefault(network_id, []), number)
