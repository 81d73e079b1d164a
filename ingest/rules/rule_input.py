"""Which readings rules may use, by their quality flag and tests. Pure."""

from dataclasses import dataclass

import numpy as np

from ingest.rules.condition import Condition
from sensors.reading import Bools, Flag, Floats, Ints, QualityTest

_EXTREME_VALUE_TESTS = int(QualityTest.PLAUSIBLE_RANGE | QualityTest.OVER_RANGE)
_AMBIGUOUS_TESTS = int(QualityTest.CROSS_CHECK | QualityTest.ATTENUATED | QualityTest.NEIGHBOURS | QualityTest.BURST)
"""Tests that do not say which of several readings is wrong, or whether the sensor or the water here is the cause."""


def usable(packed: Ints) -> Bools:
    """(n,) true for readings that rules may use.

    ``packed`` are (n,) flags and tests (:func:`sensors.reading.pack`). Suspect and bad readings are not usable, except
    values that are suspect only for being extreme or at the end of the instrument's range: acid of pH 2 is implausible
    and true.
    """
    flag, tests = packed & 15, packed >> 4
    extreme = (flag == Flag.SUSPECT) & (tests != 0) & ((tests & ~_EXTREME_VALUE_TESTS) == 0)
    return np.asarray((flag < Flag.SUSPECT) | extreme)


def doubtful(packed: Ints) -> Bools:
    """(n,) true for readings that are suspect only by comparison with other sensors or other days (decision 0008).

    Such a reading may begin and sustain a condition, and never ends one: it counts only where it exceeds the limit.
    """
    tests = packed >> 4
    ambiguous = (tests & _AMBIGUOUS_TESTS != 0) & (tests & ~(_EXTREME_VALUE_TESTS | _AMBIGUOUS_TESTS) == 0)
    return np.asarray(((packed & 15) == Flag.SUSPECT) & ambiguous)


@dataclass(frozen=True, slots=True)
class RuleInput:
    """The usable and doubted readings of one series, oldest first; (n,) each, canonical unit."""

    at: Ints
    value: Floats
    doubted: Bools

    @classmethod
    def of(cls, at: Ints, value: Floats, packed: Ints) -> "RuleInput":
        doubted = doubtful(packed)
        rows = usable(packed) | doubted
        return cls(at[rows], value[rows], doubted[rows])

    def trusted(self) -> tuple[Ints, Floats]:
        """(at, value) without the doubted readings; derived values rest on these."""
        return self.at[~self.doubted], self.value[~self.doubted]

    def samples(self, condition: Condition) -> list[tuple[int, float]]:
        """(ms, value) of the readings that count for a condition."""
        columns = zip(self.at.tolist(), self.value.tolist(), self.doubted.tolist(), strict=True)
        return [(at, value) for at, value, doubted in columns if not doubted or condition.exceeds(value)]

    def doubted_at(self) -> frozenset[int]:
        """The instants (ms) of the doubted readings."""
        return frozenset(self.at[self.doubted].tolist())
