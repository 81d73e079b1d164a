"""Device logins on the broker: Mosquitto over its control topic, NATS by its file of users.

Both keep to the port of :mod:`ingest.devices.credentials`: whatever goes wrong is a broker that is away.
"""

import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.errors import ConfigurationError, WaterError
from infra.texts import say
from ingest.devices.credentials import BrokerUnavailable, BrokerUsers, Endpoint
from riverchief.brokers.mosquitto_admin import SENT_BY_A_DEVICE, Address, DynamicSecurity, device_role
from riverchief.settings import Settings, secret


class MosquittoUsers:
    """Users of a Mosquitto with the dynamic-security plugin; signs in for each change."""

    def __init__(self, address: Address, user: str, password: str) -> None:
        self._address = address
        self._user = user
        self._password = password

    def create_user(self, user: str, password: str, station: str) -> None:
        role = device_role(station)
        with self._signed_in() as security:
            security.ensure_role(role)
            security.ensure_client(user, password, [role.name])

    def delete_user(self, user: str) -> None:
        with self._signed_in() as security:
            security.remove(user)

    def has_minimal_rights(self) -> bool:
        with self._signed_in() as security:
            return security.has_minimal_rights()

    @contextmanager
    def _signed_in(self) -> Iterator[DynamicSecurity]:
        try:
            with DynamicSecurity(self._address, self._password, self._user) as security:
                yield security
        except WaterError as error:
            raise BrokerUnavailable(say("device.broker_away", error=error.text)) from error


class NatsUsers:
    """Users of a NATS server on this machine: the file that its configuration includes, read again on SIGHUP.

    The file holds passwords as they are and is readable by its owner alone; it is what the demo runs with.
    """

    _PREFIX = "users: "

    def __init__(self, users_file: Path, pid_file: Path) -> None:
        self._users_file = users_file
        self._pid_file = pid_file
        self._lock = threading.Lock()

    @classmethod
    def read(cls, file: Path) -> list[dict[str, Any]]:
        """The users in a file; raises OSError or ValueError."""
        users: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8").removeprefix(cls._PREFIX))
        return users

    @classmethod
    def write(cls, file: Path, users: list[dict[str, Any]]) -> None:
        """The file, as a whole or not at all."""
        handle, unfinished = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")  # 0600 from the start
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(cls._PREFIX + json.dumps(users, indent=1, ensure_ascii=False) + "\n")
        Path(unfinished).replace(file)

    def create_user(self, user: str, password: str, station: str) -> None:
        subject = f"rivers.v1.{station}"
        rights = {
            "publish": [f"{subject}.{kind}" for kind in SENT_BY_A_DEVICE],
            "subscribe": [f"{subject}.command"],
        }
        self._change(user, {"user": user, "password": password, "permissions": rights})

    def delete_user(self, user: str) -> None:
        self._change(user, None)

    def has_minimal_rights(self) -> bool:
        try:
            self.read(self._users_file)
            os.kill(int(self._pid_file.read_text(encoding="ascii")), 0)
        except (OSError, ValueError) as error:
            raise BrokerUnavailable(say("device.nats_away", error=error)) from error
        return True

    def _change(self, user: str, entry: dict[str, Any] | None) -> None:
        with self._lock:
            try:
                others = [one for one in self.read(self._users_file) if one["user"] != user]
                self.write(self._users_file, others if entry is None else [*others, entry])
                os.kill(int(self._pid_file.read_text(encoding="ascii")), signal.SIGHUP)
            except (OSError, ValueError) as error:
                raise BrokerUnavailable(say("device.nats_away", error=error)) from error


def address(settings: Settings) -> Address:
    """Where the administrator signs in. Raises ConfigurationError without a CA to trust."""
    admin, mqtt = settings.broker_admin, settings.mqtt
    if admin.host is not None:
        return Address(admin.host, admin.port or 1883, admin.ca_file)
    if mqtt.tls and mqtt.ca_file is None and admin.ca_file is None:
        raise ConfigurationError(say("broker.needs_ca"))
    return Address(mqtt.host, admin.port or mqtt.port, admin.ca_file or mqtt.ca_file)


def broker_users(settings: Settings) -> BrokerUsers | None:
    """The broker's administration by the settings; None where there is none."""
    admin = settings.broker_admin
    if not admin.enabled:
        return None
    if admin.kind == "nats":
        assert admin.nats_users_file is not None, "the settings ask for both"
        assert admin.nats_pid_file is not None
        return NatsUsers(admin.nats_users_file, admin.nats_pid_file)
    password = secret(admin.password, admin.password_file)
    assert password is not None, "the settings ask for it"
    return MosquittoUsers(address(settings), admin.user, password)


def endpoint(settings: Settings) -> Endpoint:
    """Where devices reach the broker. Raises ConfigurationError for an authority that cannot be read."""
    admin, mqtt = settings.broker_admin, settings.mqtt
    ca_file = admin.device_ca_file or (mqtt.ca_file if admin.device_host is None else None)
    try:
        authority = None if ca_file is None else ca_file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(say("broker.authority", ca_file=ca_file, error=error)) from None
    tls = ca_file is not None or (mqtt.tls and admin.device_host is None)
    port = admin.device_port or (mqtt.port if admin.device_host is None else 8883 if tls else 1883)
    return Endpoint(admin.device_host or mqtt.host, port, tls, authority)
