"""The key file of encrypted contacts, and the job that removes citizens' contacts after their retention time."""

import os
from collections.abc import Callable
from pathlib import Path

import structlog

from governance.reports import citizen_reports
from infra.database import Database
from infra.errors import ConfigurationError
from infra.periodic import PeriodicWorker
from infra.texts import say
from infra.times import DAY_MS
from infra.vault import Vault, new_key
from riverchief.settings import Settings

EVERY_S = 3600.0

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def key_file(settings: Settings) -> Path:
    """Where the key lies."""
    return settings.access.contacts_key_file or settings.data / "contacts.key"


def vault(settings: Settings, *, make: bool = True) -> Vault:
    """The vault of contacts; its key is made when the settings name none and there is none yet.

    With ``make`` false no file is written: where there is no key, nothing was encrypted that could be read.

    Raises ConfigurationError when it cannot be read or is no key.
    """
    file = key_file(settings)
    try:
        if settings.access.contacts_key_file is None and not file.exists():
            if not make:
                return Vault(new_key())
            _make(file)
        return Vault(file.read_bytes().strip())
    except OSError as error:
        raise ConfigurationError(say("file.unreadable", file=file, error=error.strerror)) from error
    except ValueError:
        raise ConfigurationError(say("notices.no_key", file=file)) from None


def _make(file: Path) -> None:
    """Write a new key whole or not at all: another process may be about to read it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(f"{file.name}.{os.getpid()}")
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(new_key())
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(half, file)  # unlike a rename it does not replace what another process made first
    except FileExistsError:
        pass
    else:
        log.info("a key for contacts was made; a backup does not hold it, keep a copy elsewhere", file=str(file))
    finally:
        half.unlink()


class ContactRetention(PeriodicWorker):
    """Removes citizens' contacts ``days`` after their case was closed; a job of the housekeeping."""

    def __init__(self, database: Database, vault: Vault, *, days: int, clock_ms: Callable[[], int]) -> None:
        super().__init__("contacts")
        self._database = database
        self._vault = vault
        self._days = days
        self._clock_ms = clock_ms

    def next_round(self) -> float:
        with self.outlive("contacts of citizens"):
            with self._database.write() as connection:
                before_ms = self._clock_ms() - self._days * DAY_MS
                removed, encrypted = citizen_reports.protect_contacts(connection, self._vault, before_ms)
            if removed or encrypted:
                log.info("contacts of citizens", removed=removed, encrypted=encrypted)
            self.last_error = ""
        return EVERY_S
