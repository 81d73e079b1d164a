"""The files of a site that are read again while it runs: rules, mappings, contacts (SIGHUP; `systemctl reload`)."""

import threading
from collections.abc import Callable

import structlog

from governance.notify.contacts import Directory
from infra.errors import WaterError
from infra.periodic import PeriodicWorker
from ingest.rules.model import Rules
from riverchief import files, messages
from riverchief.settings import Settings
from sensors.parameters import Catalogue
from sensors.wire.mapping import Mappings

log = structlog.get_logger(__name__)

EVERY_S = 60.0


class SiteFiles:
    """What the files said when they were last read without a fault."""

    def __init__(self, settings: Settings, catalogue: Catalogue, *, with_contacts: bool = True) -> None:
        """Raises ConfigurationError. ``with_contacts`` false: who sends to nobody does not load what sends."""
        self._settings = settings
        self._catalogue = catalogue
        self._with_contacts = with_contacts
        self.rules: Rules
        self.mappings: Mappings
        self.contacts: Directory
        self.read()

    def read(self) -> None:
        """Read all of them; with a fault in one nothing changes. Raises ConfigurationError."""
        settings, parameters = self._settings, self._catalogue
        rules = files.read_rules(settings.site.rules, parameters)
        mappings = files.read_mappings(settings.ingest.mappings, parameters)
        contacts = (messages.directory(settings) if self._with_contacts else None) or Directory()
        self.rules, self.mappings, self.contacts = rules, mappings, contacts


class Reloader(PeriodicWorker):
    """Reads the files when asked to, on a thread of its own, and passes them to those in ``takers``."""

    def __init__(self, read: SiteFiles, takers: Callable[[SiteFiles], None]) -> None:
        super().__init__("reload")
        self._files = read
        self._takers = takers
        self._asked = threading.Event()

    def request(self) -> None:
        """Read the files soon; a handler of signals may call it."""
        self._asked.set()
        self.wake()

    def next_round(self) -> float:
        if self._asked.is_set():
            self._asked.clear()
            with self.outlive("the files of the site"):
                self._read()
        return EVERY_S

    def _read(self) -> None:
        try:
            self._files.read()
        except WaterError as error:
            self.last_error = str(error)
            log.error("the files were not read again; what was read before is in force", error=str(error))
            return
        self._takers(self._files)
        self.last_error = ""
        log.warning("rules, mappings and contacts were read again")
