"""Entry point of ``riverchief`` and ``python -m riverchief``.

Loading everything takes a second. Whoever asks us to stop within it is obeyed: nothing has begun that needs finishing.
What is loaded stays to the end, so the collector of garbage need not look at it, neither meanwhile nor ever after: that
saves a third of a start, and the ingest the pauses.

What comes later is looked at in larger portions than Python's own 700 objects: a page of the console is some tens of
thousands that live for a minute, a batch of readings thousands that are gone at once.

A process that seems to stand still writes to stderr where each of its threads is when it gets SIGUSR1.
"""

import faulthandler
import gc
import signal
import sys


def main() -> None:
    """The entry point of the command line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    faulthandler.register(signal.SIGUSR1)
    gc.disable()
    from riverchief.cli.app import main as command_line

    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
    command_line()


if __name__ == "__main__":
    main()
