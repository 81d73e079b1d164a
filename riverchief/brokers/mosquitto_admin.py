"""Users and rights of Mosquitto's dynamic-security plugin.

The plugin keeps them in a file of its own and changes them on a control topic, while everybody stays connected. One
role a device: ``%u`` in a topic, which would make one role serve all, is taken literally (tried on 2.0.11). Everything
is denied that no role allows, what the broker delivers included: the plugin's own default would deliver.
"""

import base64
import hashlib
import json
import queue
import secrets
import ssl
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from infra.closing import Closing
from infra.errors import ConfigurationError, Refused
from infra.texts import say
from ingest.devices.credentials import BrokerUnavailable
from sensors.wire.telemetry import topic

CONTROL = "$CONTROL/dynamic-security/v1"
ADMIN, HEALTH = "admin", "health"
HEALTH_TOPIC = "$SYS/broker/uptime"
ITERATIONS, SALT_BYTES, HASH_BYTES = 101, 12, 64
"""How the plugin derives what it keeps of a password (PBKDF2, SHA-512); it reads salts of this length alone."""

DEFAULTS = {"publishClientSend": False, "publishClientReceive": False, "subscribe": False, "unsubscribe": True}

SENT_BY_A_DEVICE = ("telemetry", "status", "event", "reply")

SENSORTHINGS = ("v1.1/+/Observations", "v1.1/Observations", "v2.0/+/Observations", "v2.0/Observations")

AclType = Literal["publishClientSend", "publishClientReceive", "subscribeLiteral", "subscribePattern"]


@dataclass(frozen=True, slots=True)
class Right:
    """A right of a role: to publish, receive or subscribe to a topic (or a pattern of topics)."""

    kind: AclType
    topic: str


@dataclass(frozen=True, slots=True)
class Role:
    """A named set of rights."""

    name: str
    rights: frozenset[Right]


@dataclass(frozen=True, slots=True)
class Address:
    """Address of the broker; TLS when ``ca_file`` is given, verified against that authority."""

    host: str = "127.0.0.1"
    port: int = 1883
    ca_file: Path | None = None
    timeout_s: float = 10.0


def reading(pattern: str) -> frozenset[Right]:
    """Subscribe to a topic or pattern, and be sent what is published there."""
    wild = "+" in pattern or "#" in pattern
    return frozenset(
        {Right("subscribePattern" if wild else "subscribeLiteral", pattern), Right("publishClientReceive", pattern)}
    )


def writing(*patterns: str) -> frozenset[Right]:
    """Publish to these topics."""
    return frozenset(Right("publishClientSend", pattern) for pattern in patterns)


def ingest_role(mapped: Iterable[str] = ()) -> Role:
    """Reads what every station sends, and ``mapped`` topics; writes commands, and what is published for others."""
    read = frozenset(right for pattern in ("rivers/v1/#", *mapped) for right in reading(pattern))
    return Role("ingest", read | writing(topic("+", "command"), topic("+", "observed"), *SENSORTHINGS))


def device_role(station: str) -> Role:
    """Writes below its own station and reads its own commands."""
    own = writing(*(topic(station, kind) for kind in SENT_BY_A_DEVICE))
    return Role(f"device-{station}", own | reading(topic(station, "command")))


def simulator_role(stations: Iterable[str]) -> Role:
    """Writes what the devices of these stations would; one login plays them all."""
    return Role("simulator", writing(*(topic(station, kind) for station in stations for kind in SENT_BY_A_DEVICE)))


def health_role() -> Role:
    """Sees that the broker lives, and nothing else."""
    return Role(HEALTH, reading(HEALTH_TOPIC))


def initial_state(admin_password: str, health_password: str, others: Iterable[tuple[str, str, Role]] = ()) -> str:
    """The plugin's file of a new broker: the administrator, the health check, and ``others`` (user, password, role).

    The administrator may use the control topic and look at the broker's own figures, but reads no river.
    """
    control = "$CONTROL/dynamic-security/#"
    admin = Role(ADMIN, reading(control) | writing(control) | reading("$SYS/#"))
    users = [(ADMIN, admin_password, admin), (HEALTH, health_password, health_role()), *others]
    state = {
        "clients": [_client(user, password, role.name) for user, password, role in users],
        "roles": [{"rolename": role.name, "acls": _acls(role)} for _, _, role in users],
        "defaultACLAccess": DEFAULTS,
    }
    return json.dumps(state, indent=2) + "\n"


def _client(user: str, password: str, role: str) -> dict[str, Any]:
    salt = secrets.token_bytes(SALT_BYTES)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS, HASH_BYTES)
    return {
        "username": user,
        "password": base64.b64encode(digest).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": ITERATIONS,
        "roles": [{"rolename": role}],
    }


def _acls(role: Role) -> list[dict[str, Any]]:
    rights = sorted(role.rights, key=lambda right: (right.kind, right.topic))
    return [{"acltype": right.kind, "topic": right.topic, "priority": 0, "allow": True} for right in rights]


class DynamicSecurity(Closing):
    """The administrator's connection; every change may be asked for again and is made only where it is needed.

    A change of a role or a password makes the broker disconnect whom it concerns. One thread at a time.
    """

    def __init__(self, address: Address, password: str, user: str = ADMIN) -> None:
        self._address = address
        self._client = _connected(address, user, password)
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._client.on_message = self._on_message
        self._subscribe()

    def close(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    def ensure_defaults(self) -> None:
        """Deny whatever no role allows."""
        if not self.has_minimal_rights():
            acls = [{"acltype": kind, "allow": allow} for kind, allow in DEFAULTS.items()]
            self._run({"command": "setDefaultACLAccess", "acls": acls})

    def has_minimal_rights(self) -> bool:
        """Whether the broker denies whatever no role allows."""
        found = self._request({"command": "getDefaultACLAccess"})["data"]["acls"]
        return {one["acltype"]: one["allow"] for one in found} == DEFAULTS

    def ensure_role(self, role: Role) -> None:
        """Make the role, or bring its rights to what they should be."""
        found = self._get("getRole", "role", rolename=role.name)
        wanted = {"rolename": role.name, "acls": _acls(role)}
        if found is None:
            self._run({"command": "createRole", **wanted})
        elif _rights(found) != _rights(wanted):
            self._run({"command": "modifyRole", **wanted})

    def ensure_client(self, user: str, password: str | None, roles: Sequence[str]) -> None:
        """Make the user with exactly these roles; the password is set only where the broker refuses it now.

        Without a password, who shows a certificate in the user's name is let in.
        """
        wanted = {"username": user, "roles": [{"rolename": name} for name in roles]}
        found = self._get("getClient", "client", username=user)
        if found is None:
            self._run({"command": "createClient", **({} if password is None else {"password": password}), **wanted})
            return
        if {one["rolename"] for one in found.get("roles", [])} != set(roles):
            self._run({"command": "modifyClient", **wanted})
        if password is not None and not accepts(self._address, user, password):
            self._run({"command": "setClientPassword", "username": user, "password": password})

    def remove(self, user: str, role: str | None = None) -> None:
        """Remove the user, and the role made for it; the broker disconnects whoever is signed in by it."""
        if self._get("getClient", "client", username=user) is not None:
            self._run({"command": "deleteClient", "username": user})
        if role is not None and self._get("getRole", "role", rolename=role) is not None:
            self._run({"command": "deleteRole", "rolename": role})

    # -- the control topic -------------------------------------------------------------------------------------------

    def _subscribe(self) -> None:
        done: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._client.on_subscribe = lambda _c, _u, _mid, reasons, _p: done.put(not any(r.is_failure for r in reasons))
        self._client.subscribe(f"{CONTROL}/response", qos=1)
        try:
            allowed = done.get(timeout=self._address.timeout_s)
        except queue.Empty:
            raise self._silent() from None
        if not allowed:
            raise ConfigurationError(say("broker.no_administrator"))

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        for answer in json.loads(message.payload).get("responses", []):
            self._answers.put(answer)

    def _get(self, command: str, kind: str, **which: str) -> dict[str, Any] | None:
        """A client or role as the broker has it; None for an unknown one."""
        answer = self._request({"command": command, **which})
        error = answer.get("error")
        if error is not None and "not found" in error:
            return None
        if error is not None:
            raise Refused(say("broker.refuses", command=command, known=", ".join(which.values()), error=error))
        found: dict[str, Any] = answer["data"][kind]
        return found

    def _run(self, command: dict[str, Any]) -> None:
        error = self._request(command).get("error")
        if error is not None:
            name = command.get("username", command.get("rolename", ""))
            raise Refused(say("broker.refuses", command=command["command"], known=name, error=error))

    def _request(self, command: dict[str, Any]) -> dict[str, Any]:
        ours = secrets.token_hex(8)  # several administrators see each other's answers
        message = json.dumps({"commands": [{**command, "correlationData": ours}]})
        self._client.publish(CONTROL, message, qos=1)
        while True:
            try:
                answer = self._answers.get(timeout=self._address.timeout_s)
            except queue.Empty:
                raise self._silent() from None
            if answer.get("correlationData") == ours:
                return answer

    def _silent(self) -> BrokerUnavailable:
        where = f"{self._address.host}:{self._address.port}"
        seconds = self._address.timeout_s
        return BrokerUnavailable(say("broker.no_plugin", where=where, topic=CONTROL, seconds=seconds))


def accepts(address: Address, user: str, password: str) -> bool:
    """Whether the broker lets this user in; raises BrokerUnavailable when there is no asking it."""
    try:
        client = _connected(address, user, password)
    except ConfigurationError:
        return False
    client.disconnect()
    client.loop_stop()
    return True


def _connected(address: Address, user: str, password: str) -> paho.Client:
    """A client that is signed in. Raises ConfigurationError when the login is refused, else BrokerUnavailable."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"riverchief-setup-{secrets.token_hex(4)}")
    client.username_pw_set(user, password)
    if address.ca_file is not None:
        client.tls_set(str(address.ca_file), cert_reqs=ssl.CERT_REQUIRED)
    answered = threading.Event()
    refusal: list[str] = []

    def on_connect(_client: paho.Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            refusal.append(str(reason))
        answered.set()

    client.on_connect = on_connect
    where = f"{address.host}:{address.port}"
    try:
        client.connect(address.host, address.port)
    except OSError as error:
        raise BrokerUnavailable(say("broker.unreachable", where=where, error=error.strerror or error)) from error
    client.loop_start()
    if not answered.wait(address.timeout_s) or refusal:
        client.disconnect()
        client.loop_stop()
        if refusal:
            raise ConfigurationError(say("broker.refuses_user", where=where, user=user, refusal=refusal[0]))
        raise BrokerUnavailable(say("broker.silent", where=where, timeout_s=address.timeout_s))
    return client


def _rights(role: dict[str, Any]) -> set[tuple[str, str, bool]]:
    return {(acl["acltype"], acl["topic"], bool(acl["allow"])) for acl in role.get("acls", [])}
