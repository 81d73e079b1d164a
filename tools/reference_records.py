"""Record the answers of ioos_qc and pymannkendall, which the tests compare ours with, in ``tests/data/``.

Needs both packages, which nothing else does::

    pip install ioos-qc==3.0.0 pymannkendall==1.4.3
    python tools/reference_records.py
"""

import json
import random
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from sensors.parameters import catalogue

FOLDER = Path(__file__).parents[1] / "tests" / "data"
SEED = 20_260_501
START_MS, STEP_MS = 1_778_581_800_000, 900_000


def main() -> None:
    drawn = random.Random(SEED)
    qartod = {
        "package": "ioos-qc",
        "version": metadata.version("ioos-qc"),
        "gross_range": gross_range(drawn),
        "flat_line": flat_line(drawn),
    }
    trends = {
        "package": "pymannkendall",
        "version": metadata.version("pymannkendall"),
        "original": original(drawn),
        "seasonal": seasonal(drawn),
    }
    for name, records in (("qartod.json", qartod), ("mann_kendall.json", trends)):
        (FOLDER / name).write_text(json.dumps(records).replace("}, {", "},\n{") + "\n")


def gross_range(drawn: random.Random) -> dict[str, Any]:
    """Flags of dissolved oxygen; among the values are both ends of both spans and their neighbours."""
    qartod = import_module("ioos_qc.qartod")
    do = catalogue()["do"]
    edges = [round(edge + step, 2) for edge in (*do.instrument, *do.plausible) for step in (-0.01, 0, 0.01)]
    cases = []
    for i in range(75):
        series = edges if i == 0 else [round(drawn.uniform(-5, 30), 2) for _ in range(drawn.randint(1, 60))]
        found = qartod.gross_range_test(np.array(series), fail_span=do.instrument, suspect_span=do.plausible)
        cases.append({"values": series, "flags": "".join(map(str, found.tolist()))})
    return {"fail_span": list(do.instrument), "suspect_span": list(do.plausible), "cases": cases}


def flat_line(drawn: random.Random) -> dict[str, Any]:
    """Flags of series of runs ``[value, readings]``, one reading in 15 minutes; some begin at 12 hours."""
    qartod = import_module("ioos_qc.qartod")
    asked = {"suspect_threshold": 12 * 3600, "fail_threshold": 10**9, "tolerance": 1e-9}
    cases = []
    for length in [*range(45, 52), 1, 120, *[0] * 41]:
        runs = [[drawn.choice([7.0, 7.5, 8.0]), drawn.randint(1, 120)] for _ in range(drawn.randint(1, 6))]
        runs[0][1] = length or runs[0][1]
        series = np.array([value for value, n in runs for _ in range(n)])
        at = (START_MS + STEP_MS * np.arange(len(series))).astype("datetime64[ms]")
        cases.append({"runs": runs, "flags": "".join(map(str, qartod.flat_line_test(series, at, **asked).tolist()))})
    return {"start_ms": START_MS, "step_ms": STEP_MS, **asked, "cases": cases}


def original(drawn: random.Random) -> list[dict[str, Any]]:
    """p of the Mann-Kendall test; two thirds of the values are ties."""
    test = import_module("pymannkendall").original_test
    cases = [[0.0] * 4, [1.0, 0.0, 1.0, 0.0], [float(i) for i in range(20)]]
    for _ in range(97):
        n = drawn.randint(4, 20)
        cases.append([drawn.choice([0.0, 1.0, round(drawn.uniform(-5, 5), 3)]) for _ in range(n)])
    return [{"values": values, "p": float(test(values).p)} for values in cases]


def seasonal(drawn: random.Random) -> list[dict[str, Any]]:
    """p of the seasonal test and the seasonal slope, of four years of three seasons."""
    package = import_module("pymannkendall")
    cases = [[1.0] * 12, [float(i) for i in range(12)]]
    cases += [[round(drawn.uniform(-5, 5), 3) for _ in range(12)] for _ in range(78)]
    cases += [[float(drawn.randint(-2, 2)) for _ in range(12)] for _ in range(20)]
    return [
        {
            "values": values,
            "p": float(package.seasonal_test(values, period=3).p),
            "slope": float(package.seasonal_sens_slope(np.array(values), period=3).slope),
        }
        for values in cases
    ]


if __name__ == "__main__":
    main()
