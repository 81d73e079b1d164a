"""The scripts that ``bench peers`` compares with: MQTT to InfluxDB as people write it, started as a process.

``python peer_script.py KIND ORDERS``, ORDERS as JSON; imports nothing of this repository. InfluxDB 1.6 does not know
the path that influxdb-client writes to (1.8 does): its request goes to ``/write``, the rest is the client's own.
"""

import json
import sys
import time
from typing import Any

import httpx
import paho.mqtt.client as paho
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import SYNCHRONOUS, WriteOptions
from influxdb_client.domain.write_precision import WritePrecision
from paho.mqtt.enums import CallbackAPIVersion

BUCKET = "bench"
BATCH = 5000
"""Points a request: what InfluxData's documentation recommends."""


def subscribe(orders: dict[str, Any], options: WriteOptions) -> None:
    """Subscribe, turn each message into a point and hand it to influxdb-client; never ends."""
    database = InfluxDBClient(orders["influx"], token="", org="bench")
    _address_to_1x(database)
    writer = database.write_api(write_options=options)

    def on_message(_client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        station = message.topic.split("/")[2]
        for reading in json.loads(message.payload)["readings"]:
            point = Point("water").tag("station", station).time(reading["at"], WritePrecision.MS)
            for key, value in reading["values"].items():
                point.field(key, value)
            writer.write(BUCKET, record=point)

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="peer", clean_session=False)
    client.username_pw_set(orders["user"], orders["password"])
    client.on_message = on_message
    client.on_connect = lambda c, *_: c.subscribe("rivers/v1/+/telemetry", 1)
    client.connect(orders["host"], orders["port"])
    client.loop_forever()


def write_directly(orders: dict[str, Any]) -> None:
    """Make the lines, wait for a line on stdin, then post them in batches: no broker, no decoding."""
    lines = [
        f"water,station=bench-{number % orders['stations']} water_temp=25.1,ph=7.11,do=5.02,conductivity=401.3,"
        f"turbidity=20.1,nh3n=0.9{number % 97:02d} {1_764_000_000_000 + number // orders['stations'] * 60_000}"
        for number in range(orders["messages"])
    ]
    bodies = ["\n".join(lines[start : start + BATCH]).encode() for start in range(0, len(lines), BATCH)]
    with httpx.Client(base_url=orders["influx"], trust_env=False, timeout=60) as http:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        for body in bodies:
            http.post("/write", params={"db": BUCKET, "precision": "ms"}, content=body).raise_for_status()
    time.sleep(600)  # measured and ended by the benchmark


def _address_to_1x(database: InfluxDBClient) -> None:
    client: Any = database.api_client  # its own methods are replaced
    call = client.call_api

    def call_api(path: str, method: str, *args: Any, **options: Any) -> Any:
        return call("/write" if path == "/api/v2/write" else path, method, *args, **options)

    def with_db(params: Any, *args: Any) -> Any:
        return [*quote(params, *args), ("db", BUCKET)]

    client.call_api, quote = call_api, client.parameters_to_tuples
    client.parameters_to_tuples = with_db


def main() -> None:
    """One script, by name."""
    kind, orders = sys.argv[1], json.loads(sys.argv[2])
    if kind == "direct":
        write_directly(orders)
    else:
        subscribe(orders, SYNCHRONOUS if kind == "points" else WriteOptions(batch_size=BATCH, flush_interval=1000))


if __name__ == "__main__":
    main()
