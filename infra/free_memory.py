"""Give memory that is free back to the system: what a large batch has used stays with the C library otherwise."""

import ctypes

from infra.periodic import PeriodicWorker

EVERY_S = 60.0
"""Takes 5 to 11 ms of the processor with 20,000 stations; between two rounds the memory is used again."""


class FreeMemory(PeriodicWorker):
    """Gives free memory back every minute, where the C library can (glibc)."""

    def __init__(self) -> None:
        super().__init__("free memory")

    def next_round(self) -> float:
        give_back()
        return EVERY_S


def give_back() -> None:
    """Give free memory back to the system; does nothing where the C library cannot."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
