"""A benchmark and what it starts."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import preloaded
from tests.rig import eventually
from tools.bench import paired, ratios


@pytest.fixture
def running_bench(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The benchmark that starts most: a broker, the service, the load."""
    options = ["--stations", "5", "--rate", "20", "--seconds", "600"]
    with (tmp_path / "log").open("wb") as log:
        process = preloaded.Popen(
            [sys.executable, "-m", "riverchief", "bench", "latency", *options], stdout=log, stderr=log
        )
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@pytest.mark.broker
@pytest.mark.timeout(180)
def test_a_benchmark_that_is_killed_leaves_nothing_behind(
    running_bench: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    def started() -> list[psutil.Process]:
        """The broker, the service and the load, without the shells that watch over them."""
        below = psutil.Process(running_bench.pid).children(recursive=True)
        return [one for one in below if one.name() != "sh"]

    eventually("broker, service and load are at work", lambda: len(started()) == 3, timeout_s=60)
    left = started()
    running_bench.kill()
    running_bench.wait()
    _, alive = psutil.wait_procs(left, timeout=60)
    for one in alive:
        one.kill()
    assert alive == [], (tmp_path / "log").read_text()


@pytest.mark.parametrize("name", ratios.MEASURES)
def test_what_a_reading_costs_beside_the_least_possible_is_not_lost_grossly(name: str) -> None:
    """Processor time in turns with a baseline: it fails when three repeats are all below a third of what is stated."""
    assert set(ratios.STATED) == set(ratios.MEASURES)
    measure = ratios.MEASURES[name]
    assert not paired.lost(lambda: measure(ratios.ROUNDS).median, ratios.STATED[name])
