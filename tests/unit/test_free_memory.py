"""Memory that is free goes back to the system."""

import ctypes
import subprocess
import sys

import pytest

HOLES_MB = 60
"""Half of the pieces are freed: what stays between them keeps the C library from giving the rest back by itself."""
PROGRAM = f"""
import psutil
from infra.free_memory import give_back
pieces = [bytes(50_000) for _ in range({2 * HOLES_MB} * 20)]
pieces = pieces[::2]
before = psutil.Process().memory_info().rss
give_back()
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_memory_of_a_large_batch_goes_back_to_the_system() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert int(found.stdout) > HOLES_MB / 2 * 1e6
