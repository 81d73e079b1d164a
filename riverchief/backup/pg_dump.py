"""Find and call ``pg_dump`` and ``pg_restore``, and verify what they wrote.

The password goes to them in a file of their own (PGPASSFILE, mode 600), never on a command line or into a message.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from infra.errors import ConfigurationError, StorageUnavailable
from infra.texts import say

_COPY = re.compile(rb'COPY (?:"?\w+"?\.)?"?(\w+)"? ')


def program(name: str) -> str:
    """Path of a PostgreSQL client program; raises ConfigurationError naming what to install."""
    if found := shutil.which(name):
        return found
    versions = [path for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}") if path.parent.parent.name.isdigit()]
    if not versions:
        raise ConfigurationError(say("backup.no_program", name=name))
    return str(max(versions, key=lambda path: int(path.parent.parent.name)))


def dump(url: sa.URL, snapshot: str, file: Path) -> None:
    """Write what a snapshot (``pg_export_snapshot``) shows, in the custom format; raises StorageUnavailable."""
    arguments = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", f"--file={file}"]
    _call(url, program("pg_dump"), arguments)


def restore(url: sa.URL, file: Path) -> None:
    """Read a dump into a database in one transaction: all of it or nothing; raises StorageUnavailable."""
    arguments = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", str(file)]
    _call(url, program("pg_restore"), arguments)


def rows(file: Path) -> dict[str, int]:
    """Rows of each table of a dump, counted by reading it to its end; raises StorageUnavailable."""
    command = [program("pg_restore"), "--data-only", "--file=-", str(file)]
    counts: dict[str, int] = {}
    table: str | None = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if table is not None:
                if line == b"\\.\n":
                    table = None
                else:
                    counts[table] += 1
            elif found := _COPY.match(line):
                table = found[1].decode()
                counts[table] = 0
        trouble = process.stderr.read()
    if process.returncode:
        raise StorageUnavailable(say("backup.dump_unreadable", file=file, trouble=_error_line(trouble)))
    return counts


def _call(url: sa.URL, path: str, arguments: list[str]) -> None:
    with _login(url) as (address, environment):
        done = subprocess.run(
            [path, f"--dbname={address}", *arguments], env=environment, capture_output=True, check=False
        )
    if done.returncode:
        raise StorageUnavailable(say("backup.program_failed", name=Path(path).name, stderr=_error_line(done.stderr)))


def without_password(url: sa.URL) -> sa.URL:
    """The address without its password."""
    query = {name: value for name, value in url.query.items() if name != "password"}
    return sa.URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)


@contextmanager
def _login(url: sa.URL) -> Iterator[tuple[str, dict[str, str]]]:
    """The address without the password, and an environment that has it."""
    password = url.password or url.query.get("password")
    bare = without_password(url).set(drivername="postgresql")
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="riverchief-") as folder:
        if password is not None:
            file = Path(folder) / "pgpass"
            file.touch(mode=0o600)
            escaped = str(password).replace("\\", "\\\\").replace(":", "\\:")
            file.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
            environment["PGPASSFILE"] = str(file)
            environment.pop("PGPASSWORD", None)
        yield bare.render_as_string(hide_password=False), environment


def _error_line(trouble: bytes) -> str:
    """The line with the reason: the first error, else the last line."""
    lines = [line for line in trouble.decode("utf-8", "replace").splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), lines[-1] if lines else "no reason was given")
