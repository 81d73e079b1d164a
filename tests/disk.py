"""A disk whose power can be cut: what no program synced is gone then, contents and directory entries alike."""

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SIZE_MB = 256
SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN of the kernel, ``_IOR('X', 125, __u32)``."""
WITHOUT_FLUSH = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: the file system writes nothing more, not even its journal."""
COMMIT_EVERY_S = 3600
"""The journal commits when a program syncs, and not every five seconds by itself: a test is over before."""
PATIENCE_S = 30


MAY_MOUNT = 1 << 21
"""CAP_SYS_ADMIN in the bits of /proc/self/status."""


def impossible() -> str | None:
    """Why this machine can have no such disk, whatever is installed; None where it can."""
    if os.geteuid() != 0 or not _capabilities() & MAY_MOUNT:
        return "only root may mount a file system, and a container's root only with CAP_SYS_ADMIN"
    if not Path("/dev/loop-control").exists():
        return "the kernel offers no loop devices"
    return None


def not_installed() -> str | None:
    """The program that is missing here; None where all are there."""
    found = shutil.which("mkfs.ext4", path=_path())
    return "no mkfs.ext4 here (tests/servers.sh installs e2fsprogs)" if found is None else None


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))


class Disk:
    """An ext4 file system of its own in a file, mounted at ``path``."""

    def __init__(self) -> None:
        assert (missing := not_installed()) is None, missing
        self._folder = Path(tempfile.mkdtemp(prefix="riverchief-disk-"))
        self._folder.chmod(0o755)  # a server may run as somebody else
        self._image = self._folder / "disk.img"
        self.path = self._folder / "disk"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(SIZE_MB << 20)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()

    def lose_power(self, end: Callable[[], object] = lambda: None) -> None:
        """Cut the power and mount what is on the disk afterwards: what was not synced is lost.

        ``end`` kills the programs that use the disk. They end first, as they do when the power fails: a sync that is
        under way while the file system shuts down may report success for what is lost, and a program that lived on
        would acknowledge it.
        """
        end()
        self._shut_down()
        self._remount()

    def _shut_down(self) -> None:
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        finally:
            os.close(handle)

    def _remount(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:  # a process that was killed a moment ago may still be closing its files
            try:
                _run("umount", str(self.path))
                break
            except AssertionError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        self._mount()

    def close(self) -> None:
        _run("umount", "--lazy", str(self.path))
        shutil.rmtree(self._folder)

    def _mount(self) -> None:
        _run("mount", "-o", f"loop,commit={COMMIT_EVERY_S}", str(self._image), str(self.path))


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": _path()})
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
