"""Child processes that end with their parent, even when the parent is killed.

A guard of a few bytes reads from a pipe that the system closes when we are gone, and then ends those it was told of.
"""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

KILL_AFTER_S = 10
"""Seconds from SIGTERM to SIGKILL."""

_GUARD = f'while read -r pid; do pids="$pids $pid"; done; kill $pids; sleep {KILL_AFTER_S}; kill -9 $pids'


@contextmanager
def guard() -> Iterator[Callable[[int], None]]:
    """Within this context, processes whose ids are passed to the result end when we are killed."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us
    )
    assert process.stdin is not None
    pipe = process.stdin

    def watch(pid: int) -> None:
        pipe.write(b"%d\n" % pid)
        pipe.flush()

    try:
        yield watch
    finally:
        process.kill()  # before the pipe closes: ours have ended in good order, and their ids may be others' by now
        process.wait()
        pipe.close()


@contextmanager
def child_process(command: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A process while this lasts, with the options of Popen: ended afterwards, and when we are killed."""
    with guard() as watch:
        process = subprocess.Popen(command, **options)
        watch(process.pid)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(3 * KILL_AFTER_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
