"""Good, converted values and live states for others to build on: ``rivers/v1/{station}/observed``, retained, QoS 1.

The message is what the store says is the newest usable reading of each parameter (docs/operations/observed.md), so it
can say nothing that ``GET /stations/{id}/latest`` does not: bad readings never appear, late ones overwrite nothing, a
reading that loses its good name is taken back, and after a restart everything is there again.

Ingest never waits for this. The intake tells which stations it has heard of, a set; a thread with a connection of its
own asks the store for them and publishes. However fast readings come, a station waits in the set once.
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
WINDOW = 100
"""Publications the broker has not confirmed; while so many are under way the rest waits, and grows newer meanwhile."""
AT_ONCE = 200
"""Stations asked of the store at a time: some milliseconds, so that readings do not wait for the interpreter."""
ROUND_S, REST = 0.2, 9.0
"""A round of publishing is followed by a rest of at least so many seconds, and of so many times its own length."""
STATES_S = 5.0
"""How often is looked for stations that became late or offline, were registered or removed."""
CLASSES_S = 20.0
"""How often the live classes are read, which are judged once a minute."""
CLASS_OLD_MS = 600_000
"""A class that nobody has judged for so long is none."""
RETRY_S = 1.0


class Republisher:
    """A thread and a connection. ``heard`` is made to be a watcher of the intake."""

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
        self._retained: set[str] = set()  # stations the broker keeps a message of; under the lock
        self._newest: dict[str, int] = {}  # newest reading of any flag, by station
        self._classes: dict[str, ShownClass] = {}
        self._next_classes = 0.0
        self._told: dict[str, dict[str, Any]] = {}  # what was published last, by station
        self._connection = 0  # counts connections; what was published over an earlier one may be lost
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

    def heard(self, messages: Sequence[Message], _outcome: Outcome) -> None:
        """Readings of these stations were stored; cheap, never blocks."""
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
        """Connect and publish in the background; a broker that is away now is tried again until it is there."""
        self._client.connect_async(self._settings.host, self._settings.port, self._settings.keepalive_s)
        self._client.loop_start()
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Leave; what is not published yet is published after the next start."""
        self._stopping.set()
        self._woken.set()
        self._thread.join(timeout_s)
        self._client.disconnect()
        self._client.loop_stop()

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_look = 0.0
        while not self._stopping.is_set():
            self._woken.wait(max(0.0, next_look - time.monotonic()))
            self._woken.clear()
            if self.connected_since_ms is None:
                next_look = time.monotonic() + RETRY_S
                continue
            began = time.monotonic()
            try:
                if began >= next_look or self._published_for != self._connection:
                    self._look()
                    next_look = time.monotonic() + self._states_s
                self._publish_dirty()
            except StorageUnavailable as error:
                log.warning("values are not published: the store does not answer", error=str(error))
                self._stopping.wait(RETRY_S)
            except Exception:
                log.exception("values could not be published")
                self._stopping.wait(RETRY_S)
            self._stopping.wait(max(ROUND_S, REST * (time.monotonic() - began)))

    def _look(self) -> None:
        """What the clock and the registry change, and everything once after a connection began."""
        self._follow_registry()
        self._follow_classes()
        keys = set(self._registry.index)
        with self._lock:
            strangers = self._retained - keys
            self._retained.clear()
        for key in sorted(strangers | (self._told.keys() - keys)):
            self._send(key, b"")
            self._told.pop(key, None)
            self._newest.pop(key, None)
        if self._published_for != self._connection:
            self._published_for = self._connection
            self._told.clear()
            stale = keys
        else:
            now_ms = self._clock_ms()
            stale = {
                s.key
                for s in self._registry.stations
                if s.key not in self._told or not self._still_true(s, self._told[s.key], now_ms)
            }
            self._stop_listening(bool(strangers))
        with self._lock:
            self._dirty |= stale

    def _follow_registry(self) -> None:
        with self._database.read() as connection:
            fingerprint = registry_store.fingerprint(connection)
            if fingerprint != self._fingerprint:
                self._registry = registry_store.load(connection, self._catalogue)
                self._fingerprint = fingerprint

    def _follow_classes(self) -> None:
        if time.monotonic() < self._next_classes:
            return
        with self._database.read() as connection:
            self._classes = live_classes.current_classes(connection, live_classes.STATION)
        self._next_classes = time.monotonic() + self._classes_s

    def _still_true(self, station: Station, told: dict[str, Any], now_ms: int) -> bool:
        """Whether what was published of a station still holds as far as the clock decides it."""
        return told["state"] == self._state(station, now_ms) and told.items() >= self._class(station, now_ms).items()

    def _publish_dirty(self) -> None:
        while self.connected_since_ms is not None and not self._stopping.is_set():
            with self._lock:
                stations = set(islice(self._dirty, AT_ONCE))
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
        """Publish what changed of these stations; false when the connection was lost before all of it was sent."""
        known = [key for key in sorted(stations) if key in self._registry]
        rows: dict[str, list[Latest]] = {key: [] for key in known}
        for row in self._store.latest(known):
            rows[row.station].append(row)
        for key, found in rows.items():
            now_ms = self._clock_ms()
            if found:
                self._newest[key] = max(row.newest_at_ms for row in found)
            said = self._observed(self._registry[key], found, now_ms)
            if self._told.get(key) != said:
                if not self._send(key, msgspec.json.encode({**said, "published_at": rfc3339(now_ms)})):
                    return False
                self._told[key] = said
        return True

    def _observed(self, station: Station, rows: Iterable[Latest], now_ms: int) -> dict[str, Any]:
        """The message (docs/operations/observed.md), without the time of its publication."""
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
        return reporting(self._newest.get(station.key), station.interval_s, now_ms)

    def _class(self, station: Station, now_ms: int) -> dict[str, Any]:
        """The live class (GB 3838) and the parameters that decide it; null and none where it cannot be judged."""
        one = self._classes.get(station.key)
        if one is None or one.water_class is None or now_ms - one.at_ms > CLASS_OLD_MS:
            return {"class": None, "deciding": ()}
        return {"class": one.water_class.roman, "deciding": one.deciding}

    def _send(self, station: str, body: bytes) -> bool:
        """Publish once there is room in the window; false when there is no connection to publish over."""
        while self._sent - self._confirmed >= WINDOW:
            if self._stopping.is_set() or self.connected_since_ms is None:
                return False
            time.sleep(0.005)
        sent = self._client.publish(topic(station, KIND), body, qos=1, retain=True)
        self._sent += 1  # paho keeps what it could not send, and sends it when it is connected again
        self.published += 1
        return sent.rc is MQTTErrorCode.MQTT_ERR_SUCCESS

    def _stop_listening(self, more_may_come: bool) -> None:
        """Retained messages have all arrived; from now on we would hear only ourselves.

        By then we must have heard ourselves once: some brokers accept what we may not write, and drop it in silence.
        """
        if not self._listening or more_may_come:
            return
        self._listening = False
        self._client.unsubscribe(topic("+", KIND))
        if self._sent > self._sent_before and not self._echoed:
            self._tell_denied("what we publish does not come back")

    # -- the network thread ------------------------------------------------------------------------------------------

    def _make_client(self) -> paho.Client:
        s = self._settings
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{s.client_id}-observed",
            protocol=MQTTProtocolVersion.MQTTv5 if s.version == 5 else MQTTProtocolVersion.MQTTv311,
        )
        sign_in(client, s)
        client.max_inflight_messages_set(WINDOW)
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
            self._tell_denied("the broker ends the connection when we publish")

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

    def _tell_denied(self, what: str) -> None:
        user = self._settings.user or "anonymous"
        self.last_error = f"{what}: user {user} needs to write and read {topic('+', KIND)}"
        if not self._denied:
            self._denied = True
            log.error("values are not published", reason=self.last_error)
