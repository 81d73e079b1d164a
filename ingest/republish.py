"""Publish good, converted values and live states for others: ``rivers/v1/{station}/observed``, retained, QoS 1.

A message holds the newest usable reading of each parameter in the store (docs/integration.md), as does
``GET /stations/{id}/latest``: bad readings never appear, late ones overwrite nothing, and a reading that is flagged
later is replaced.

Ingest never waits for this: the intake adds stations to a set, and a thread with a connection of its own reads the
store and publishes.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import msgspec
import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from infra.database import Database
from infra.errors import StorageUnavailable
from infra.times import rfc3339
from ingest.analysis import live_classes
from ingest.analysis.live_classes import ShownClass
from ingest.pipeline import Outcome
from ingest.sources.mqtt import MqttSettings, sign_in
from ingest.storage import changes
from ingest.storage import registry as registry_store
from ingest.storage.port import Latest, ReadingStore
from sensors.parameters import Catalogue
from sensors.reading import Message
from sensors.reporting import Reporting, reporting
from sensors.stations import Registry, Station
from sensors.wire.telemetry import topic

log = structlog.get_logger(__name__)

VERSION = 1
KIND = "observed"
MAX_UNCONFIRMED = 100
"""Publications that may wait for the broker's confirmation."""
STATIONS_PER_QUERY = 200
"""Stations read from the store at a time, which takes some milliseconds."""
MIN_PAUSE_S, PAUSE_FACTOR = 0.2, 9.0
"""Pause after a round of publishing: at least so many seconds, and so many times its duration."""
STATES_S = 5.0
"""Interval of the check for stations that became late or offline, were registered or removed."""
CLASSES_S = 20.0
"""Interval at which the live classes are read, which are judged once a minute."""
CLASS_MAX_AGE_MS = 600_000
"""A class that was judged longer ago is published as null."""
RETRY_S = 1.0


class Republisher:
    """A thread with its connection; ``on_batch`` is a callback of the intake."""

    def __init__(
        self,
        database: Database,
        store: ReadingStore,
        catalogue: Catalogue,
        settings: MqttSettings,
        *,
        clock_ms: Callable[[], int],
        states_s: float = STATES_S,
        classes_s: float = CLASSES_S,
    ) -> None:
        self._database = database
        self._store = store
        self._catalogue = catalogue
        self._settings = settings
        self._clock_ms = clock_ms
        self._states_s = states_s
        self._classes_s = classes_s
        self._registry = Registry()
        self._fingerprint: int | None = None
        self._lock = threading.Lock()
        self._dirty: set[str] = set()  # stations to publish; under the lock
        self._retained: set[str] = set()  # stations with a retained message; under the lock
        self._newest: dict[str, int] = {}  # newest reading of any flag, by station
        self._classes: dict[str, ShownClass] = {}
        self._next_classes = 0.0
        self._last_published: dict[str, dict[str, Any]] = {}  # by station
        self._connection = 0  # number of the connection; publications on an earlier one may be lost
        self._published_for = 0
        self._listening = False
        self._echoed = False
        self._denied = False
        self._sent = 0
        self._sent_before = 0  # over earlier connections
        self._confirmed = 0
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="republisher", daemon=True)
        self._client = self._make_client()
        self.connected_since_ms: int | None = None
        self.last_error = ""
        self.published = 0

    def on_batch(self, messages: Sequence[Message], _outcome: Outcome) -> None:
        """Note that readings of these stations were stored; never blocks."""
        stations = {m.station for m in messages if m.kind == "telemetry"}
        with self._lock:
            self._dirty |= stations
        self._woken.set()

    @property
    def waiting(self) -> int:
        """Stations whose newest values are not published yet."""
        return len(self._dirty)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        """Connect and publish in the background; an unavailable broker is tried again."""
        self._client.connect_async(self._settings.host, self._settings.port, self._settings.keepalive_s)
        self._client.loop_start()
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Disconnect; what is not published yet is published after the next start."""
        self._stopping.set()
        self._woken.set()
        self._thread.join(timeout_s)
        self._client.disconnect()
        self._client.loop_stop()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_check = 0.0
        while not self._stopping.is_set():
            self._woken.wait(max(0.0, next_check - time.monotonic()))
            self._woken.clear()
            if self.connected_since_ms is None:
                next_check = time.monotonic() + RETRY_S
                continue
            began = time.monotonic()
            try:
                if began >= next_check or self._published_for != self._connection:
                    self._check_states()
                    next_check = time.monotonic() + self._states_s
                self._publish_dirty()
            except StorageUnavailable as error:
                log.warning("values are not published: the store does not answer", error=str(error))
                self._stopping.wait(RETRY_S)
            except Exception:
                log.exception("values could not be published")
                self._stopping.wait(RETRY_S)
            self._stopping.wait(max(MIN_PAUSE_S, PAUSE_FACTOR * (time.monotonic() - began)))

    def _check_states(self) -> None:
        """Mark what changed by time or in the registry; after a new connection, all stations."""
        self._reload_registry()
        self._reload_classes()
        keys = set(self._registry.index)
        with self._lock:
            strangers = self._retained - keys
            self._retained.clear()
        for key in sorted(strangers | (self._last_published.keys() - keys)):
            self._send(key, b"")
            self._last_published.pop(key, None)
            self._newest.pop(key, None)
        if self._published_for != self._connection:
            self._published_for = self._connection
            self._last_published.clear()
            stale = keys
        else:
            now_ms = self._clock_ms()
            stale = {
                s.key
                for s in self._registry.stations
                if s.key not in self._last_published or not self._is_current(s, self._last_published[s.key], now_ms)
            }
            self._stop_listening(bool(strangers))
        with self._lock:
            self._dirty |= stale

    def _reload_registry(self) -> None:
        with self._database.read() as connection:
            fingerprint = changes.fingerprint(connection)
            if fingerprint != self._fingerprint:
                self._registry = registry_store.load(connection, self._catalogue)
                self._fingerprint = fingerprint

    def _reload_classes(self) -> None:
        if time.monotonic() < self._next_classes:
            return
        with self._database.read() as connection:
            self._classes = live_classes.current_classes(connection, live_classes.STATION)
        self._next_classes = time.monotonic() + self._classes_s

    def _is_current(self, station: Station, published: dict[str, Any], now_ms: int) -> bool:
        """Whether the published state and class of a station still hold."""
        return (
            published["state"] == self._state(station, now_ms)
            and published.items() >= self._class(station, now_ms).items()
        )

    def _publish_dirty(self) -> None:
        while self.connected_since_ms is not None and not self._stopping.is_set():
            with self._lock:
                stations = set(islice(self._dirty, STATIONS_PER_QUERY))
                self._dirty -= stations
            if not stations:
                return
            done = False
            try:
                done = self._publish(stations)
            finally:
                if not done:
                    with self._lock:
                        self._dirty |= stations
            if not done:
                return

    def _publish(self, stations: set[str]) -> bool:
        """Publish what changed at these stations; false where the connection was lost before all was sent."""
        known = [key for key in sorted(stations) if key in self._registry]
        rows: dict[str, list[Latest]] = {key: [] for key in known}
        for row in self._store.latest(known):
            rows[row.station].append(row)
        for key, found in rows.items():
            now_ms = self._clock_ms()
            if found:
                self._newest[key] = max(row.newest_at_ms for row in found)
            body = self._observed(self._registry[key], found, now_ms)
            if self._last_published.get(key) != body:
                if not self._send(key, msgspec.json.encode({**body, "published_at": rfc3339(now_ms)})):
                    return False
                self._last_published[key] = body
        return True

    def _observed(self, station: Station, rows: Iterable[Latest], now_ms: int) -> dict[str, Any]:
        """The message (docs/integration.md), without the time of its publication."""
        index = self._catalogue.index
        usable = sorted((r for r in rows if r.at_ms is not None), key=lambda r: index[r.parameter])
        at_ms = max((r.at_ms for r in usable if r.at_ms is not None), default=None)
        newest_ms = self._newest.get(station.key)
        return {
            "version": VERSION,
            "station": station.key,
            "state": self._state(station, now_ms),
            **self._class(station, now_ms),
            "at": None if at_ms is None else rfc3339(at_ms),
            "values": {r.parameter: r.value for r in usable},
            "units": {r.parameter: self._catalogue[r.parameter].unit for r in usable},
            "flags": {r.parameter: r.packed & 15 for r in usable},
            "times": {r.parameter: rfc3339(r.at_ms) for r in usable if r.at_ms is not None},
            "newest_at": None if newest_ms is None else rfc3339(newest_ms),
            "interval_s": station.interval_s,
        }

    def _state(self, station: Station, now_ms: int) -> Reporting:
        retired = station.key in self._registry.retired
        return reporting(self._newest.get(station.key), station.interval_s, now_ms, retired=retired)

    def _class(self, station: Station, now_ms: int) -> dict[str, Any]:
        """The live class (GB 3838) and its deciding parameters; null and empty where it cannot be judged."""
        one = self._classes.get(station.key)
        if one is None or one.water_class is None or now_ms - one.at_ms > CLASS_MAX_AGE_MS:
            return {"class": None, "deciding": ()}
        return {"class": one.water_class.roman, "deciding": one.deciding}

    def _send(self, station: str, body: bytes) -> bool:
        """Publish once few enough are unconfirmed; false without a connection."""
        while self._sent - self._confirmed >= MAX_UNCONFIRMED:
            if self._stopping.is_set() or self.connected_since_ms is None:
                return False
            time.sleep(0.005)
        sent = self._client.publish(topic(station, KIND), body, qos=1, retain=True)
        self._sent += 1  # paho queues it and sends it after a reconnect
        self.published += 1
        return sent.rc is MQTTErrorCode.MQTT_ERR_SUCCESS

    def _stop_listening(self, more_expected: bool) -> None:
        """Unsubscribe once all retained messages have arrived.

        By then one of our own messages must have come back: some brokers silently drop what we may not publish.
        """
        if not self._listening or more_expected:
            return
        self._listening = False
        self._client.unsubscribe(topic("+", KIND))
        if self._sent > self._sent_before and not self._echoed:
            self._report_denied("what we publish does not come back")

    # -- the network thread ------------------------------------------------------------------------------------------

    def _make_client(self) -> paho.Client:
        s = self._settings
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{s.client_id}-observed",
            protocol=MQTTProtocolVersion.MQTTv5 if s.version == 5 else MQTTProtocolVersion.MQTTv311,
        )
        sign_in(client, s)
        client.max_inflight_messages_set(MAX_UNCONFIRMED)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _on_connect(
        self, client: paho.Client, _userdata: Any, _flags: paho.ConnectFlags, reason: ReasonCode, _p: Properties | None
    ) -> None:
        if reason.is_failure:
            self.last_error = f"the broker refuses the connection: {reason}"
            log.error("mqtt refused", client=f"{self._settings.client_id}-observed", reason=str(reason))
            return
        if not self._denied:
            self.last_error = ""
        self._sent_before = self._sent
        self._echoed = False
        self._listening = True
        client.subscribe(topic("+", KIND), 1)
        self._connection += 1
        self.connected_since_ms = self._clock_ms()
        self._woken.set()

    def _on_connect_fail(self, _client: paho.Client, _userdata: Any) -> None:
        self.last_error = f"no connection to {self._settings.host}:{self._settings.port}"

    def _on_disconnect(
        self, _client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _p: Properties | None
    ) -> None:
        self.connected_since_ms = None
        if self._stopping.is_set():
            return
        self.last_error = f"connection lost: {reason}"
        if self._sent > self._sent_before and not self._echoed:
            self._report_denied("the broker ends the connection when we publish")

    def _on_publish(
        self, _client: paho.Client, _userdata: Any, _mid: int, _reason: ReasonCode, _p: Properties | None
    ) -> None:
        self._confirmed += 1

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        if not message.retain:
            if self._denied:
                self._denied, self.last_error = False, ""
            self._echoed = True
        elif message.payload:
            with self._lock:
                self._retained.add(message.topic.split("/")[2])

    def _report_denied(self, what: str) -> None:
        user = self._settings.user or "anonymous"
        self.last_error = f"{what}: user {user} needs to write and read {topic('+', KIND)}"
        if not self._denied:
            self._denied = True
            log.error("values are not published", reason=self.last_error)
