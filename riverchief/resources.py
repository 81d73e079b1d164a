"""What the services of one process share: the files of the site, its database and its stores."""

from dataclasses import dataclass, field

from api.context import Devices
from governance.audit import trail as audit_trail
from governance.incidents.dispatch import Processes
from governance.platforms.model import Platforms
from infra import clock
from infra.database import Database
from infra.vault import Vault
from ingest.devices.claims import Claims
from ingest.devices.credentials import Credentials
from ingest.sources.mqtt import MqttSettings
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from ingest.storage.changes import Author
from riverchief import __version__, administrator, contact_key, files, messages
from riverchief.backup import backup
from riverchief.brokers.users import broker_users, endpoint
from riverchief.database import open_database
from riverchief.metrics import EventCounters
from riverchief.otel import Tracing
from riverchief.settings import Settings, secret
from riverchief.site_files import SiteFiles
from riverchief.sources import mqtt_settings
from riverchief.stores import Stores, open_stores
from sensors.parameters import Catalogue, catalogue


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources opened once for all services; ``devices`` and ``tracing`` are None where they are not set."""

    settings: Settings
    catalogue: Catalogue
    files: SiteFiles
    processes: Processes
    platforms: Platforms
    database: Database
    vault: Vault
    directory: messages.ContactList
    stores: Stores
    devices: Devices | None
    tracing: Tracing | None
    counters: EventCounters
    mqtt: MqttSettings
    api_token: str | None = field(repr=False)
    outbox_secret: str | None = field(repr=False)
    heartbeat_url: str | None = field(repr=False)


def open_resources(settings: Settings, roles: str, *, with_api: bool, with_contacts: bool) -> Resources:
    """Read the files of the site, open its database and stores; raises ConfigurationError.

    ``roles`` is what the trail says this process does; ``with_contacts`` whether it sends messages. A new site gets the
    stations of its file, and with an API its first administrator.
    """
    parameters = catalogue()
    read = SiteFiles(settings, parameters, with_contacts=with_contacts)
    processes = files.read_processes(settings.site.processes)
    api_token = secret(settings.api.token, settings.api.token_file)
    mqtt = mqtt_settings(settings)
    outbox_secret = secret(settings.outbox.secret, settings.outbox.secret_file)
    platforms = files.read_platforms(settings.platforms.file, outbox_secret)
    watch = settings.watch
    heartbeat_url = secret(watch.heartbeat_url, watch.heartbeat_url_file)
    tracing = Tracing(watch.otlp_url, watch.trace_share) if watch.otlp_url else None
    database = open_database(settings)
    vault = contact_key.vault(settings)
    directory = messages.ContactList(lambda: read.contacts, database, vault, clock.now_ms)
    _record_start(settings, roles, database)
    _register_stations(settings, database, parameters)
    if with_api and not settings.access.open:
        administrator.first_link(database, settings.data, settings.address)
    return Resources(
        settings=settings,
        catalogue=parameters,
        files=read,
        processes=processes,
        platforms=platforms,
        database=database,
        vault=vault,
        directory=directory,
        stores=open_stores(settings, database, parameters),
        devices=_devices(settings, database),
        tracing=tracing,
        counters=EventCounters(clock.now_ms),
        mqtt=mqtt,
        api_token=api_token,
        outbox_secret=outbox_secret,
        heartbeat_url=heartbeat_url,
    )


def _devices(settings: Settings, database: Database) -> Devices | None:
    users = broker_users(settings)
    if users is None:
        return None
    logins = Credentials(database, users, clock.now_ms)
    return Devices(logins, Claims(database, logins, clock.now_ms), endpoint(settings))


def _record_start(settings: Settings, roles: str, database: Database) -> None:
    """Write to the trail what this process runs with."""
    body = {"version": __version__, "roles": roles, "settings": backup.without_secrets(settings)}
    with database.write() as connection:
        audit_trail.append(
            connection,
            "system.started",
            kind="system",
            id=settings.site.source,
            body=body,
            by="riverchief",
            at_ms=clock.now_ms(),
        )


def _register_stations(settings: Settings, database: Database, parameters: Catalogue) -> None:
    """Fill the registry of a new site from its file; later the database is what counts."""
    if settings.site.stations is None:
        return
    book = files.read_book(settings.site.stations, parameters, box=settings.box)
    with database.write() as connection:
        if not registry_store.load(connection, parameters).stations:
            author = Author(str(settings.site.stations), clock.now_ms())
            registry_store.save(connection, book.registry, author)
            maintenance_store.save(connection, book.maintenance, author)
