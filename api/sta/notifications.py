"""Each new reading as an Observation over MQTT, on the topics that OGC SensorThings gives to entity sets.

``v1.1/Datastreams('ID')/Observations`` and ``v1.1/Observations``, and the same below ``v2.0``. The intake only puts
rows into a queue; a thread with a connection of its own makes the entities. What does not fit into the queue is left
out and counted: a subscriber that must miss nothing reads over HTTP.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion

from api.sta.answers import Answers, address
from api.sta.model import Site, Stream
from api.sta.observations import Reading
from ingest.pipeline import Outcome
from ingest.sources.mqtt import MqttSettings, sign_in
from ingest.storage.port import ReadingStore
from sensors.reading import Message
from sensors.stations import Registry

log = structlog.get_logger(__name__)

VERSIONS: Final = ("1.1", "2.0")
MOST_WAITING: Final = 20_000
"""Readings that may wait to be published."""
MOST_UNSENT: Final = 1_000
"""Publications that the connection may hold unconfirmed."""
PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Row:
    """A reading that is stored, and the registry by which it was read."""

    registry: Registry
    station: int
    parameter: str
    at_ms: int
    value: float
    packed: int


class Notifier:
    """A thread with its connection; ``on_batch`` is a callback of the intake. ``base`` is the address of ``/sta``."""

    def __init__(self, store: ReadingStore, settings: MqttSettings, base: str) -> None:
        self._store = store
        self._settings = settings
        self._base = base
        self._waiting: deque[_Row] = deque()
        self._site = Site(Registry(), ())
        self._confirmed = 0
        self._woken, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="sensorthings", daemon=True)
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"{settings.client_id}-sensorthings")
        self._client.on_publish = self._on_publish
        sign_in(self._client, settings)
        self.published = 0
        self.left_out = 0

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def connected(self) -> bool:
        return self._client.is_connected()

    def on_batch(self, _messages: Sequence[Message], outcome: Outcome) -> None:
        """Note the new readings of a batch; never blocks."""
        new = outcome.new
        if new is None:
            return
        batch, keys = new.batch, list(new.registry.catalogue.index)
        columns = (batch.station, batch.parameter, batch.at, batch.value, new.packed)
        for station, parameter, *rest in zip(*(one.tolist() for one in columns), strict=True):
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(_Row(new.registry, station, keys[parameter], *rest))
            else:
                self.left_out += 1
        self._woken.set()

    def start(self) -> None:
        """Connect and publish in the background; an unavailable broker is tried again."""
        self._client.connect_async(self._settings.host, self._settings.port, self._settings.keepalive_s)
        self._client.loop_start()
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        self._stopping.set()
        self._woken.set()
        self._thread.join(timeout_s)
        self._client.disconnect()
        self._client.loop_stop()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.wait()
            self._woken.clear()
            while self._waiting and not self._stopping.is_set():
                if not self.connected or self.published - self._confirmed > MOST_UNSENT:
                    self._stopping.wait(PAUSE_S)
                    continue
                try:
                    self._publish(self._waiting.popleft())
                except Exception:  # one reading must not end the others
                    log.exception("an observation could not be published")

    def _publish(self, row: _Row) -> None:
        key = row.registry.stations[row.station].key
        stream = self._stream(row.registry, key, row)
        if stream is None:
            return
        for version in VERSIONS:
            answers = Answers(self._site, self._store, version, f"{self._base}/v{version}", 0)
            body = msgspec.json.encode(answers.observation(Reading(stream, row.at_ms, row.value, row.packed)))
            for topic in (f"{address('Datastreams', stream.id)}/Observations", "Observations"):
                self._client.publish(f"v{version}/{topic}", body, qos=1)
                self.published += 1

    def _stream(self, registry: Registry, key: str, row: _Row) -> Stream | None:
        """The Datastream of a reading; where none is known, the entities are made anew."""
        if registry is self._site.registry:
            known = self._site.stream_at(key, row.parameter, row.at_ms)
            if known is not None:
                return known
        self._site = Site(registry, self._store.latest())
        return self._site.stream_at(key, row.parameter, row.at_ms)

    def _on_publish(self, *_: Any) -> None:
        self._confirmed += 1
