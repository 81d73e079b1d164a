"""Run functions of one module in a child process with limits of memory and time: what decodes files of strangers.

A file that makes its decoder crash, hang or ask for gigabytes ends the child; the caller gets an error, and the next
call starts another child. The child has none of our environment, and answers are bytes or JSON, never pickles. It ends
when we do. Where the system knows no such limits (Windows) it is a child process all the same.
"""

import contextlib
import importlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

from infra.errors import WaterError
from infra.texts import Text, say

MIB = 2**20
_LENGTHS = struct.Struct(">IQ")
"""Lengths of the JSON and of the bytes that follow it, both ways."""


class LimitedProcess:
    """One child; calls from several threads wait for each other. It is started by the first call.

    Parameters
    ----------
    module : its functions take bytes and JSON arguments by name, and return bytes or what JSON can hold.
    error : what is raised for a WaterError in the child, and for a call that exceeds a limit.
    """

    def __init__(self, module: str, *, error: Callable[[Text], WaterError], memory_mib: int, seconds: int) -> None:
        self._module = module
        self._error = error
        self._limits = (memory_mib, seconds)
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def call(self, function: str, data: bytes = b"", **arguments: object) -> Any:
        """What the function of this name returns in the child. Raises ``error``."""
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._child = self._started()
            child = self._child
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                _write(child.stdin, {"function": function, "arguments": arguments}, data)
                head, body = _read(child.stdout)
            except (OSError, EOFError):
                self._end(child)
                memory, seconds = self._limits
                raise self._error(say("attachment.limits", memory=memory, seconds=seconds)) from None
            except BaseException:  # an unread answer would be taken for that of the next call
                self._end(child)
                raise
        if "refused" in head:
            raise self._error(Text(*head["refused"]))
        return body if head["bytes"] else head["value"]

    def _started(self) -> "subprocess.Popen[bytes]":
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {name: os.environ[name] for name in ("SYSTEMROOT", "TMPDIR") if name in os.environ}
        return subprocess.Popen(
            [sys.executable, "-m", __name__, self._module, *map(str, self._limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | {"PYTHONPATH": paths, "PYTHONUTF8": "1", "POLARS_MAX_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for us
        )

    def _end(self, child: "subprocess.Popen[bytes]") -> None:
        self._child = None
        child.kill()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        child.wait()


def _write(stream: IO[bytes], head: object, body: bytes) -> None:
    text = json.dumps(head).encode()
    stream.write(_LENGTHS.pack(len(text), len(body)) + text)
    stream.write(body)
    stream.flush()


def _read(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Raises EOFError where the other side has ended."""
    text, body = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    return json.loads(_exactly(stream, text)), _exactly(stream, body)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _limit(memory_mib: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = memory_mib * MIB if hard == resource.RLIM_INFINITY else min(hard, memory_mib * MIB)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(function: Callable[..., object], data: bytes, arguments: dict[str, object]) -> tuple[object, bytes]:
    try:
        result = function(data, **arguments)
    except WaterError as error:
        return {"refused": (error.text.zh, error.text.en)}, b""
    return ({"bytes": True}, result) if isinstance(result, bytes) else ({"bytes": False, "value": result}, b"")


def main() -> None:
    """The child: answer calls until the pipe closes; anything but a WaterError ends it."""
    name, memory_mib, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    module = importlib.import_module(name)
    _limit(memory_mib)
    with contextlib.suppress(EOFError):
        while True:
            head, data = _read(requests)
            if hasattr(signal, "alarm"):
                signal.alarm(seconds)  # unhandled: the process ends
            done = _answer(getattr(module, head["function"]), data, head["arguments"])
            if hasattr(signal, "alarm"):
                signal.alarm(0)
            _write(answers, *done)


if __name__ == "__main__":
    main()
