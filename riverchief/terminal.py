"""What the commands have in common on a terminal: where they speak, and a bar for work that takes long."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

out = Console()
err = Console(stderr=True)

PATIENCE_S = 2.0
"""Work that takes longer shows its progress."""


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on the terminal once the work takes longer than two seconds; told the share done, 0 to 1."""
    began, bar = time.monotonic(), Progress(console=err, transient=True)
    task = bar.add_task(what, total=1.0)

    def told(share: float) -> None:
        if err.is_terminal and time.monotonic() - began > PATIENCE_S:
            bar.start()
            bar.update(task, completed=share)

    try:
        yield told
    finally:
        bar.stop()
