"""What the API and the console need to be given; made by the wiring, asked for nothing else."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from api.oidc import Oidc
from governance.assessment.model import Formula, Indicator
from governance.audit.merkle import Root
from governance.incidents.cap import CapSettings
from governance.incidents.dispatch import NO_PROCESSES, Processes
from governance.notify.contacts import Directory
from governance.notify.links import Links
from governance.notify.policy import NoticePolicy
from governance.notify.web_push import WebPush
from governance.people.sessions import MAX_IDLE_MS
from governance.platforms.callbacks import CallbackOutcome
from governance.platforms.model import Platforms
from governance.reports.citizen_reports import SimilarityLimits
from governance.reports.patrols import PatrolRule
from infra.database import Database
from infra.texts import Text
from infra.times import DAY_MS
from infra.vault import Vault, new_key
from ingest.devices.claims import Claims
from ingest.devices.credentials import Credentials, Endpoint
from ingest.pipeline import Receipt
from ingest.sources.commands import MqttCommands
from ingest.sources.hj212 import Answer
from ingest.storage.port import ReadingStore
from sensors.datum import Box
from sensors.parameters import Catalogue
from sensors.reading import Message
from sensors.wire.hj212.exchange import Command
from sensors.wire.sl651.queries import Query


@dataclass(frozen=True, slots=True)
class Part:
    """The health of one part of the system: its name, whether it works, and a sentence with figures for machines.

    Readings are taken and questions answered while a part that is not ``vital`` does not work. ``text`` says for people
    what ``detail`` says, None where it works or not is all there is to say; ``since_ms`` is since when it does not
    work, None where the part does not know.
    """

    name: str
    ok: bool
    detail: str
    vital: bool = True
    text: Text | None = None
    since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Devices:
    """Who makes logins for devices, who answers those that claim themselves, and where they reach the broker."""

    credentials: Credentials
    claims: Claims
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """Recipients of messages, their times and confirmation links; ``title`` is the site's name in messages.

    ``changed`` tells the directory that somebody's contact is another one. ``push`` sends to browsers; None: switched
    off.
    """

    directory: Callable[[], Directory]
    policy: NoticePolicy
    links: Links | None
    title: str
    changed: Callable[[], None] = lambda: None
    push: WebPush | None = None


@dataclass(frozen=True)
class Context:
    """Stores to read, and the doors into the running system.

    ``submit`` hands a message to the ingest and answers once it is durable; None where no ingest runs in this process.
    ``command`` asks something of a station's HJ 212 logger, ``sl651_query`` of an SL 651 station; None where no gateway
    runs. ``mqtt_commands`` asks devices over the broker. ``token`` is one that may do everything, for machines.
    ``open``: nobody is asked who they are,
    which the wiring allows on loopback only. ``oidc`` is the provider that people may sign in with. ``hosts`` are the
    names under which requests may come, beside loopback and addresses; None for any. A browser stays signed in for
    ``session_ms`` and ``idle_ms`` without use, a new token is good for ``token_ms``. ``processes`` say how each kind of
    incident is dealt with, and by when. One sender may make ``reports_an_hour``; ``vault`` encrypts how people can be
    reached, and hides where reports come from. ``complaints`` is the telephone number that
    stands on the signs. ``near`` says what may be one thing, ``patrols`` when a patrol counts. ``parts`` tells the
    health of the running parts. ``wake`` tells the deliverer that there is something in the outbox. ``box`` is where
    all places of the site lie, ``photos`` the folder of the photos; None where this process does not know it.
    ``devices`` makes the logins of devices; None where no broker is administered. ``audit_keys`` are the public keys
    that the roots of the trail are signed with, ``outside_roots`` reads the roots kept outside the database,
    ``formula`` is that of the assessment. ``platforms`` may call back and be compared with; ``called_back`` counts what
    came of a callback, ``sensorthings`` requests of SensorThings clients. ``notifications``: who gets messages; None
    for nobody. ``site`` is what the site is called;
    ``outward``: incidents are delivered to an external platform. ``map_tiles`` is the address of raster tiles of the
    map ({z}, {x}, {y} stand for the tile; "" for none), ``map_attribution`` whose they are. ``cap``: who sends
    warnings; None for nobody. ``subscribes``: there is a mail server, so that the public can subscribe to a river.
    """

    database: Database
    store: ReadingStore
    catalogue: Catalogue
    source: str
    clock_ms: Callable[[], int]
    submit: Callable[[Message], "Future[Receipt]"] | None = None
    command: Callable[[str, Command], "Future[Answer]"] | None = None
    sl651_query: Callable[[str, Query], "Future[Mapping[str, str]]"] | None = None
    mqtt_commands: MqttCommands | None = None
    token: str | None = None
    parts: Callable[[], list[Part]] = list
    metrics: Callable[[], bytes] = lambda: b""
    wake: Callable[[], None] = lambda: None
    box: Box | None = None
    photos: Path | None = None
    devices: Devices | None = None
    audit_keys: Sequence[Ed25519PublicKey] = ()
    outside_roots: Callable[[], Sequence[Root]] = list
    formula: Formula = field(default_factory=lambda: Formula(dict.fromkeys(Indicator, 1.0)))
    platforms: Platforms = field(default_factory=Platforms)
    notifications: NotificationSettings | None = None
    called_back: Callable[[CallbackOutcome], None] = lambda result: None
    sensorthings: Callable[[str], None] = lambda outcome: None
    cap: CapSettings | None = None
    vault: Vault = field(default_factory=lambda: Vault(new_key()), repr=False)
    reports_an_hour: int = 6
    complaints: str = ""
    near: SimilarityLimits = field(default_factory=SimilarityLimits)
    patrols: PatrolRule = field(default_factory=PatrolRule)
    open: bool = False
    hosts: frozenset[str] | None = None
    session_ms: int = 7 * DAY_MS
    idle_ms: int = MAX_IDLE_MS
    oidc: Oidc | None = None
    token_ms: int = 365 * DAY_MS
    processes: Processes = NO_PROCESSES
    site: str = ""
    outward: bool = True
    map_tiles: str = ""
    map_attribution: str = ""
    subscribes: bool = False
