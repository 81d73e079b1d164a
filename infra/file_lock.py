"""An exclusive lock on an open file, released when the file is closed or the process ends."""

from typing import IO, Any


def lock(handle: IO[Any]) -> bool:
    """Lock an open file; false while another process holds it.

    Always true on Windows, where there is no such lock: the operator sees to it that only one runs.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
