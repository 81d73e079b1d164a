"""A thread that makes one round after another: forwarding, live classes, retention, retirement."""

import threading
from abc import ABC, abstractmethod


class Rounds(ABC):
    """Runs ``next_round`` until it is stopped; may be started again afterwards."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, also after a stop."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 15.0) -> bool:
        """Finish what is under way; the next start goes on from there. False when that took longer."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.alive

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @abstractmethod
    def next_round(self) -> float:
        """One round; seconds until the next, 0 for at once. Must outlive whatever goes wrong in it."""

    def _run(self) -> None:
        while not self._stopping.is_set():
            wait_s = self.next_round()
            if wait_s:
                self._stopping.wait(wait_s)
