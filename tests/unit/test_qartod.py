"""Where our quality tests are those of QARTOD, they agree with its reference implementation.

``tests/data/README.md`` tells where its answers come from.
"""

import json
from pathlib import Path

import numpy as np

from sensors.parameters import catalogue
from sensors.quality import SeriesReadings, SeriesState, check_quality
from sensors.reading import Flag, QualityTest

CATALOGUE = catalogue()
RECORDS = json.loads(Path("tests/data/qartod.json").read_text())
START, STEP = RECORDS["flat_line"]["start_ms"], RECORDS["flat_line"]["step_ms"]


def told(key: str, series: list[float]) -> tuple[np.ndarray, np.ndarray]:
    n, p = len(series), CATALOGUE.index[key]
    memory = SeriesState.of(np.zeros(1, np.int32), np.array([p], np.int32))
    at = START + STEP * np.arange(n)
    letters = np.full(n, ord("N"), np.uint8)
    verdict = check_quality(
        SeriesReadings(np.zeros(n, int), np.full(n, p), at, np.array(series), letters), memory, CATALOGUE
    )
    return verdict.flag, verdict.tests


def test_the_range_tests_agree_with_qartods_gross_range() -> None:
    do, theirs = CATALOGUE["do"], RECORDS["gross_range"]
    assert [list(do.instrument), list(do.plausible)] == [theirs["fail_span"], theirs["suspect_span"]]
    for case in theirs["cases"]:
        _, tests = told("do", case["values"])
        ours = np.where(
            tests & QualityTest.INSTRUMENT_RANGE,
            Flag.BAD,
            np.where(tests & QualityTest.PLAUSIBLE_RANGE, Flag.SUSPECT, 1),
        )
        assert "".join(map(str, ours.tolist())) == case["flags"], case["values"]


def test_the_flat_line_of_a_new_series_agrees_with_qartods() -> None:
    """Twelve hours without any change: QARTOD with no tolerance."""
    theirs = RECORDS["flat_line"]
    assert theirs["suspect_threshold"] == 12 * 3600
    for case in theirs["cases"]:
        series = [value for value, n in case["runs"] for _ in range(n)]
        _, tests = told("do", series)
        day = np.arange(len(series)) * STEP < 86_400_000 - START % 86_400_000  # from the second day on it has a past
        ours = (tests & QualityTest.FLAT_LINE) != 0
        suspect = np.array([flag == "3" for flag in case["flags"]])
        assert ours[day].tolist() == suspect[day].tolist(), case["runs"]
