"""Checks of the machine: files that the settings name, data folder, disk space."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from infra.errors import ConfigurationError
from infra.texts import at, say
from riverchief import files
from riverchief.doctor.findings import Finding, failure, ok, warning
from riverchief.settings import SECRETS, Settings, secret
from sensors.parameters import catalogue

FREE_FAILURE, FREE_WARNING = 200 * 2**20, 2 * 2**30
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs", "fuse.glusterfs", "fuse.sshfs"}
)
PASSING_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "overlay"})


def settings_(settings: Settings) -> Iterator[Finding]:
    """Whether the files named in the settings can be read and are valid."""
    faults = []
    for section, name in SECRETS:
        part = getattr(settings, section)
        file = getattr(part, f"{name}_file")
        try:
            if file is not None and not secret(None, file):
                faults.append(at(f"{section}.{name}_file", say("file.empty", file=file)))
        except ConfigurationError as error:
            faults.append(error.text)
    for name in ("ca_file", "cert_file", "key_file"):
        file = getattr(settings.mqtt, name)
        try:
            if file is not None:
                file.open("rb").close()
        except OSError as error:
            faults.append(at(f"mqtt.{name}", say("file.unreadable", file=file, error=error.strerror)))
    parameters = catalogue()
    rules = 0
    try:
        rules = len(files.read_rules(settings.site.rules, parameters))
        if settings.site.stations is not None:
            files.read_stations(settings.site.stations, parameters)
    except ConfigurationError as error:
        faults.append(error.text)
    for fault in faults:
        yield failure("settings", "settings_fault", fault=fault)
    if not faults:
        yield ok("settings", "settings_ok", rules=rules)


def folder(settings: Settings) -> Iterator[Finding]:
    """Whether the data folder takes what is written, has room, and lies on a disk made for a database."""
    where = settings.data.resolve()
    existing = next((path for path in (where, *where.parents) if path.exists()), Path("/"))
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".doctor-") as probe:
            probe.write(b"x" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        yield failure("data", "data_readonly", folder=where, error=error.strerror or type(error).__name__)
        return
    if existing != where:
        yield ok("data", "data_new", folder=where)
    free = shutil.disk_usage(existing).free
    room = {"folder": where, "free": _size(free)}
    if free < FREE_FAILURE:
        yield failure("data", "data_full", **room)
    elif free < FREE_WARNING:
        yield warning("data", "data_filling", **room)
    else:
        yield ok("data", "data_room", **room)
    kind = file_system(existing)
    if settings.database.url and not settings.database.url.startswith("sqlite"):
        return  # the readings are elsewhere
    if kind in NETWORK_FILE_SYSTEMS:
        yield failure("data", "data_network", folder=where, kind=kind)
    elif kind in PASSING_FILE_SYSTEMS:
        yield warning("data", "data_passing", folder=where, kind=kind)


def file_system(path: Path) -> str:
    """The type of the file system of a path; "" where it is unknown."""
    mounts = sorted(psutil.disk_partitions(all=True), key=lambda mount: len(mount.mountpoint))
    covering = [mount.fstype for mount in mounts if path.is_relative_to(mount.mountpoint)]
    return covering[-1] if covering else ""


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
