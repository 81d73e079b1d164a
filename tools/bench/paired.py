"""Compare candidates in alternating runs and tell a change from noise.

A figure alone depends on what else the machine does; the ratio of two runs that follow each other depends on it much
less. So candidates take turns, each round in another order, and a ratio is stated with the interval that its rounds
support.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")

CONFIDENCE = 0.95
DRAWS = 2000
"""Resamples of the bootstrap: the ends of the interval move by less than a percent from one seed to another."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of paired ratios, with a bootstrap interval of ``CONFIDENCE`` around it."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def changed(self) -> bool:
        """Whether the interval leaves out 1: the two differ by more than the rounds do among themselves."""
        return not self.low <= 1.0 <= self.high

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def alternate(candidates: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """The results of each candidate, ``rounds`` of them; every round begins with another candidate."""
    names = list(candidates)
    found: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(candidates[name]())
    return found


def ratio(figures: Sequence[float], baseline: Sequence[float], seed: int = 1) -> Ratio:
    """How ``figures`` compare with the ``baseline`` of the same rounds."""
    pairs = [a / b for a, b in zip(figures, baseline, strict=True)]
    rng = random.Random(seed)
    medians = sorted(median(rng.choices(pairs, k=len(pairs))) for _ in range(DRAWS))
    outside = (1 - CONFIDENCE) / 2
    low, high = medians[int(DRAWS * outside)], medians[int(DRAWS * (1 - outside)) - 1]
    return Ratio(median(pairs), low, high, len(pairs))


def lost(measure: Callable[[], float], stated: float, tolerance: float = 1 / 3, repeats: int = 3) -> bool:
    """Whether a ratio has been lost grossly: each of ``repeats`` measurements is below ``tolerance`` of the stated one.

    One measurement that is not ends it: a busy machine spoils some runs, a regression spoils all of them.
    """
    return all(measure() < stated * tolerance for _ in range(repeats))
