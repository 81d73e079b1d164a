"""What the API and the console need to be given; made by the wiring, asked for nothing else."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from governance.database import Database
from governance.deadlines import STANDARD, Policy
from ingest.claims import Claims
from ingest.credentials import Credentials, Endpoint
from ingest.pipeline import Receipt
from ingest.sources.hj212 import Answer
from ingest.storage.port import ReadingStore
from sensors.datum import Box
from sensors.parameters import Catalogue
from sensors.reading import Message
from sensors.wire.hj212.exchange import Command


@dataclass(frozen=True, slots=True)
class Part:
    """The health of one part of the system: its name, whether it works, and a sentence with figures.

    Readings are taken and questions answered while a part that is not ``vital`` does not work.
    """

    name: str
    ok: bool
    detail: str
    vital: bool = True


@dataclass(frozen=True, slots=True)
class Devices:
    """Who makes logins for devices, who answers those that claim themselves, and where they reach the broker."""

    credentials: Credentials
    claims: Claims
    endpoint: Endpoint


@dataclass(frozen=True)
class Context:
    """Stores to read, and the doors into the running system.

    ``submit`` hands a message to the ingest and answers once it is durable; None where no ingest runs in this
    process. ``command`` asks something of a station's HJ 212 logger; None where no gateway runs. ``token`` is one
    that may do everything, for machines. ``open``: nobody is asked who they are, which the wiring allows on loopback
    only. ``policy`` are the deadlines.
    ``parts`` tells the health of the running parts. ``wake`` tells the deliverer that there is something in the outbox.
    ``box`` is where all places of the site lie, ``photos`` the folder of the photos; None where this process is not
    told. ``devices`` makes the logins of devices; None where no broker is administered.
    """

    database: Database
    store: ReadingStore
    catalogue: Catalogue
    source: str
    clock_ms: Callable[[], int]
    submit: Callable[[Message], "Future[Receipt]"] | None = None
    command: Callable[[str, Command], "Future[Answer]"] | None = None
    token: str | None = None
    parts: Callable[[], list[Part]] = list
    metrics: Callable[[], bytes] = lambda: b""
    wake: Callable[[], None] = lambda: None
    box: Box | None = None
    photos: Path | None = None
    devices: Devices | None = None
    open: bool = False
    policy: Policy = STANDARD
