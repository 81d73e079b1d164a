"""Files and commands with which the servers of the full stack are set up.

``prepare`` writes random secrets, the broker's first users and its certificate into one folder for each program that
holds them, so that a container sees its own and no other's. Everything here may be run again at every start: what is
there stays, what is missing is made.
"""

import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from infra.database import Database, metadata
from infra.errors import ConfigurationError
from infra.texts import say
from ingest.storage import influx_setup
from ingest.storage.sql import SqlReadings
from ingest.storage.timeseries import TimeSeriesServer
from riverchief import audit_sealing
from riverchief.brokers import certificates, mosquitto_admin
from riverchief.brokers.mosquitto_admin import ADMIN, Address, DynamicSecurity, Role
from sensors.parameters import catalogue

AUTHORITY = "authority"
"""Holds the private key of the site's own authority; mounted by the one-time set-up alone."""

OWNERS = {
    AUTHORITY: 0,
    "broker": 1883,
    "influxdb": 1000,
    "postgres": 70,
    "grafana": 472,
    "riverchief": 10001,
    "simulator": 10001,
    "nats": 0,
    "emqx": 1000,
}
"""The user each program runs as, by the folder that holds its secrets (the numbers of the official images; as root we
give the folders away to them)."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A random secret: ``{holder: file}`` are its copies, the original first; ``form`` is the format of a copy."""

    places: dict[str, str]
    form: Callable[[str], str] = str


def _pgpass(password: str) -> str:
    return f"*:*:*:*:{password}"


SECRETS = (
    Secret({"riverchief": "api_token"}),
    Secret({"riverchief": "mqtt_password"}),
    Secret({"riverchief": "mqtt_client_id"}),  # for a broker that binds no client id to a user: NATS
    Secret({"riverchief": "broker_admin_password"}),
    Secret({"riverchief": "outbox_secret"}),
    Secret({"riverchief": "notices_secret"}),
    Secret({"simulator": "mqtt_password"}),
    Secret({"postgres": "password", "riverchief": "pgpass"}, _pgpass),
    Secret({"postgres": "grafana_password", "grafana": "postgres_password"}),
    Secret({"grafana": "admin_password"}),
    Secret({"grafana": "secret_key"}),
    Secret({"influxdb": "admin_password"}),
    Secret({"influxdb": "admin_token"}),
)

BROKERS = ("broker", "nats", "emqx")
"""Whoever serves devices: the same certificate, whichever of them a site uses."""

INFLUX_TOKENS = {"riverchief": "influx_token", "grafana": "influx_token"}
"""Who is given a token of its own for the time-series server once that runs, and in which file."""

DASHBOARDS_DO_NOT_READ = {"outbox": {"body"}, "quarantine": {"payload"}}
DASHBOARDS_READ = (
    "station",
    "reach",
    "deployment",
    "incident",
    "incident_condition",
    "incident_entry",
    "alarm",
    "ledger",
    "mute",
    "sequence_gap",
    "message_sequence",
    "reading",
    "device_event",
    "quarantine",
    "outbox",
)
"""What the dashboards' own database user may see; a table that is not named here, it may not."""


# -- before the servers start ----------------------------------------------------------------------------------------


def prepare(folder: Path, names: Sequence[str], now: datetime) -> list[str]:
    """Make what is missing below ``folder``; returns the files written, relative to it.

    Parameters
    ----------
    folder : Path
        Gets one folder for each of :data:`OWNERS`, readable by that user alone (when we are root, else by us).
    names : sequence of str
        Host names and addresses that devices call the broker by. Other names than last time, or a certificate that
        ends soon: a new one by the same authority. A certificate that the site brought itself is left alone.
    now : datetime
        UTC-aware.

    Raises
    ------
    ConfigurationError
        A name is neither a host name nor an address, or the folder cannot be written.
    """
    try:
        for holder in OWNERS:
            _own_folder(folder, holder)
        return [
            *_random_secrets(folder),
            *_trail_key(folder),
            *_broker_state(folder),
            *_other_brokers_users(folder),
            *_broker_certificate(folder, names, now),
        ]
    except OSError as error:
        file = error.filename or folder
        raise ConfigurationError(say("file.unwritable", file=file, error=error.strerror)) from error


def install_certificate(folder: Path, certificate: Path, key: Path, authority: Path | None) -> None:
    """Give the broker a certificate that the site brought; raises ConfigurationError when the two do not match.

    ``authority`` is what devices need to trust it, kept beside it to be handed out; without one the certificate's own
    chain is.
    """
    try:
        chain, private = certificate.read_bytes(), key.read_bytes()
        trusted = authority.read_bytes() if authority else chain
    except OSError as error:
        raise ConfigurationError(say("file.unreadable", file=error.filename, error=error.strerror)) from error
    certificates.check_pair(chain, private)
    _write_certificate(folder, certificates.Pair(chain, private), trusted)


def _random_secrets(folder: Path) -> list[str]:
    made = []
    for secret in SECRETS:
        first, *copies = secret.places.items()
        original = folder / first[0] / first[1]
        new = not original.exists()
        if new:
            made.append(_write(folder, *first, secrets.token_urlsafe(24).encode()))
        words = original.read_text(encoding="ascii")
        for holder, file in copies:
            if new or not (folder / holder / file).exists():
                made.append(_write(folder, holder, file, secret.form(words).encode()))
    return made


def _trail_key(folder: Path) -> list[str]:
    """The key that signs the trail, and its public half."""
    if (folder / "riverchief" / "audit_key.pem").exists():
        return []
    private, public = audit_sealing.new_key()
    written = [_write(folder, "riverchief", "audit_key.pub", public)]
    return [*written, _write(folder, "riverchief", "audit_key.pem", private)]


def _broker_state(folder: Path) -> list[str]:
    """The plugin's first file; later the plugin itself writes it. Beside it the options of the health check."""
    if (folder / "broker" / "dynamic-security.json").exists():
        return []
    health = secrets.token_urlsafe(24)
    admin = (folder / "riverchief" / "broker_admin_password").read_text(encoding="ascii")
    return [
        _write(folder, "broker", "mosquitto_sub", f"-u {mosquitto_admin.HEALTH}\n-P {health}\n".encode()),
        _write(folder, "broker", "dynamic-security.json", mosquitto_admin.initial_state(admin, health).encode(), 0o600),
    ]


def _other_brokers_users(folder: Path) -> list[str]:
    """The first users of the brokers that are not Mosquitto, in the words of each."""
    made = []
    ingest, simulator = (
        (folder / holder / "mqtt_password").read_text(encoding="ascii") for holder in ("riverchief", "simulator")
    )
    if not (folder / "emqx" / "users.csv").exists():
        rows = f"user_id,password,is_superuser\ningest,{ingest},false\nsimulator,{simulator},false\n"
        made.append(_write(folder, "emqx", "users.csv", rows.encode()))
    if not (folder / "nats" / "users.conf").exists():
        sent = ", ".join(f'"rivers.v1.*.{kind}"' for kind in mosquitto_admin.SENT_BY_A_DEVICE)
        users = (
            "authorization {\n  users: [\n"
            f'    {{ user: ingest, password: "{ingest}" }}\n'
            f'    {{ user: simulator, password: "{simulator}", permissions: {{ publish: [{sent}], subscribe: [] }} }}\n'
            "  ]\n}\n"
        )
        made.append(_write(folder, "nats", "users.conf", users.encode(), 0o600))
    return made


def _broker_certificate(folder: Path, names: Sequence[str], now: datetime) -> list[str]:
    made = []
    own = folder / AUTHORITY
    if not (own / "ca.key").exists():
        new = certificates.authority(f"Riverchief {now:%Y-%m-%d}", now)
        made += [_write(folder, AUTHORITY, "ca.pem", new.certificate), _write(folder, AUTHORITY, "ca.key", new.key)]
    authority = certificates.Pair((own / "ca.pem").read_bytes(), (own / "ca.key").read_bytes())
    held = folder / "broker" / "server.pem"
    if held.exists() and (
        not certificates.issued_by(held.read_bytes(), authority.certificate)
        or certificates.serves(held.read_bytes(), names, now)
    ):
        return made
    return [*made, *_write_certificate(folder, certificates.server(authority, names, now), authority.certificate)]


def _write_certificate(folder: Path, pair: certificates.Pair, authority: bytes) -> list[str]:
    written = []
    for holder in reversed(BROKERS):  # the first one's certificate is what tells whether all have it: it comes last
        _own_folder(folder, holder)
        written.append(_write(folder, holder, "ca.pem", authority))
        written.append(_write(folder, holder, "server.key", pair.key))
        written.append(_write(folder, holder, "server.pem", pair.certificate))
    return [_write(folder, "riverchief", "ca.pem", authority), *written]


def _own_folder(folder: Path, holder: str) -> None:
    (folder / holder).mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(folder / holder, OWNERS[holder], OWNERS[holder])
    (folder / holder).chmod(0o700)


def _write(folder: Path, holder: str, file: str, content: bytes, mode: int = 0o400) -> str:
    """Write a holder's file as a whole or not at all, readable by the holder alone; returns its relative name."""
    handle, unfinished = tempfile.mkstemp(dir=folder / holder, prefix=f".{file}-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if os.geteuid() == 0:
            os.chown(unfinished, OWNERS[holder], OWNERS[holder])
        Path(unfinished).chmod(mode)
        Path(unfinished).replace(folder / holder / file)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    return f"{holder}/{file}"


# -- once they run ---------------------------------------------------------------------------------------------------


def broker(address: Address, admin_password: str, user: str, password: str, role: Role, *, admin: str = ADMIN) -> None:
    """Give a user its role and nothing else. Raises BrokerUnavailable, ConfigurationError or Refused."""
    with DynamicSecurity(address, admin_password, admin) as security:
        security.ensure_defaults()
        security.ensure_role(role)
        security.ensure_client(user, password, [role.name])


def device(address: Address, admin_password: str, station: str) -> str:
    """Create the login of a station's device; returns its new password, which is not stored.

    A device that had one is disconnected until it shows the new one. Raises as :func:`broker` does.
    """
    password = secrets.token_urlsafe(18)
    broker(address, admin_password, station, password, mosquitto_admin.device_role(station))
    return password


def device_certificate(
    folder: Path, address: Address, admin_password: str, station: str, to: Path, now: datetime
) -> list[Path]:
    """Let a station's device sign in by a certificate in its key's name; the files written below ``to``.

    The broker must know the name, too (``config/mosquitto/certificates.conf``): the certificate opens the door, the
    rights are the role's. Revoking the login takes the rights away, whatever certificate is shown. Raises as
    :func:`broker` does, and ConfigurationError where the authority's key is not at hand.
    """
    own = folder / AUTHORITY
    try:
        authority = certificates.Pair((own / "ca.pem").read_bytes(), (own / "ca.key").read_bytes())
    except OSError as error:
        raise ConfigurationError(say("setup.first_secrets", filename=error.filename, error=error.strerror)) from error
    files = {to / f"{station}.key": 0o400, to / f"{station}.pem": 0o444, to / "ca.pem": 0o444}
    pair = certificates.client(authority, station, now)
    with DynamicSecurity(address, admin_password) as security:
        role = mosquitto_admin.device_role(station)
        security.ensure_defaults()
        security.ensure_role(role)
        security.ensure_client(station, None, [role.name])
    try:
        to.mkdir(parents=True, exist_ok=True)
        for (file, mode), content in zip(
            files.items(), (pair.key, pair.certificate, authority.certificate), strict=True
        ):
            file.unlink(missing_ok=True)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(content)
    except OSError as error:
        file = error.filename or to
        raise ConfigurationError(say("file.unwritable", file=file, error=error.strerror)) from error
    return list(files)


def influx_admin_token(folder: Path) -> str:
    """The administrator token of the time-series server; raises ConfigurationError when it is missing."""
    file = folder / "influxdb" / "admin_token"
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigurationError(say("setup.first_secrets", filename=file, error=error.strerror)) from error


def influx_tokens(folder: Path, server: TimeSeriesServer) -> list[str]:
    """Give each of :data:`INFLUX_TOKENS` a token of its own; returns the files written.

    A token that the server still knows with the rights it is to have stays. Only riverchief may write. ``server`` is
    signed in as its administrator.
    """
    written: list[str] = []
    for holder, file in INFLUX_TOKENS.items():
        _own_folder(folder, holder)
        path = folder / holder / file
        held = path.read_text(encoding="ascii").strip() if path.exists() else None

        def keep(token: str, holder: str = holder, file: str = file) -> None:
            written.append(_write(folder, holder, file, token.encode()))

        may_write = holder == "riverchief"
        influx_setup.ensure_token_v2(server, f"riverchief: {holder}", held=held, may_write=may_write, keep=keep)
    return written


def grant_reading(database: Database, reader: str) -> None:
    """Let the dashboards' user read what they show, and nothing else; on PostgreSQL alone.

    Raises ConfigurationError when there is no such user.
    """
    if database.is_sqlite:
        raise ConfigurationError(say("setup.sqlite"))
    SqlReadings(database, catalogue())  # makes the table of readings, whose columns grow with the parameters
    quote = database.engine.dialect.identifier_preparer.quote
    with database.write() as connection:
        exists = connection.execute(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": reader}).scalar()
        if exists is None:
            raise ConfigurationError(say("setup.no_reader", reader=reader))
        connection.exec_driver_sql(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {quote(reader)}")
        for table in DASHBOARDS_READ:
            which = ""
            if hidden := DASHBOARDS_DO_NOT_READ.get(table):
                shown = [quote(column.name) for column in metadata.tables[table].columns if column.name not in hidden]
                which = f" ({', '.join(shown)})"
            connection.exec_driver_sql(f"GRANT SELECT{which} ON {quote(table)} TO {quote(reader)}")
