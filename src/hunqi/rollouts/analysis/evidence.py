"""How much a stretch of time speaks for "the new one is worse", as a bet that loses if it is not.

Given how many of all requests of a window were bad, the number that fell to the new revision has Fisher's noncentral
hypergeometric law, with the odds ratio of new to old as its only parameter. Each alternative stakes on its ratio
against the worst one that is still tolerated; what it has multiplies by the likelihood ratio of each window. If the new
one is not worse than tolerated, nobody can expect to gain (the ratio is monotone: the boundary is the worst case), and
by Ville's inequality the chance of *ever* having ``1 / a`` times the stake is at most ``a``, however often one looks.
Rates may drift: each window is compared within itself. Three quarters of the stake are set at once, the rest bit by bit
at later windows (together below one), so that a fault that begins late is found too.

Sources: J. Ville, Étude critique de la notion de collectif (1939); A. Ramdas et al., Game-theoretic statistics and safe
anytime-valid inference (2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ALTERNATIVES: Final = (2.0, 4.0, 8.0, 16.0, 64.0)
"""Odds ratios that are bet on, as multiples of the one that is tolerated."""
_AT_ONCE: Final = 0.75
_NEGLIGIBLE: Final = 1e-13


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Requests of one window, and how many of them were bad, for both revisions."""

    new: int
    new_bad: int
    old: int
    old_bad: int


def comparing(table: Table, null: float = 1.0) -> tuple[float, ...]:
    """Return for each alternative the log of the likelihood ratio of ``table`` against the odds ratio ``null``.

    All are 0 where the table says nothing: one side is empty, or all or none of the requests were bad.
    """
    bad = table.new_bad + table.old_bad
    low, high = max(0, bad - table.old), min(table.new, bad)
    if low >= high:
        return tuple(0.0 for _ in ALTERNATIVES)
    base = _log_sum(table.new, table.old, bad, null)
    return tuple(
        table.new_bad * math.log(times) - (_log_sum(table.new, table.old, bad, null * times) - base)
        for times in ALTERNATIVES
    )


def _log_sum(new: int, old: int, bad: int, odds: float) -> float:
    """Return log(sum over x of C(new, x) C(old, bad - x) odds^x).

    The terms are log-concave, so they are added from the greatest outwards until they no longer count: the work grows
    with the spread of the law, not with the number of requests.
    """
    low, high = max(0, bad - old), min(new, bad)
    mode = _mode(new, old, bad, odds)
    total = 1.0

    def ratio(x: int) -> float:
        return (new - x) * (bad - x) * odds / ((x + 1) * (old - bad + x + 1))

    term, at = 1.0, mode
    while at < high and term > _NEGLIGIBLE:
        term *= ratio(at)
        total += term
        at += 1
    term, at = 1.0, mode
    while at > low and term > _NEGLIGIBLE:
        at -= 1
        term /= ratio(at)
        total += term
    return _log_choose(new, mode) + _log_choose(old, bad - mode) + mode * math.log(odds) + math.log(total)


def _mode(new: int, old: int, bad: int, odds: float) -> int:
    """Return the most likely number (Liao and Rosen, 2001), within the law's support."""
    a, b, c = odds - 1, (new + bad + 2) * odds + old - bad, (new + 1) * (bad + 1) * odds
    root = c / b if abs(a) < 1e-12 else 2 * c / (b + math.sqrt(max(0.0, b * b - 4 * a * c)))
    low, high = max(0, bad - old), min(new, bad)
    return min(max(math.floor(root), low), high)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def exceeding(total: int, bad: int, null: float) -> tuple[float, ...]:
    """Return for each alternative the log of the likelihood ratio of ``bad`` of ``total`` against a share of ``null``.

    Alternatives are odds too; ``null`` is above 0 and below 1.
    """
    odds = null / (1 - null)
    return tuple(
        bad * math.log(times) - total * (math.log1p(odds * times) - math.log1p(odds)) for times in ALTERNATIVES
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the stakes have become: the log of each alternative's, and how many windows they were at risk in."""

    stakes: tuple[float, ...] = tuple(math.log(_AT_ONCE) for _ in ALTERNATIVES)
    windows: int = 0

    @property
    def log(self) -> float:
        """The log of all that is held, for a stake of 1."""
        unused = (1 - _AT_ONCE) / max(1, self.windows)
        return log_mean(self.stakes, plus=unused)

    def after(self, ratios: Sequence[float], *, temper: float = 1.0, cap: float = math.inf) -> Evidence:
        """Return what it is after a window with the log likelihood ``ratios``.

        ``temper`` (1 or more) divides them: how many requests, on average, share one cause of being bad. ``cap`` is the
        most that one window may add. Both only ever lower what is gained where requests fail one by one.
        """
        if not any(ratios):
            return self
        set_now = (1 - _AT_ONCE) / (self.windows * (self.windows + 1)) if self.windows else 0.0
        return Evidence(
            stakes=tuple(
                log_add(stake, set_now) + min(cap, ratio / temper)
                for stake, ratio in zip(self.stakes, ratios, strict=True)
            ),
            windows=self.windows + 1,
        )


def log_add(log_value: float, value: float) -> float:
    """Return log(exp(log_value) + value)."""
    if value <= 0:
        return log_value
    other = math.log(value)
    high, low = max(log_value, other), min(log_value, other)
    return high + math.log1p(math.exp(low - high))


def log_mean(logs: Sequence[float], *, plus: float = 0.0) -> float:
    """Return log(mean(exp(each)) + plus)."""
    high = max(logs)
    return log_add(high + math.log(math.fsum(math.exp(each - high) for each in logs) / len(logs)), plus)
