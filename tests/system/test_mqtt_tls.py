"""A broker by settings: encrypted, both protocol versions, and a certificate nobody vouches for is not believed."""

import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from infra.clock import now_ms
from infra.database import Database
from ingest.storage import registry as registry_store
from ingest.storage.port import series
from ingest.storage.sql import SqlReadings
from riverchief.brokers.local import find, free_port
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from sensors.wire.telemetry import Sample, Telemetry, encode, topic
from tests import preloaded
from tests.databases import with_tables
from tests.rig import eventually

pytestmark = pytest.mark.broker


def certificates(folder: Path) -> Path:
    """A self-signed authority for 127.0.0.1; returns its certificate, the key lies beside it."""
    openssl = shutil.which("openssl")
    assert openssl is not None
    extension = ["-addext", "subjectAltName=IP:127.0.0.1"]
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
        *extension,
    ]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.pem")]
    preloaded.run(command, check=True, capture_output=True)
    return folder / "ca.pem"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    ca = certificates(tmp_path)
    port = free_port()
    _, path = find("mosquitto")
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\ncertfile {ca}\nkeyfile {tmp_path / 'key.pem'}\nallow_anonymous true\nuser root\n"
        "max_inflight_messages 8000\nmax_queued_messages 0\n"
    )
    process = subprocess.Popen([path, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port, ca
    finally:
        process.terminate()
        process.wait(10)


def prepared(folder: Path, port: int, more: str) -> tuple[Path, Database]:
    database = Database(f"sqlite:///{folder / 'riverchief.db'}")
    with_tables(database)
    with database.write() as connection:
        station = Station("s1", "站一", "station one", 113.1, 23.0)
        registry_store.save(connection, Registry((station,), catalogue=catalogue()))
    settings = folder / "settings.toml"
    settings.write_text(f"data = '{folder}'\n[mqtt]\nport = {port}\ntls = true\n{more}")
    return settings, database


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_readings_arrive_encrypted_and_are_acknowledged(tmp_path: Path, broker: tuple[int, Path], version: str) -> None:
    port, ca = broker
    settings, database = prepared(tmp_path, port, f"version = '{version}'\nca_file = '{ca}'\n")
    store = SqlReadings(database, catalogue())
    command = [sys.executable, "-m", "riverchief", "ingest", "--settings", str(settings)]
    device = paho.Client(CallbackAPIVersion.VERSION2, client_id="device")
    device.tls_set(str(ca), cert_reqs=ssl.CERT_REQUIRED)
    eventually("the broker listens", lambda: _connects(device, port))
    device.loop_start()
    process = preloaded.Popen(command)
    try:
        start_ms, sent = now_ms() - 600_000, 0

        def published() -> bool:
            nonlocal sent
            sent += 1
            payload = encode(Telemetry((Sample(start_ms + sent, {"ph": 7.0}),)))
            device.publish(topic("s1"), payload, qos=1).wait_for_publish(10)
            return bool(store.count())

        eventually("the first reading is stored", published)
        first = series(store, "s1", "ph", start_ms, now_ms(), 10_000).at[0] - start_ms
        for _ in range(50):
            published()
        eventually("all are stored", lambda: store.newest("s1")["ph"] == start_ms + sent)
        assert store.count() == {"s1": sent - first + 1}, "from the first subscription on, none is missing"
        process.terminate()
        assert process.wait(30) == 0
        # what was acknowledged is not delivered again to the same session
        process = preloaded.Popen(command)
        published()
        eventually("the next one is stored", lambda: store.newest("s1")["ph"] == start_ms + sent)
        process.terminate()
        assert process.wait(30) == 0
        with database.read() as connection:
            again = connection.exec_driver_sql("SELECT sum(duplicate) FROM ledger").scalar_one()
        assert again == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        device.disconnect()
        device.loop_stop()
        database.close()


def _connects(client: paho.Client, port: int) -> bool:
    try:
        client.connect("127.0.0.1", port)
    except OSError:
        return False
    return True


def test_a_certificate_nobody_vouches_for_is_not_believed(tmp_path: Path, broker: tuple[int, Path]) -> None:
    port, ca = broker
    (tmp_path / "site").mkdir()
    settings, database = prepared(tmp_path / "site", port, "")
    device = paho.Client(CallbackAPIVersion.VERSION2, client_id="device")
    device.tls_set(str(ca), cert_reqs=ssl.CERT_REQUIRED)
    eventually("the broker listens", lambda: _connects(device, port))
    device.disconnect()
    api_port = free_port()
    settings.write_text(settings.read_text() + f"[api]\nport = {api_port}\n")
    process = preloaded.Popen([sys.executable, "-m", "riverchief", "serve", "--settings", str(settings)])
    try:

        def told() -> str | None:
            try:
                answer = httpx.get(f"http://127.0.0.1:{api_port}/readyz", timeout=2)
            except httpx.HTTPError:
                return None
            return answer.text if answer.status_code == 503 and "no connection" in answer.text else None

        assert "mqtt" in eventually("it says that it is not connected", told)
    finally:
        process.terminate()
        process.wait(30)
        database.close()
