"""The worker of a cluster: the partitions it holds a lease of, each with the pipeline, intake and stream of its own."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import structlog

from api.context import Part
from infra import clock
from infra.errors import StorageUnavailable
from infra.texts import say
from ingest import batch_log
from ingest.cluster import leases
from ingest.cluster.leases import FencedDatabase, Lease, Leases
from ingest.cluster.stream_source import Partition, StreamSource
from ingest.cluster.transport import Transport
from ingest.intake import Bounds, Intake
from ingest.site_state import Part as SitePart
from ingest.state import rule_publications
from riverchief import __version__
from riverchief.cluster import open_transport, process_name
from riverchief.resources import Resources
from riverchief.service import Service
from riverchief.services.ingest_services import make_site
from riverchief.site_files import SiteFiles
from riverchief.stores import open_stores

log = structlog.get_logger(__name__)

INTERVAL_S = 1.0
DRAIN_TIMEOUT_S = 30.0


class PartitionWorker:
    """Runs one partition from its lease until it is stopped or another worker owns it. A thread."""

    def __init__(self, workers: "PartitionWorkers", lease: Lease) -> None:
        self.lease = lease
        self._workers = workers
        self.database = FencedDatabase(workers.resources.database, workers.leases.name, lease)
        self.intake: Intake | None = None
        self.source: StreamSource | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"partition-{lease.partition}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish what is read, then give the lease back; returns at once."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def well(self) -> bool:
        """Whether it owns its partition and all its threads live."""
        parts = (self.intake, self.source)
        return self.alive and not self.database.lost and all(one is None or one.alive for one in parts)

    def _run(self) -> None:
        try:
            self._serve()
        except StorageUnavailable as error:
            log.warning("a partition could not be started", partition=self.lease.partition, error=str(error))
        except Exception:  # the lease is given back and taken again, here or elsewhere
            log.exception("a partition has failed", partition=self.lease.partition)
        if not self.database.lost:
            try:
                self._workers.release(self.lease)
            except StorageUnavailable as error:
                log.warning("a lease was not given back", partition=self.lease.partition, error=str(error))

    def _serve(self) -> None:
        resources, number = self._workers.resources, self.lease.partition
        stores = open_stores(resources.settings, resources.database, resources.catalogue)
        part = SitePart(partial(leases.part, number=number), leases.plan_version)
        site = make_site(resources, self.database, stores, self._workers.on_findings, part)
        given = resources.settings.ingest
        self.intake = intake = Intake(
            site,
            clock_ms=clock.now_ms,
            connected_since=self._devices_since_ms,
            most=given.batch_messages,
            linger_s=given.linger_ms / 1000,
            bounds=Bounds(given.hold_messages, given.hold_mb * 2**20),
        )
        intake.watch(resources.counters.batch)
        intake.watch(batch_log.log_batch)
        partition = Partition(number, self.lease.position, self._workers.home)
        self.source = source = StreamSource(self._workers.transport, partition, intake, self.database, clock.now_ms)
        intake.start()
        source.start()
        log.info(
            "partition taken", partition=number, epoch=self.lease.epoch, stations=len(site.history.registry.stations)
        )
        self._stop.wait()
        source.stop()
        if not intake.stop(DRAIN_TIMEOUT_S):
            log.warning("the last batch did not finish in time; it will be read again", partition=number)
        if stores.server:
            stores.server.close()

    def _devices_since_ms(self) -> int | None:
        """Since when what devices send reaches this partition without delay; None while it does not."""
        source, bridges = self.source, self._workers.devices_since_ms
        if source is None or source.caught_up_since_ms is None or bridges is None or source.lane.behind_since_ms:
            return None
        return max(source.caught_up_since_ms, bridges, source.lane.caught_up_ms)


class PartitionWorkers:
    """All partitions of this process: asks for leases once a second, starts and stops accordingly.

    ``on_findings`` is called when a batch has raised findings; must not block.
    """

    def __init__(self, resources: Resources, on_findings: Callable[[], None]) -> None:
        self.resources = resources
        self.on_findings = on_findings
        self.transport: Transport = open_transport(resources.settings)
        rules = rule_publications.fingerprint(resources.files.rules)
        self.leases = Leases(resources.database, resources.catalogue, process_name(), __version__, rules)
        self.running: dict[int, PartitionWorker] = {}
        self.devices_since_ms: int | None = None
        self._ending: list[PartitionWorker] = []
        self._homes: Mapping[str, int] = {}
        self._plan = -1
        self._error = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="partitions", daemon=True)
        self.leases.join(resources.settings.cluster.partitions)

    def service(self) -> Service:
        return Service(
            start=self._thread.start, stop=self._stop, health=self._health, threads=lambda: {"partitions": self}
        )

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def home(self, station: str) -> int | None:
        """The partition of a station by the newest plan; None for one that is not registered."""
        return self._homes.get(station)

    def take_files(self, read: SiteFiles) -> None:
        """Adopt rules and mappings that were read again; called from any thread."""
        self.leases.rules = rule_publications.fingerprint(read.rules)
        for one in tuple(self.running.values()):
            if one.intake:
                one.intake.site.offer_files(read.rules, read.mappings)

    def release(self, lease: Lease) -> None:
        """Give a lease back once its partition has ended. Raises StorageUnavailable."""
        self.leases.release(lease)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._round()
                self._error = ""
            except StorageUnavailable as error:  # whoever is fenced off commits nothing; the others go on
                self._error = str(error)
                self.devices_since_ms = None
                log.warning("leases cannot be renewed", error=str(error))
            except Exception as error:
                self._error = f"{type(error).__name__}: {error}"
                log.exception("a round of the cluster has failed")
            self._stopping.wait(INTERVAL_S)

    def _round(self) -> None:
        found = self.leases.renew()
        self.devices_since_ms = found.devices_since_ms
        self._follow_plan()
        held = {lease.partition: lease for lease in found.held}
        surplus = {lease.partition for lease in found.surplus}
        for number, worker in list(self.running.items()):
            if held.get(number) != worker.lease or number in surplus or not worker.well:
                log.info("partition ends here", partition=number, epoch=worker.lease.epoch)
                worker.stop()
                self._ending.append(self.running.pop(number))
        self._ending = [worker for worker in self._ending if worker.alive]
        closing = {worker.lease for worker in self._ending}
        for number, lease in held.items():
            if number not in self.running and number not in surplus and lease not in closing:
                self.running[number] = PartitionWorker(self, lease)
                self.running[number].start()

    def _follow_plan(self) -> None:
        with self.resources.database.read() as connection:
            version = leases.plan_version(connection)
            if version != self._plan:
                self._homes = leases.routes(connection)
                count = leases.partition_count(connection)
        if version != self._plan:
            self.transport.ensure(count)
            self._plan = version

    def _stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)
        ending = [*self.running.values(), *self._ending]
        for worker in ending:
            worker.stop()
        for worker in ending:
            worker.join(DRAIN_TIMEOUT_S)
        try:
            self.leases.leave()
        except StorageUnavailable as error:
            log.warning("the leases were not given back; they expire", error=str(error))
        self.transport.close()

    def _health(self, now_ms: int) -> Sequence[Part]:
        numbers = ", ".join(map(str, sorted(self.running))) or "–"
        detail = self._error or f"partitions {numbers}"
        text = say("health.partitions", numbers=numbers)
        return [Part("partitions", self.alive and not self._error, detail, text=text)]
