"""A LoRaWAN network server: publishes the uplinks of its devices as The Things Stack does, as JSON over MQTT."""

import itertools
import json
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from infra.times import rfc3339
from sensors.wire.telemetry import Sample
from simulator.devices.fleet import Connection
from simulator.devices.transport import Transmission, TransmissionKind
from simulator.play import LineState

APPLICATION: Final = "riverchief-demo"
TENANT: Final = "ttn"
TTN_NAMES: Final = {"water_temp": "temperature", "do": "dissolved_oxygen", "nh3n": "ammonia"}
"""Parameters that the payload formatter calls otherwise."""


class NetworkServer:
    """A :class:`simulator.play.Line` for stations whose device speaks LoRaWAN; ``devices`` has their names there."""

    def __init__(self, devices: Mapping[str, str], about: Connection) -> None:
        self._devices = devices
        self._about = about
        self._counts = {station: itertools.count(1) for station in devices}
        self._changed = threading.Condition()
        self._under_way = self._acked = 0
        client = self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="lorawan-network-server")
        if about.user is not None:
            client.username_pw_set(about.user, about.password)
        if isinstance(about.tls, ssl.SSLContext):
            client.tls_set_context(about.tls)
        client.on_publish = self._published
        client.connect_async(about.host, about.port, about.keep_alive_s)
        client.loop_start()

    def reachable(self, station: str) -> bool:
        return bool(self._client.is_connected())

    def put(self, put: Transmission) -> None:
        if put.kind is TransmissionKind.TELEMETRY and put.message is not None:
            for sample in put.message.samples:
                self._uplink(put.station, sample)

    def state(self) -> LineState:
        name = f"LoRaWAN MQTT {self._about.host}:{self._about.port}"
        with self._changed:
            return LineState(name, int(self._client.is_connected()), 1, self._under_way, self._acked)

    def flush(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._under_way, timeout_s)

    def close(self, timeout_s: float) -> bool:
        done = self.flush(timeout_s)
        self._client.disconnect()
        self._client.loop_stop()
        return done

    def _uplink(self, station: str, sample: Sample) -> None:
        device = self._devices[station]
        with self._changed:
            self._under_way += 1
        body = uplink(device, next(self._counts[station]), sample)
        self._client.publish(f"v3/{APPLICATION}@{TENANT}/devices/{device}/up", json.dumps(body), qos=1)

    def _published(self, _client: Any, _userdata: Any, _mid: int, _reason: Any, _properties: Any) -> None:
        with self._changed:
            self._under_way -= 1
            self._acked += 1
            self._changed.notify_all()


def uplink(device: str, count: int, sample: Sample) -> dict[str, Any]:
    """An uplink message of The Things Stack v3."""
    at = rfc3339(sample.at_ms)
    return {
        "end_device_ids": {
            "device_id": device,
            "application_ids": {"application_id": APPLICATION},
            "dev_eui": "70B3D57ED0000001",
        },
        "received_at": at,
        "uplink_message": {
            "f_port": 2,
            "f_cnt": count,
            "decoded_payload": {TTN_NAMES.get(key, key): value for key, value in sample.values.items()},
            "rx_metadata": [{"gateway_ids": {"gateway_id": "shiwan-gateway"}, "rssi": -97, "snr": 6.5}],
            "received_at": at,
        },
    }
