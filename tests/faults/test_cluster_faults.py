"""Whatever fails in a cluster: what a device was acknowledged is stored once, no incident is opened twice, nobody is
paged twice, and the ledger closes. Real servers, real kill -9.

``make cluster-faults`` runs every fault on NATS, ``make kafka`` on Apache Kafka, and each writes its table of
docs/scale.md; other runs take the first ones, on NATS.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulator.devices.fleet import Fleet
from tests import kafka_cluster
from tests.cluster_site import ClusterSite
from tests.disk import Disk, impossible, not_installed
from tests.long import LONG
from tests.rig import eventually

pytest.importorskip("nats", reason="no nats-py here")

pytestmark = [pytest.mark.broker, pytest.mark.fault, pytest.mark.postgres]

TABLE = Path("docs/scale.md")
BEGIN = {"nats": "<!-- faults: written by make cluster-faults -->", "kafka": "<!-- faults: written by make kafka -->"}
END = "<!-- end of faults -->"
FROZEN_S = 9.0
"""Longer than a lease lasts."""


def worker_killed(site: ClusterSite) -> None:
    """kill -9 of a worker in a batch, then another joins"""
    site.kill("w1")
    eventually("the other takes over", lambda: site.shared_by("w2"), 60)
    if LONG:
        site.start("w1")
        eventually("both work", lambda: site.shared_by("w1", "w2"), 120)


def leader_killed(site: ClusterSite) -> None:
    """kill -9 of the leader of a stream, back after 3 s"""
    node = site.servers.leader(0)
    site.servers.kill(node)
    time.sleep(3)
    site.servers.begin(node)
    site.servers.healthy(node)


def two_nodes_killed(site: ClusterSite) -> None:
    """kill -9 of two of three nodes, back after 5 s"""
    for node in (0, 2):
        site.servers.kill(node)
    time.sleep(5)
    for node in (0, 2):
        site.servers.begin(node)
    for node in (0, 2):
        site.servers.healthy(node)


def bridge_killed(site: ClusterSite) -> None:
    """kill -9 of the bridge, started again"""
    before = site.log("bridge").count("mqtt connected")
    site.kill("bridge")
    site.start("bridge")
    eventually("the bridge is back", lambda: site.log("bridge").count("mqtt connected") > before)


def partitions_added(site: ClusterSite) -> None:
    """A worker that brings two more partitions joins, and leaves in order"""
    site.partitions += 2
    site.start("w3")
    eventually("three work", lambda: site.shared_by("w1", "w2", "w3"), 120)
    site.wait_for_growth()
    site.kill("w3", signal.SIGTERM)
    eventually("both work", lambda: site.shared_by("w1", "w2"), 60)


def worker_frozen(site: ClusterSite) -> None:
    """A worker frozen for 9 s, its partitions taken over, then woken"""
    site.kill("w1", signal.SIGSTOP)
    time.sleep(FROZEN_S)
    eventually("the other takes over", lambda: site.shared_by("w2"), 60)
    site.kill("w1", signal.SIGCONT)
    eventually("both work", lambda: site.shared_by("w1", "w2"), 60)


def database_cut_off(site: ClusterSite) -> None:
    """A worker cut off from the database for 9 s, its partitions taken over, then reached again"""
    site.database_proxy.cut.set()
    time.sleep(FROZEN_S)
    eventually("the other takes over", lambda: site.shared_by("w1"), 60)
    site.database_proxy.cut.clear()
    eventually("both work", lambda: site.shared_by("w1", "w2"), 60)


def node_replaced(site: ClusterSite) -> None:
    """A node removed with its disk, an empty one joins under its name"""
    site.servers.kill(1)
    time.sleep(2)
    site.servers.wipe(1)
    site.servers.begin(1)
    site.servers.healthy(1)


def pages_dropped(site: ClusterSite) -> None:
    """Power loss of a node: what it had not synced is gone"""
    site.volume.lose_power(lambda: site.servers.kill(0))
    site.servers.begin(0)
    site.servers.healthy(0)


FAULTS: list[Callable[[ClusterSite], None]] = [leader_killed, worker_killed]
MORE = [two_nodes_killed, bridge_killed, partitions_added, worker_frozen, database_cut_off, node_replaced]


class Traffic:
    """Devices that publish all the time, and the longest time in which nothing of one of them was stored."""

    def __init__(self, site: ClusterSite, fleet: Fleet) -> None:
        self._site, self._fleet = site, fleet
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._publish, self._watch)]
        self.longest_s = 0.0

    def __enter__(self) -> "Traffic":
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for one in self._threads:
            one.join(30)

    def _publish(self) -> None:
        while not self._ended.is_set():
            self._site.publish(self._fleet, 1, 0.05)

    def _watch(self) -> None:
        seen: dict[str, tuple[int, float]] = {}
        while not self._ended.wait(0.25):
            now = time.monotonic()
            for station, stored in self._site.stored_by_station().items():
                if seen.get(station, (0, now))[0] != stored:
                    seen[station] = (stored, now)
                self.longest_s = max(self.longest_s, now - seen.get(station, (0, now))[1])


@pytest.fixture(params=["nats", *(["kafka"] if LONG else [])])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ClusterSite]:
    if request.param == "kafka" and (why := kafka_cluster.missing()):
        pytest.skip(why)
    volume = Disk() if LONG and not (impossible() or not_installed()) else None
    made = ClusterSite(tmp_path, volume, engine=request.param)
    yield made
    made.close()
    if volume is not None:
        volume.close()


@pytest.mark.timeout(1500 if LONG else 280)
def test_whatever_fails_everything_acknowledged_is_stored_once_and_nobody_is_paged_twice(site: ClusterSite) -> None:
    site.start("bridge")
    site.start("w1")
    site.start("w2", url=site.proxied_url)
    eventually("both work", lambda: site.shared_by("w1", "w2"), 120)
    eventually("the bridge subscribes", lambda: "mqtt connected" in site.log("bridge"))
    rows = []
    with site.fleet() as fleet:
        site.publish(fleet, 40)
        site.stored(fleet)
        before = site.ledger_closes(fleet)
        faults = FAULTS + (MORE + [pages_dropped] * (site.volume is not None) if LONG else [])
        for fault in faults:
            with Traffic(site, fleet) as traffic:
                site.poison()
                site.wait_for_growth()
                fault(site)
                site.wait_for_growth()
            site.stored(fleet)
            after = site.ledger_closes(fleet)
            sent, stored, again = (after[key] - before[key] for key in ("sent", "stored", "again"))
            new = after["incidents"] - before["incidents"], after["pages"] - before["pages"]
            rows.append((fault.__doc__, sent, stored, again, *new, f"{traffic.longest_s:.1f}"))
            before = after
    assert site.quarantined() == 2 * len(faults), "each poison message stands there once, whole"
    assert all(row[4] == 0 and row[5] == 0 for row in rows), "a fault opened an incident or paged somebody"
    for name in [name for name, one in site.processes.items() if one.poll() is None]:
        site.kill(name, signal.SIGTERM)
        assert site.processes[name].returncode == 0, site.log(name)[-5000:]
    if LONG:
        write(rows, BEGIN[site.servers.kind])


def write(rows: list[tuple[object, ...]], begin: str) -> None:
    """The table, between its marks."""
    head = "| fault | readings sent | stored | duplicates | new incidents | new pages | longest pause, s |"
    lines = [head, "|---|---|---|---|---|---|---|", *(f"| {' | '.join(map(str, row))} |" for row in rows)]
    text = TABLE.read_text("utf-8")
    start = text.index(begin) + len(begin)
    end = text.index(END, start)
    TABLE.write_text(text[:start] + "\n" + "\n".join(lines) + "\n" + text[end:], "utf-8")
