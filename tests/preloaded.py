"""Start ``python -m …`` with the product already loaded.

Loading takes seconds of processor for each process, and the tests start hundreds. `Popen` and `run` take what those of
`subprocess` take; a command that begins ``sys.executable -m`` is forked from a process that has loaded all modules
once, and becomes a child of the tests like any other: it has its own id, signals, exit code and open files. So is a
program after ``-c``. Other commands, and those that set a variable of Python otherwise, are started as usual.

`tests/system/test_serve.py` starts the product without this.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import inspect
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PRODUCT = ("infra", "sensors", "ingest", "governance", "api", "simulator", "riverchief")
SITES = ("tests.pages_site", "tests.large_site", "tests.hj212_site", "tests.sl651_site")
"""Run by tests as programs: what they import is loaded, they themselves are not."""
MODULES = ("riverchief", "tests.faults.clocked", *SITES)
"""What is forked after ``-m``."""

PR_SET_CHILD_SUBREAPER = 36

_lock = threading.Lock()
_source: tuple[subprocess.Popen[bytes], socket.socket] | None = None


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen`, forked from the loaded process where the command allows it."""

    def _execute_child(self, *arguments: Any) -> None:
        names = inspect.signature(super()._execute_child)  # type: ignore[misc]
        given = names.bind(*arguments).arguments
        words = given["args"]
        if not _can_fork(words, given["env"]):
            super()._execute_child(*arguments)  # type: ignore[misc]
            return
        asked = {
            "how": words[1],
            "program": words[2],
            "words": [os.fspath(word) for word in words[3:]],
            "cwd": os.fspath(given["cwd"] or Path.cwd()),
            "env": {**(os.environ if given["env"] is None else given["env"])},
            "session": bool(given["start_new_session"]),
        }
        files = [0, 1, 2]
        for place, name in enumerate(("p2cread", "c2pwrite", "errwrite")):
            if given[name] != -1:
                files[place] = given[name]
        self.pid = _fork(asked, files)
        self._child_created = True
        self._close_pipe_fds(  # type: ignore[attr-defined]
            *(given[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
        )


def run(
    command: list[Any], *, capture_output: bool = False, check: bool = False, timeout: float | None = None, **more: Any
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` with `Popen` of this module."""
    if capture_output:
        more |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(command, **more) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _can_fork(words: Any, env: Any) -> bool:
    if not isinstance(words, list | tuple) or words[0] != sys.executable:
        return False
    if words[1] != "-c" and not (words[1] == "-m" and words[2] in MODULES):
        return False
    return env is None or _of_python(env).items() <= _of_python(os.environ).items()


def _of_python(variables: Any) -> dict[str, str]:
    """Variables that Python and numeric libraries read once."""
    return {name: value for name, value in variables.items() if name.startswith(("PYTHON", "OPENBLAS", "OMP"))}


def _fork(asked: dict[str, Any], files: list[int]) -> int:
    """The id of the new process, a child of this one."""
    with _lock:
        channel = _loaded()
        body = json.dumps(asked).encode()
        _adopt(True)
        try:
            socket.send_fds(channel, [len(body).to_bytes(4, "big")], files)
            channel.sendall(body)
            answer = channel.recv(8)
        finally:
            _adopt(False)
    if len(answer) != 8:
        raise OSError("the loaded process of the tests has ended")
    return int.from_bytes(answer, "big")


def _adopt(orphans: bool) -> None:
    """Whether this process becomes the parent of descendants whose own parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(orphans), 0, 0, 0)


def _loaded() -> socket.socket:
    """The way to the process that has everything loaded, started at first need."""
    global _source
    if _source is None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tests.preloaded", str(theirs.fileno())]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        _source = process, ours
        atexit.register(_end)
    return _source[1]


def _end() -> None:
    if _source is not None:
        _source[1].close()
        _source[0].wait(timeout=30)


def _load() -> None:
    for package in PRODUCT:
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if module.name.endswith("__main__") or ".migrations." in module.name:
                continue
            with contextlib.suppress(ModuleNotFoundError):  # a library that is optional
                importlib.import_module(module.name)
    for name in SITES:
        importlib.import_module(name)
        del sys.modules[name]


def _serve(channel: socket.socket) -> dict[str, Any] | None:
    """Fork for each request; returns the request in the new process, and nothing in this one, at the end."""
    while True:
        size, files, _, _ = socket.recv_fds(channel, 4, 3)
        if not size:
            return None
        body = b""
        while len(body) < int.from_bytes(size, "big"):
            body += channel.recv(int.from_bytes(size, "big") - len(body))
        asked: dict[str, Any] = json.loads(body)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            new = os.fork()
            if new:
                os.write(writing, new.to_bytes(8, "big"))
                os._exit(0)
            os.close(reading)
            os.close(writing)
            channel.close()
            for place, file in enumerate(files):
                os.dup2(file, place)
                os.close(file)
            return asked
        os.waitpid(between, 0)
        os.close(writing)
        for file in files:
            os.close(file)
        channel.sendall(os.read(reading, 8))
        os.close(reading)


def _become(asked: dict[str, Any]) -> None:
    """Run the module, or the program after ``-c``, as if this process had been started with it."""
    if asked["session"]:
        os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.path[0] = asked["cwd"]
    gc.enable()
    if asked["how"] == "-m":
        sys.argv = [asked["program"], *asked["words"]]
        runpy.run_module(asked["program"], run_name="__main__", alter_sys=True)
        return
    sys.argv = ["-c", *asked["words"]]
    sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(asked["program"], "<string>", "exec"), vars(sys.modules["__main__"]))


def main() -> None:
    """Load everything once, then serve the tests until they end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    _load()
    gc.freeze()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _become(asked)


if __name__ == "__main__":
    main()
