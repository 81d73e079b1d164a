"""Devices that are connected and send nothing do not keep one that sends from being stored.

200 connections of each kind; with ``RIVERCHIEF_LONG=1`` 10,000 of HJ 212 and 5,000 of MQTT. What they cost is printed
(``-s``).
"""

import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from infra.clock import now_ms
from ingest.storage import loggers as logger_store
from ingest.storage.sql import SqlReadings
from riverchief.brokers.local import Broker, free_port
from sensors.parameters import catalogue
from sensors.stations import Station
from sensors.wire.hj212 import frame
from sensors.wire.hj212.packet import write_qn, write_time
from sensors.wire.hj212.readings import Logger
from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Connection, Fleet
from tests.faults.test_kill import subscribed
from tests.hj212_site import PASSWORD, Wire
from tests.long import LONG
from tests.rig import Running, eventually

pytestmark = pytest.mark.broker

LOGGERS, DEVICES = (10_000, 5_000) if LONG else (200, 200)
STATIONS = 100
IDLE_S = 30 if LONG else 1
CONNECT, CONNACK = 0x10, bytes((0x20, 2, 0, 0))


@pytest.mark.timeout(900 if LONG else 120)
def test_beside_thousands_of_idle_connections_readings_are_stored(running: Callable[..., Running]) -> None:
    _allow_files(LOGGERS + DEVICES + 1000)
    site = running("mosquitto")
    port = free_port()
    site.more = f"[hj212]\nenabled = true\nhost = '127.0.0.1'\nport = {port}\nmax_connections = {LOGGERS}\n"
    site.register(*(Station(f"s{i}", f"s{i}", f"s{i}", 113.1, 23.0, interval_s=60) for i in range(STATIONS)))
    with site.database.write() as connection:
        for i in range(LOGGERS):
            logger_store.save(connection, Logger(f"{i:024X}", f"s{i % STATIONS}", PASSWORD))
    site.start()
    eventually("the ingest subscribes", lambda: subscribed(site))
    eventually("it listens to loggers", lambda: _reachable(port))
    assert site.process is not None
    assert site.broker.pid is not None
    before = _memory_mb(site.process.pid), _memory_mb(site.broker.pid)
    began_ms = now_ms() // 1000 * 1000 - 10_000_000
    with ExitStack() as stack:
        wires = [stack.enter_context(_spoken(port, i, began_ms)) for i in range(LOGGERS)]
        for i in range(DEVICES):
            stack.enter_context(_signed_in(site.broker, i))
        after = _memory_mb(site.process.pid), _memory_mb(site.broker.pid)
        busy, at = (_cpu_s(site.process.pid), _cpu_s(site.broker.pid)), time.monotonic()
        time.sleep(IDLE_S)
        idle_s = time.monotonic() - at
        busy_share = [(_cpu_s(pid) - used) / idle_s for pid, used in zip(_pids(site), busy, strict=True)]
        for number, wire in ((LOGGERS, wires[0]), (LOGGERS + 1, wires[-1])):  # the first and the last still stand
            wire.send(_packet(0 if wire is wires[0] else LOGGERS - 1, began_ms + 1000 * number))
            assert wire.answer()[0] == "9014"
        device = Connection(site.broker.host, site.broker.port, site.broker.device.user, site.broker.device.password)
        with Fleet(["s1"], device, boot=1) as fleet:
            fleet["s1"].publish([Sample(now_ms(), {"ph": 7.1})], now_ms())
            eventually("a reading over MQTT is stored", lambda: _stored(site) == LOGGERS + 3)
        print(
            f"\n{LOGGERS} loggers: {(after[0] - before[0]) * 1024 / LOGGERS:.1f} kB of the ingest each, "
            f"{busy_share[0]:.1%} of a core; {DEVICES} devices: {(after[1] - before[1]) * 1024 / DEVICES:.1f} kB of "
            f"the broker each, {busy_share[1]:.1%} of a core"
        )
    assert site.stop() == 0, site.log()


@contextmanager
def _spoken(port: int, number: int, began_ms: int) -> Iterator[Wire]:
    """A logger that sent one reading and had its answer."""
    wire = Wire(port)
    try:
        wire.send(_packet(number, began_ms + 1000 * number))
        assert wire.answer()[0] == "9014"
        yield wire
    finally:
        wire.close()


def _packet(number: int, at_ms: int) -> bytes:
    text = (
        f"QN={write_qn(now_ms())};ST=21;CN=2011;PW={PASSWORD};MN={number:024X};Flag=5;"
        f"CP=&&DataTime={write_time(at_ms)};w01001-Rtd=7.1&&"
    )
    return frame.build(text.encode("gbk"))


@contextmanager
def _signed_in(broker: Broker, number: int) -> Iterator[socket.socket]:
    """An MQTT device that signed in and says nothing: keep-alive 0."""
    names = (f"idle-{number}", broker.device.user, broker.device.password)
    payload = b"".join(len(name).to_bytes(2, "big") + name.encode() for name in names)
    body = b"\0\x04MQTT\x04\xc2\0\0" + payload
    with socket.create_connection((broker.host, broker.port), timeout=30) as one:
        assert len(body) < 128, "its length is one byte"
        one.sendall(bytes((CONNECT, len(body))) + body)
        assert one.recv(4) == CONNACK
        yield one


def _reachable(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def _stored(site: Running) -> int:
    return sum(SqlReadings(site.database, catalogue()).count().values())


def _pids(site: Running) -> tuple[int, int]:
    assert site.process is not None
    assert site.broker.pid is not None
    return site.process.pid, site.broker.pid


def _memory_mb(pid: int) -> float:
    resident = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(resident) * resource.getpagesize() / 2**20


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"only {hard} open files are allowed here")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
