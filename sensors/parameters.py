"""The parameter catalogue: what is measured, in which unit, and the limits of sensor and water.

The data are in ``parameters.toml`` with the source of each column; this module reads them once and offers the same rows
as named objects and as columns for the vectorised checks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np

from infra import toml_text
from infra.errors import ConfigurationError
from infra.texts import say
from sensors.reading import Bools, Floats


@dataclass(frozen=True, slots=True)
class Parameter:
    """One row of the catalogue; values in the canonical ``unit``.

    ``instrument`` and ``plausible`` are closed ranges. ``step`` is the believable change between two samples,
    however close they are: the floor of what learns where it has none of its own. ``spike`` and ``shift`` are the
    smallest heights the learning tests look at, shares of the level where ``relative``; ``shift`` is infinite where
    a multiple of ``spike`` stands in for it. ``swing`` is the smallest daily swing that is a rhythm, ``near`` the
    smallest difference between the days of two neighbours that counts; infinite where neither is looked at.
    ``event`` names what a change indicates about the water, empty where nothing.
    """

    key: str
    zh: str
    en: str
    unit: str
    decimals: int
    instrument: tuple[float, float]
    plausible: tuple[float, float]
    step: float
    zero_is_dead: bool
    flat: bool
    flat_by_past: bool = False
    stuck: bool = False
    relative: bool = False
    optical: bool = False
    spike: float = 0.0
    shift: float = np.inf
    event: str = ""
    swing: float = float("inf")
    near: float = float("inf")
    code: str | None = None
    code_2005: str | None = None

    def show(self, value: float) -> str:
        """The value with the catalogue's decimals and its unit, as people read it."""
        number = f"{value:.{self.decimals}f}" if abs(value) < 1e12 else f"{value:g}"
        return self.with_unit(number)

    def with_unit(self, number: str) -> str:
        """A number, or a range, with the unit as people read it: nothing behind one without a dimension."""
        return number if self.unit == "1" else f"{number} {self.unit}"


class Catalogue:
    """All parameters in a fixed order; the position is the code used in a :class:`~sensors.reading.Batch`."""

    def __init__(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        self._hold(_parameter(key, row) for key, row in rows.items())

    @classmethod
    def of(cls, parameters: Iterable[Parameter]) -> Self:
        """A catalogue of these parameters."""
        made = cls({})
        made._hold(parameters)
        return made

    def _hold(self, parameters: Iterable[Parameter]) -> None:
        self.parameters: tuple[Parameter, ...] = tuple(parameters)
        self.index: dict[str, int] = {p.key: i for i, p in enumerate(self.parameters)}
        self.by_code: dict[str, Parameter] = {
            code: p for p in self.parameters for code in (p.code, p.code_2005) if code is not None
        }

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, key: str) -> Parameter:
        return self.parameters[self.index[key]]

    def __contains__(self, key: str) -> bool:
        return key in self.index

    def _column(self, name: str) -> Floats:
        return np.array([getattr(p, name) for p in self.parameters], np.float64)

    @cached_property
    def instrument(self) -> Floats:
        """(parameters, 2) closed instrument range."""
        return np.array([p.instrument for p in self.parameters], np.float64)

    @cached_property
    def plausible(self) -> Floats:
        """(parameters, 2) closed plausible range."""
        return np.array([p.plausible for p in self.parameters], np.float64)

    @cached_property
    def step(self) -> Floats:
        return self._column("step")

    @cached_property
    def zero_is_dead(self) -> Bools:
        return np.array([p.zero_is_dead for p in self.parameters], np.bool_)

    @cached_property
    def spike(self) -> Floats:
        return self._column("spike")

    @cached_property
    def shift(self) -> Floats:
        return self._column("shift")

    @cached_property
    def swing(self) -> Floats:
        return self._column("swing")

    @cached_property
    def near(self) -> Floats:
        return self._column("near")

    @cached_property
    def relative(self) -> Bools:
        return np.array([p.relative for p in self.parameters], np.bool_)

    @cached_property
    def optical(self) -> Bools:
        return np.array([p.optical for p in self.parameters], np.bool_)

    @cached_property
    def flat(self) -> Bools:
        return np.array([p.flat for p in self.parameters], np.bool_)

    @cached_property
    def flat_by_past(self) -> Bools:
        return np.array([p.flat_by_past for p in self.parameters], np.bool_)

    @cached_property
    def stuck(self) -> Bools:
        return np.array([p.stuck for p in self.parameters], np.bool_)


def _parameter(key: str, row: Mapping[str, Any]) -> Parameter:
    known = set(Parameter.__slots__) - {"key"}
    if unknown := set(row) - known:
        raise ConfigurationError(say("file.parameters", key=key, unknown=sorted(unknown)[0]))
    low, high = row["instrument"]
    relative = bool(row.get("relative", False))
    p_low, p_high = row.get("plausible", row["instrument"])
    return Parameter(
        key=key,
        zh=row["zh"],
        en=row["en"],
        unit=row["unit"],
        decimals=int(row["decimals"]),
        instrument=(float(low), float(high)),
        plausible=(float(p_low), float(p_high)),
        step=float(row["step"]),
        zero_is_dead=bool(row.get("zero_is_dead", False)),
        flat=bool(row["flat"]),
        flat_by_past=bool(row.get("flat_by_past", False)),
        stuck=bool(row.get("stuck", False)),
        relative=relative,
        optical=bool(row.get("optical", False)),
        spike=float(row.get("spike", 0.3 if relative else row["step"])),
        shift=float(row.get("shift", np.inf)),
        event=str(row.get("event", "")),
        swing=float(row.get("swing", "inf")),
        near=float(row.get("near", "inf")),
        code=row.get("code"),
        code_2005=row.get("code_2005"),
    )


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """The shipped catalogue (read once)."""
    return Catalogue(toml_text.shipped("sensors", "parameters.toml"))
