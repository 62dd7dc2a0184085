"""An app under load while something is done to it: what failed, how late answers were, what its tasks told."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from testbed.collector import Collector, collector
from testbed.load import Load, Report, load
from testbed.product import Product, shop

RATE: float = 300.0
_SETTLE_S: float = 2.0


@dataclass(slots=True, kw_only=True)
class Watched:
    """Where the app is, and, once the block has ended, what the load found."""

    product: Product
    app: str
    told: Collector
    compose: Mapping[str, str]
    begun: float = 0.0
    """When the acts began (``time.monotonic``); what was sent before is the time at rest."""
    ended: float = 0.0
    report: Report | None = None

    @property
    def found(self) -> Report:
        """The whole report."""
        if self.report is None:
            raise RuntimeError("the load has not ended")
        return self.report

    @property
    def rest(self) -> Report:
        """The part before the acts."""
        return self.found.between(0.0, self.begun)

    @property
    def acts(self) -> Report:
        """The part from the first act on."""
        return self.found.between(self.begun, float("inf"))

    def duplicates(self) -> list[str]:
        """Return the POSTs that came more than once, whoever got them."""
        return sorted({*self.found.duplicates, *self.told.duplicates()})

    def failed(self) -> int:
        """Return how many requests of all failed, and POSTs came twice."""
        return len(self.found.failures) + len(self.duplicates())

    def figures(self) -> str:
        """Return what a row's figures say, with the first failures."""
        posts = [found.id for found in self.found.outcomes if found.method == "POST" and found.ok]
        untold = len(self.told.missing(posts))
        text = f"{self.found.summary()}; {len(self.duplicates())} of {len(posts):,} POSTs came twice"
        text += f" ({untold} not told of)" if untold else ""
        return text + (f"; first: {' · '.join(self.found.listed(3).splitlines())}" if self.found.failures else "")


@contextmanager
def watched(
    product: Product,
    name: str,
    *,
    env: Mapping[str, str] | None = None,
    drain: str = "15s",
    websockets: int = 0,
    rest_s: float = 20.0,
    targets: tuple[tuple[str, int], ...] | None = None,
    timeout_s: float = 10.0,
    keep: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> Generator[Watched]:
    """Deploy an app of three replicas, put it under load for ``rest_s``, then run the block, still under load.

    The app is removed afterwards unless it is to be kept; the load's report is there when the block has ended.
    """
    with collector(product.bed.gateway) as told:
        own = {"COLLECT": told.address, **(env or {})}
        say(f"{name}: first deploy")
        product.deploy(name, shop(host=f"{name}.test", env=own, drain=drain))
        watching = Watched(product=product, app=name, told=told, compose=own)
        spec = Load(
            targets=targets or product.gateways,
            host=f"{name}.test",
            rate=RATE,
            duration_s=7200.0,
            posts=0.1,
            websockets=websockets,
            timeout_s=timeout_s,
        )
        try:
            time.sleep(_SETTLE_S)
            with load(spec) as running:
                say(f"{name}: at rest")
                time.sleep(rest_s)
                watching.begun = time.monotonic()
                yield watching
                watching.ended = time.monotonic()
                time.sleep(_SETTLE_S)
                watching.report = running.stop()
        finally:
            if not keep:
                product.remove(name)
