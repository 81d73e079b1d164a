"""Checks of the broker: certificate, login, rights, session persistence, queue limits.

What the broker allows is measured, on a topic of a station that cannot exist and in sessions that are gone afterwards.
"""

import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.devices.credentials import BrokerUnavailable
from ingest.sources.mqtt import MqttSettings, sign_in
from riverchief.brokers.users import broker_users
from riverchief.doctor.findings import Finding, failure, ok, warning
from riverchief.settings import Settings
from riverchief.sources import mqtt_settings
from sensors.wire.telemetry import topic

NETWORK_TIMEOUT_S = 5.0
SETTLED_S = 0.7
"""Nothing more arrives for so long: the broker has sent what it sends."""
MIN_QUEUE = 1000
"""Messages Mosquitto queues unless told otherwise; beyond them it drops."""
MIN_WINDOW = 1000
"""A window below this makes batches so small that their commits set the speed."""
EXPIRES_SOON_DAYS = 21


def broker(settings: Settings) -> Iterator[Finding]:
    """Everything that stands between a device's message and us."""
    m = mqtt_settings(settings)
    where = f"{m.host}:{m.port}"
    if not settings.mqtt.enabled:
        yield ok("broker", "broker_off")
        return
    try:
        socket.create_connection((m.host, m.port), timeout=NETWORK_TIMEOUT_S).close()
    except OSError as error:
        yield failure("broker", "broker_away", where=where, error=_reason(error))
        return
    if m.tls:
        yield from certificate("broker", m.host, m.port, _context(m))
    client = _Client(m)
    try:
        refusal = client.connect()
        if refusal is None:
            yield failure("broker", "broker_silent", where=where, seconds=f"{NETWORK_TIMEOUT_S:g}")
            return
        if refusal:
            yield failure("broker", "broker_refuses", where=where, user=m.user or "-", reason=refusal)
            return
        yield ok("broker", "broker_ok", where=where, user=m.user or "-", version=settings.mqtt.version)
        yield from _rights(client, m, settings.mqtt.republish)
        yield from _limits(client, settings.ingest.batch_messages)
    finally:
        client.close()
    yield from _session(m)


def certificate(check: str, host: str, port: int, context: ssl.SSLContext) -> Iterator[Finding]:
    """Whether the certificate of a server is one we trust, and for how long."""
    try:
        with (
            socket.create_connection((host, port), timeout=NETWORK_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as encrypted,
        ):
            peer = encrypted.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        yield failure(check, "tls_untrusted", where=f"{host}:{port}", reason=error.verify_message)
        return
    except (ssl.SSLError, TimeoutError, OSError) as error:
        yield failure(check, "tls_none", where=f"{host}:{port}", reason=_reason(error))
        return
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(peer["notAfter"])), UTC)
    days = (until - datetime.now(UTC)).days
    found = {"where": f"{host}:{port}", "until": until.date().isoformat(), "days": days}
    yield warning(check, "tls_expires", **found) if days < EXPIRES_SOON_DAYS else ok(check, "tls_ok", **found)


def _rights(client: "_Client", m: MqttSettings, republish: bool) -> Iterator[Finding]:
    """We may read what stations send: shown on a command of ours, which we may write and read."""
    if refused := client.subscribe():
        yield failure("broker", "broker_subscribe", user=m.user or "-", reason=refused)
        return
    client.publish(1)
    if not client.arrives(1):
        yield failure("broker", "broker_rights", user=m.user or "-")
        return
    if republish:
        client.publish(1, "observed")
        if not client.arrives(2):
            yield failure("broker", "broker_observed", user=m.user or "-")


def _limits(client: "_Client", batch: int) -> Iterator[Finding]:
    """The broker's window of unacknowledged messages, and whether it queues the rest."""
    if not client.connected:
        return
    before = client.arrived
    wanted = 2 * batch + MIN_QUEUE + 100  # past the window that we recommend, two batches, and the queue behind it
    client.hold()
    client.publish(wanted)
    window = client.settled() - before
    client.take_all()
    total = client.settled() - before
    if window < min(batch, MIN_WINDOW):
        yield warning("broker", "broker_window", window=window, batch=batch)
    else:
        yield ok("broker", "broker_window_ok", window=window)
    if total < wanted:
        yield warning("broker", "broker_queue", kept=total - window, lost=wanted - total)


def _session(m: MqttSettings) -> Iterator[Finding]:
    """Whether a session is still there when we come back."""
    name = f"{m.client_id[:40]}-doctor-{secrets.token_hex(4)}"
    with _visit(m, name, keep=True) as first:
        first.subscribe()
    with _visit(m, name, keep=True) as second:
        session_kept = second.session_present
    with _visit(m, name, keep=False):
        pass  # and it is gone again
    yield ok("broker", "broker_session") if session_kept else failure("broker", "broker_no_session")


@contextmanager
def _visit(m: MqttSettings, name: str, *, keep: bool) -> Iterator["_Client"]:
    client = _Client(replace(m, client_id=name), keep=keep)
    try:
        client.connect()
        yield client
    finally:
        client.close()


def administration(settings: Settings) -> Iterator[Finding]:
    """Whether we can make the logins of devices, and whether the broker holds them to their rights."""
    users = broker_users(settings)
    if users is None:
        yield ok("broker_admin", "broker_admin_off")
        return
    try:
        denies = users.has_minimal_rights()
    except BrokerUnavailable as error:
        yield failure("broker_admin", "broker_admin_refuses", user=settings.broker_admin.user, error=error.text)
        return
    if denies:
        yield ok("broker_admin", "broker_admin_ok", user=settings.broker_admin.user)
    else:
        yield failure("broker_admin", "broker_admin_allows", user=settings.broker_admin.user)


class _Client:
    """A test client with its own client id, on the topics of a station key that cannot be registered."""

    def __init__(self, m: MqttSettings, keep: bool = False) -> None:
        self._settings = m
        self._keep = keep
        self._station = f"doctor-{secrets.token_hex(6)}"
        self._answered = threading.Event()
        self._subscribed = threading.Event()
        self._refusal: str | None = None
        self._not_subscribed = ""
        self._holding = False
        self._held: list[int] = []
        self.arrived = 0
        self.connected = False
        self.session_present = False
        five = m.version == 5
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=m.client_id if keep else f"{m.client_id[:40]}-doctor-{secrets.token_hex(4)}",
            clean_session=None if five else not keep,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
        )
        sign_in(self._client, m)
        self._client.max_inflight_messages_set(500)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def connect(self) -> str | None:
        """Connect: "" when accepted, the reason when refused, None without an answer in time."""
        session: dict[str, Any] = {}
        if self._settings.version == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 60 if self._keep else 0
            session = {"clean_start": not self._keep, "properties": properties}
        self._client.connect_async(self._settings.host, self._settings.port, 30, **session)
        self._client.loop_start()
        self._answered.wait(NETWORK_TIMEOUT_S)
        return self._refusal

    def subscribe(self) -> str:
        """Listen to the scratch topics; why not, "" when we may."""
        self._client.subscribe([(topic(self._station, kind), 1) for kind in ("command", "observed")])
        self._subscribed.wait(NETWORK_TIMEOUT_S)
        return self._not_subscribed if self._subscribed.is_set() else "no answer"

    def publish(self, count: int, kind: str = "command") -> None:
        """Publish ``count`` small messages and wait until the broker accepts or refuses them."""
        sent = [self._client.publish(topic(self._station, kind), b"{}", 1) for _ in range(count)]
        until = time.monotonic() + NETWORK_TIMEOUT_S
        while time.monotonic() < until and self.connected and not all(one.is_published() for one in sent[-1:]):
            time.sleep(0.01)

    def arrives(self, count: int) -> bool:
        """Whether so many messages have come, within our patience."""
        until = time.monotonic() + NETWORK_TIMEOUT_S
        while self.arrived < count and self.connected and time.monotonic() < until:
            time.sleep(0.01)
        return self.arrived >= count

    def settled(self) -> int:
        """How many have come, once no more come."""
        until = time.monotonic() + 4 * NETWORK_TIMEOUT_S
        seen, quiet_since = -1, time.monotonic()
        while time.monotonic() - quiet_since < SETTLED_S and time.monotonic() < until:
            if self.arrived != seen:
                seen, quiet_since = self.arrived, time.monotonic()
            time.sleep(0.02)
        return self.arrived

    def hold(self) -> None:
        """Stop acknowledging messages."""
        self._holding = True

    def take_all(self) -> None:
        """Acknowledge what is held, and from now on whatever comes."""
        self._holding = False
        held, self._held = self._held, []
        for mid in held:
            self._client.ack(mid, 1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, _client: Any, _userdata: Any, flags: Any, reason: Any, _properties: Any) -> None:
        self.session_present = bool(flags.session_present)
        self.connected = not reason.is_failure
        self._refusal = str(reason) if reason.is_failure else ""
        self._answered.set()
        if reason.is_failure:
            self._client.disconnect()  # else it would knock again and again

    def _on_disconnect(self, *_: Any) -> None:
        self.connected = False

    def _on_subscribe(self, _client: Any, _userdata: Any, _mid: int, reasons: list[Any], _properties: Any) -> None:
        self._not_subscribed = ", ".join(str(reason) for reason in reasons if reason.is_failure)
        self._subscribed.set()

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        if self._holding:
            self._held.append(message.mid)
        else:
            self._client.ack(message.mid, 1)
        self.arrived += 1


def _context(m: MqttSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=m.ca_file)
    if m.cert_file and m.key_file:
        context.load_cert_chain(m.cert_file, m.key_file)
    return context


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
