"""``riverchief`` and ``python -m riverchief``.

Loading everything takes a second. Whoever asks us to stop within it is obeyed: nothing has begun that needs finishing.
"""

import signal
import sys


def main() -> None:
    """The entry point of the command line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from riverchief.cli.app import main as command_line

    command_line()


if __name__ == "__main__":
    main()
