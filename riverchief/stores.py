"""Open the stores of a site by its settings: database, archive, time-series server."""

from dataclasses import dataclass

from infra import clock
from infra.database import Database
from ingest.storage import registry as registry_store
from ingest.storage import retention
from ingest.storage.archive import ParquetArchive
from ingest.storage.influx import InfluxReadings
from ingest.storage.port import LongTermStore
from ingest.storage.retention import ArchiveKeeper, Keeper, ServerKeeper
from ingest.storage.spool import Spool
from ingest.storage.sql import SqlReadings
from ingest.storage.tiered import TieredReadings
from ingest.storage.timeseries import ServerKind, ServerSettings, TimeSeriesServer
from riverchief.settings import Settings, secret
from sensors.parameters import Catalogue


@dataclass(frozen=True, slots=True)
class Stores:
    """``readings`` answers everybody, ``recent`` is the part of it in the database; ``spool`` and ``server`` are there
    where a time-series server is set, ``archive`` where a folder for it is, ``keeper`` where readings may leave."""

    readings: TieredReadings
    recent: SqlReadings
    spool: Spool | None
    server: TimeSeriesServer | None
    archive: ParquetArchive | None
    keeper: Keeper | None


def open_stores(settings: Settings, database: Database, catalogue: Catalogue) -> Stores:
    """The stores of a site; raises ConfigurationError where a setting cannot be used. Nothing is connected yet."""
    server = time_series_server(settings)
    spool = None
    behind: LongTermStore | None = None
    keeper: Keeper | None = None
    if server is not None:
        most_bytes = settings.influx.spool_mb * 2**20
        spool = Spool(database, catalogue, clock_ms=clock.now_ms, most_bytes=most_bytes)
        remote = _remote(server, database, catalogue)
        behind, keeper = remote, ServerKeeper(remote)
    archive: ParquetArchive | None = None
    if settings.readings.archive is not None:
        archive = ParquetArchive(settings.readings.archive, catalogue)
        behind, keeper = archive, ArchiveKeeper(archive)

    def boundary_ms() -> int:
        with database.read() as connection:
            return retention.read_boundary_ms(connection) or 0

    recent = SqlReadings(database, catalogue)
    readings = TieredReadings(recent, catalogue, older=behind, boundary_ms=boundary_ms, spool=spool)
    return Stores(readings, recent, spool, server, archive, keeper)


def time_series_server(settings: Settings) -> TimeSeriesServer | None:
    """The client of ``[influx]``; None where no address is given."""
    i = settings.influx
    if i.url is None:
        return None
    return TimeSeriesServer(
        ServerSettings(
            url=i.url,
            kind=ServerKind(i.kind),
            org=i.org if i.kind == "influxdb2" else "",
            bucket=i.bucket,
            token=secret(i.token, i.token_file),
            user=i.user,
            password=secret(i.password, i.password_file),
            ca_file=i.ca_file,
            timeout_s=i.timeout_s,
        )
    )


def _remote(server: TimeSeriesServer, database: Database, catalogue: Catalogue) -> InfluxReadings:
    reaches = registry_store.Reaches(database, catalogue)

    def reach_of(station: str) -> str:
        return reaches.of([station])[0]

    return InfluxReadings(server, catalogue, reach_of)
