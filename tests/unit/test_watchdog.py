"""A part that hangs is named, and ends the process if it will not go on; death: `tests/system/test_serve.py`."""

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


def test_a_part_that_will_not_go_on_ends_the_process_once_and_by_name() -> None:
    slow, computing = Slow(), Slow()
    left: list[str] = []
    watchdog = Watchdog(lambda: {"computing": computing, "slow": slow}, leave=lambda: left.append(watchdog.hung))
    for one in (slow, computing):
        one.longest_round_s = 0.0
        one.start()
        assert one.begun.wait(30)
    watchdog.next_round()
    assert left == [], "rounds without a bound may take as long as they need"
    slow.restart_after_s = 0.0
    watchdog.next_round()
    watchdog.next_round()
    assert (left, watchdog.dead) == (["slow"], "")
    for one in (slow, computing):
        one.go_on.set()
        one.stop()
