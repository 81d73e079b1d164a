"""Where our quality tests are those of QARTOD, they agree with its reference implementation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensors.parameters import catalogue
from sensors.quality import SeriesState, check_quality
from sensors.reading import Flag, QualityTest

CATALOGUE = catalogue()
START, STEP = 1_778_581_800_000, 900_000
values = st.lists(st.floats(-5, 30, allow_nan=False).map(lambda x: round(x, 2)), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def qartod() -> Any:
    return pytest.importorskip("ioos_qc.qartod")  # pandas comes with it


def told(key: str, series: list[float]) -> tuple[np.ndarray, np.ndarray]:
    n, p = len(series), CATALOGUE.index[key]
    memory = SeriesState.of(np.zeros(1, np.int32), np.array([p], np.int32))
    at = START + STEP * np.arange(n)
    letters = np.full(n, ord("N"), np.uint8)
    verdict = check_quality(np.zeros(n, int), np.full(n, p), at, np.array(series), letters, memory, CATALOGUE)
    return verdict.flag, verdict.tests


@given(values)
@settings(max_examples=75, deadline=None)
def test_the_range_tests_agree_with_qartods_gross_range(qartod: Any, series: list[float]) -> None:
    do = CATALOGUE["do"]
    theirs = qartod.gross_range_test(np.array(series), fail_span=do.instrument, suspect_span=do.plausible)
    _, tests = told("do", series)
    ours = np.where(
        tests & QualityTest.INSTRUMENT_RANGE, Flag.BAD, np.where(tests & QualityTest.PLAUSIBLE_RANGE, Flag.SUSPECT, 1)
    )
    assert ours.tolist() == theirs.tolist()


@given(st.lists(st.tuples(st.sampled_from([7.0, 7.5, 8.0]), st.integers(1, 120)), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_the_flat_line_of_a_new_series_agrees_with_qartods(qartod: Any, runs: list[tuple[float, int]]) -> None:
    """Twelve hours without any change: QARTOD with no tolerance."""
    series = [value for value, n in runs for _ in range(n)]
    at = (START + STEP * np.arange(len(series))).astype("datetime64[ms]")
    theirs = qartod.flat_line_test(
        np.array(series), at, suspect_threshold=12 * 3600, fail_threshold=10**9, tolerance=1e-9
    )
    _, tests = told("do", series)
    day = np.arange(len(series)) * STEP < 86_400_000 - START % 86_400_000  # from the second day on it has a past
    ours = (tests & QualityTest.FLAT_LINE) != 0
    assert ours[day].tolist() == (theirs == 3)[day].tolist()
