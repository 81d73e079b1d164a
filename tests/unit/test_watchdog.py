"""A part that hangs is named as long as it does; one that died is tested in `tests/system/test_serve.py`."""

import threading

from infra.periodic import PeriodicWorker
from riverchief.watchdog import Watchdog


class Slow(PeriodicWorker):
    """Waits in its round for a sign."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.begun, self.go_on = threading.Event(), threading.Event()

    def next_round(self) -> float:
        self.begun.set()
        self.go_on.wait(30)
        return 60


def test_a_part_that_has_been_at_one_round_for_too_long_is_named_until_it_goes_on() -> None:
    slow, idle = Slow(), Slow()
    watchdog = Watchdog(lambda: {"slow": slow, "idle": idle}, leave=lambda: None)
    slow.start()
    assert slow.begun.wait(30)
    assert watchdog.hanging() == [], "900 s have not passed"
    slow.longest_round_s = 0.0
    assert watchdog.hanging() == ["slow"]
    slow.go_on.set()
    slow.stop()
    assert watchdog.hanging() == []
