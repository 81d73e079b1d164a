"""The settings of a site, from one TOML file and the environment (``RIVERCHIEF_MQTT__HOST`` …).

``config/settings.sample.toml`` is the manual; a test keeps the two together. Unknown keys are refused, contradictions
stop the start with one sentence before anything is connected.
"""

import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from infra import outgoing, toml_text
from infra.errors import ConfigurationError, InvalidValue
from infra.texts import Text, say
from infra.toml_file import fault_text
from sensors.datum import Box

Port = Annotated[int, Field(ge=1, le=65535)]
SECRETS = (
    ("mqtt", "password"),
    ("broker_admin", "password"),
    ("cluster", "password"),
    ("outbox", "secret"),
    ("notices", "secret"),
    ("notices", "mail"),
    ("api", "token"),
    ("influx", "token"),
    ("influx", "password"),
    ("grafana", "token"),
    ("watch", "heartbeat_url"),
    ("oidc", "client_secret"),
)
"""Section and name of each secret; ``{name}_file`` is the file it may stand in instead."""
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SiteSection(_Section):
    """Who we are."""

    name: str = "示例站点 / example site"
    complaints: Annotated[str, Field(pattern=r"^[0-9+() -]{0,30}$")] = ""
    source: Annotated[str, Field(pattern=r"^\S+$")] = "/riverchief"
    rules: Path | None = None
    stations: Path | None = None
    processes: Path | None = None
    assessment: Path | None = None
    box: tuple[float, float, float, float] | None = None


class DatabaseSection(_Section):
    """The one relational database; the readings live in it, too."""

    url: Annotated[str, Field(repr=False)] = ""  # may hold a password


class ReadingsSection(_Section):
    """Retention of readings in the database, and the archive."""

    keep_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    archive: Path | None = None


class InfluxSection(_Section):
    """The time-series server that holds the long history and feeds Grafana."""

    url: str | None = None
    kind: Literal["influxdb2", "influxdb1", "influxdb3"] = "influxdb2"
    org: str = "riverchief"
    bucket: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "water"
    token: SecretStr | None = None
    token_file: Path | None = None
    user: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 10.0
    spool_mb: Annotated[int, Field(ge=1, le=1_000_000)] = 2048
    raw_days: Annotated[int, Field(ge=0, le=36_500)] = 730
    hourly_days: Annotated[int, Field(ge=0, le=36_500)] = 3650
    daily_days: Annotated[int, Field(ge=0, le=36_500)] = 0


class MqttSection(_Section):
    """The broker."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 1883
    user: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    client_id: Annotated[str, Field(min_length=1, max_length=65)] = "riverchief-ingest"
    client_id_file: Path | None = None
    version: Literal["3.1.1", "5"] = "3.1.1"
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: Annotated[int, Field(ge=5, le=600)] = 30
    republish: bool = False
    sensorthings: bool = False


class BrokerAdminSection(_Section):
    """Administration of device logins on the broker, and the address for devices."""

    enabled: bool = False
    kind: Literal["mosquitto", "nats"] = "mosquitto"
    host: str | None = None
    port: Port | None = None
    ca_file: Path | None = None
    user: str = "admin"
    password: SecretStr | None = None
    password_file: Path | None = None
    nats_users_file: Path | None = None
    nats_pid_file: Path | None = None
    device_host: str | None = None
    device_port: Port | None = None
    device_ca_file: Path | None = None


class Hj212Section(_Section):
    """The gateway for loggers that speak HJ 212."""

    enabled: bool = False
    host: str = "0.0.0.0"
    port: Port = 9212
    cert_file: Path | None = None
    key_file: Path | None = None
    set_clock: bool = True
    unverified: bool = False
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 5000
    idle_s: Annotated[int, Field(ge=60, le=604_800)] = 3900


class Sl651Section(_Section):
    """The gateway for hydrological stations that speak SL 651."""

    enabled: bool = False
    host: str = "0.0.0.0"
    port: Port = 9651
    udp: bool = True
    set_clock: bool = True
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 5000
    idle_s: Annotated[int, Field(ge=60, le=604_800)] = 3900


class IngestSection(_Section):
    """Batching of messages, and the limit for late data."""

    batch_messages: Annotated[int, Field(ge=1, le=20_000)] = 4000
    linger_ms: Annotated[int, Field(ge=0, le=1000)] = 4
    hold_messages: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    hold_mb: Annotated[int, Field(ge=1, le=4096)] = 64
    late_after_s: Annotated[int, Field(ge=60, le=604_800)] = 900
    quarantine_device_mb: Annotated[int, Field(ge=1, le=65_536)] = 64
    quarantine_mb: Annotated[int, Field(ge=16, le=1_048_576)] = 4096
    mappings: Path | None = None


class ClusterSection(_Section):
    """Ingest on several machines: the streams between bridge and workers."""

    servers: tuple[str, ...] | None = None
    engine: Literal["nats", "kafka"] = "nats"
    user: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    partitions: Annotated[int, Field(ge=1, le=1024)] = 8
    replicas: Annotated[int, Field(ge=1, le=5)] = 3
    stream_mb: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")] = "riverchief"
    share: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,32}$")] = "riverchief"


class OutboxSection(_Section):
    """Delivery of incidents to an external platform."""

    url: str | None = None
    secret: SecretStr | None = None
    secret_file: Path | None = None
    give_up_after_days: Annotated[float, Field(gt=0, le=60)] = 7.0
    gather_s: Annotated[float, Field(ge=0, le=3600)] = 60.0
    keep_days: Annotated[int, Field(ge=0, le=36_500)] = 365


class AuditSection(_Section):
    """The trail of every change, and where its signed roots are kept outside the database."""

    key_file: Path | None = None
    roots_file: Path | None = None
    roots_url: str | None = None
    roots_mail: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")] | None = None


class PlatformsSection(_Section):
    """Callbacks of external platforms, and the reconciliation with their lists."""

    file: Path | None = None
    reconcile_at: Annotated[str, Field(pattern=f"^{_CLOCK}$")] = "03:30"


class NoticesSection(_Section):
    """Messages to people: whom, when, and how they confirm."""

    contacts: Path | None = None
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")] | None = None
    secret: SecretStr | None = None
    secret_file: Path | None = None
    quiet: Annotated[str, Field(pattern=f"^{_CLOCK}-{_CLOCK}$")] = "22:00-07:00"
    morning: Annotated[str, Field(pattern=f"^{_CLOCK}$")] = "07:30"
    digest: Annotated[str, Field(pattern=f"^{_CLOCK}$")] = "08:00"
    confirm_red_min: Annotated[int, Field(ge=1, le=1440)] = 10
    confirm_orange_min: Annotated[int, Field(ge=1, le=1440)] = 30
    confirm_yellow_min: Annotated[int, Field(ge=1, le=1440)] = 120
    window_s: Annotated[int, Field(ge=1, le=3600)] = 60
    most: Annotated[int, Field(ge=1, le=100)] = 5
    per_minute: Annotated[int, Field(ge=1, le=600)] = 15
    link_hours: Annotated[int, Field(ge=1, le=168)] = 24
    mail: SecretStr | None = None
    mail_file: Path | None = None
    web_push: bool = False
    push_hosts: list[Annotated[str, Field(pattern=r"^[^\s/]+$")]] = []


class CapSection(_Section):
    """Warnings in the Common Alerting Protocol; without a sender there are none."""

    sender: Annotated[str, Field(pattern=r"^[^\s,<&]*$", max_length=200)] = ""
    sender_name: Annotated[str, Field(max_length=200)] = ""
    status: Literal["Actual", "Exercise"] = "Actual"
    public: bool = False
    restriction: Annotated[str, Field(max_length=200)] = ""


class ApiSection(_Section):
    """The address of the API and the console."""

    host: str = "127.0.0.1"
    port: Port = 8080
    hosts: list[Annotated[str, Field(pattern=r"^[^\s/:@]+$")]] = []
    trusted_proxies: list[str] = ["127.0.0.1", "::1"]
    connections_each: Annotated[int, Field(ge=8, le=100_000)] = 256
    map_tiles: Annotated[str, Field(pattern=r"^(https?://[^\s;,'\"<>]+)?$")] = ""
    map_attribution: str = ""
    token: SecretStr | None = None
    token_file: Path | None = None

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, values: list[str]) -> list[str]:
        for one in values:
            try:
                ip_network(one)
            except ValueError:
                raise InvalidValue(say("settings.no_network", network=one)) from None
        return values


class AccessSection(_Section):
    """Access to the API and the console."""

    open: bool = False
    contacts_key_file: Path | None = None
    token_days: Annotated[int, Field(ge=1, le=3650)] = 365
    session_hours: Annotated[int, Field(ge=1, le=8760)] = 168
    idle_hours: Annotated[int, Field(ge=1, le=8760)] = 72


class OidcSection(_Section):
    """Signing in with an identity provider (OpenID Connect)."""

    issuer: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")] | None = None
    client_id: str = "riverchief"
    client_secret: SecretStr | None = None
    client_secret_file: Path | None = None
    claim: Annotated[str, Field(min_length=1, max_length=100)] = "preferred_username"
    scope: str = "openid profile"
    button: Annotated[str, Field(max_length=80)] = ""
    checks_factor: bool = False


class ReportsSection(_Section):
    """Citizens' reports, and the rule for valid patrols."""

    an_hour: Annotated[int, Field(ge=1, le=1000)] = 6
    contact_days: Annotated[int, Field(ge=0, le=3650)] = 30
    patrol_minutes: Annotated[float, Field(ge=0, le=1440)] = 10.0
    near_metres: Annotated[float, Field(ge=0, le=10_000)] = 300.0
    near_days: Annotated[float, Field(ge=0, le=60)] = 2.0
    patrol_metres: Annotated[float, Field(ge=0, le=100_000)] = 1000.0
    patrol_fastest_m_s: Annotated[float, Field(gt=0, le=100)] = 15.0
    patrol_near_m: Annotated[float, Field(gt=0, le=2000)] = 100.0


class GrafanaSection(_Section):
    """The Grafana of ``dashboards publish``."""

    url: str | None = None
    token: SecretStr | None = None
    token_file: Path | None = None
    console_url: str = "http://127.0.0.1:8080"


class WatchSection(_Section):
    """Dead-man signal and traces."""

    heartbeat_url: SecretStr | None = None
    heartbeat_url_file: Path | None = None
    heartbeat_s: Annotated[int, Field(ge=5, le=3600)] = 60
    otlp_url: str | None = None
    trace_share: Annotated[float, Field(ge=0, le=1)] = 0.01


class OutgoingSection(_Section):
    """Connections to others: receivers, platforms, channels, the identity provider."""

    private: list[str] = []


class LogSection(_Section):
    """Logging on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    json_lines: bool = False


class Settings(BaseSettings):
    """All settings; every default is a working one for a single machine."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_prefix="RIVERCHIEF_", env_nested_delimiter="__")

    data: Path = Path("data")
    site: SiteSection = SiteSection()
    database: DatabaseSection = DatabaseSection()
    readings: ReadingsSection = ReadingsSection()
    influx: InfluxSection = InfluxSection()
    mqtt: MqttSection = MqttSection()
    broker_admin: BrokerAdminSection = BrokerAdminSection()
    hj212: Hj212Section = Hj212Section()
    sl651: Sl651Section = Sl651Section()
    ingest: IngestSection = IngestSection()
    cluster: ClusterSection = ClusterSection()
    outbox: OutboxSection = OutboxSection()
    audit: AuditSection = AuditSection()
    platforms: PlatformsSection = PlatformsSection()
    notices: NoticesSection = NoticesSection()
    cap: CapSection = CapSection()
    api: ApiSection = ApiSection()
    access: AccessSection = AccessSection()
    oidc: OidcSection = OidcSection()
    reports: ReportsSection = ReportsSection()
    grafana: GrafanaSection = GrafanaSection()
    watch: WatchSection = WatchSection()
    outgoing: OutgoingSection = OutgoingSection()
    log: LogSection = LogSection()

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{(self.data / 'riverchief.db').resolve()}"

    @property
    def box(self) -> Box | None:
        """Where all places of the site lie."""
        return None if self.site.box is None else Box(*self.site.box)

    @property
    def hosts(self) -> frozenset[str]:
        """The names under which the API and the console are reached, lower case; loopback and addresses beside them."""
        links = (self.notices.public_url, self.grafana.console_url)
        found = (*self.api.hosts, self.api.host, gethostname(), *(urlsplit(link or "").hostname for link in links))
        return frozenset(name.lower() for name in found if name)

    @property
    def address(self) -> str:
        """The address of the console in links that are handed out."""
        host = "127.0.0.1" if self.api.host in ("0.0.0.0", "::") else self.api.host
        here = f"http://{f'[{host}]' if ':' in host else host}:{self.api.port}"
        return (self.notices.public_url or here).rstrip("/")

    @property
    def receivers(self) -> tuple[tuple[str, int], ...]:
        """Host and port of everybody outside whom the settings themselves name."""
        n, watch = self.notices, self.watch
        urls = (self.outbox.url, self.audit.roots_url, self.oidc.issuer)
        secrets = (secret(n.mail, n.mail_file), secret(watch.heartbeat_url, watch.heartbeat_url_file))
        pushes = (f"{scheme}://{host}" for host in n.push_hosts for scheme in ("http", "https"))
        return tuple(outgoing.endpoint_of(url) for url in (*urls, *secrets, *pushes) if url)

    @property
    def photos(self) -> Path:
        """The folder of the photos."""
        return self.data / "photos"

    @model_validator(mode="after")
    def _no_contradiction(self) -> "Settings":
        if (found := next(self._contradictions(), None)) is not None:
            raise InvalidValue(found)
        return self

    def _contradictions(self) -> Iterator[Text]:
        """Contradictions between settings that are each valid."""
        if (box := self.box) is not None and not (box.west < box.east and box.south < box.north):
            yield say("settings.box")
        for section, name in SECRETS:
            part = getattr(self, section)
            if getattr(part, name) is not None and getattr(part, f"{name}_file") is not None:
                yield say("settings.both", section=section, name=name)
        mqtt, admin, api, access = self.mqtt, self.broker_admin, self.api, self.access
        signed = bool(self.outbox.secret or self.outbox.secret_file)
        links_signed = bool(self.notices.secret or self.notices.secret_file)
        mosquitto, nats = (admin.enabled and admin.kind == kind for kind in ("mosquitto", "nats"))
        wrong = {
            "settings.mqtt_pair": (mqtt.cert_file is None) != (mqtt.key_file is None),
            "settings.mqtt_tls": not mqtt.tls and (mqtt.ca_file or mqtt.cert_file),
            # refused before anything shows the address: a token may stand there
            "time_series_server.query": "?" in (self.influx.url or ""),
            "settings.admin_password": mosquitto and not (admin.password or admin.password_file),
            "settings.admin_nats": nats and not (admin.nats_users_file and admin.nats_pid_file),
            "settings.hj212_pair": (self.hj212.cert_file is None) != (self.hj212.key_file is None),
            "settings.mqtt_user": mqtt.user is None and (mqtt.password or mqtt.password_file),
            "settings.outbox_secret": self.outbox.url and not signed,
            "settings.open_to_all": access.open and api.host not in LOOPBACK,
            "settings.open_token": access.open and (api.token or api.token_file),
            "settings.links": self.notices.public_url and not links_signed,
            "settings.mail_url": (self.notices.mail or self.notices.mail_file) and not self.notices.public_url,
            "settings.oidc_secret": self.oidc.issuer and not (self.oidc.client_secret or self.oidc.client_secret_file),
            "settings.cluster_sqlite": self.cluster.servers and self.database_url.startswith("sqlite"),
            "settings.cluster_republish": self.cluster.servers and mqtt.republish,
            "settings.roots": self.audit.roots_url and not signed,
            "settings.roots_mail": self.audit.roots_mail and not (self.notices.mail or self.notices.mail_file),
        }
        for network in self.outgoing.private:
            if not outgoing.is_network(network):
                yield say("outgoing.network", network=network)
        values = {"settings.open_to_all": {"host": api.host}}
        yield from (say(key, **values.get(key, {})) for key, is_wrong in wrong.items() if is_wrong)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # `load` lays the environment over the file


def load(file: Path | None, **overrides: object) -> Settings:
    """Settings from a file (and the environment); raises ConfigurationError in one sentence per fault."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = toml_text.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigurationError(say("settings.no_file", file=file)) from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(say("settings.unreadable", file=file, error=error)) from error
    environment = EnvSettingsSource(Settings, env_ignore_empty=True)()  # as compose fills in what nobody gave
    try:
        return Settings(**_merged(_merged(values, environment), overrides))
    except ValidationError as error:
        found = [_fault(e) for e in error.errors()]
        faults = Text("；".join(fault.zh for fault in found), "; ".join(fault.en for fault in found))
        where = say("settings.the_file", file=file) if file else say("settings.the_settings")
        raise ConfigurationError(say("settings.wrong", where=where, faults=faults)) from None


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two layers; ``above`` wins."""
    merged = dict(below)
    for key, value in above.items():
        base = merged.get(key)
        merged[key] = _merged(base, value) if isinstance(base, dict) and isinstance(value, Mapping) else value
    return merged


def _fault(fault: Mapping[str, Any]) -> Text:
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return say("settings.unknown", name=name)
    text = fault_text(fault)
    if text is None:
        return say("settings.value", name=name, words=fault["msg"])
    return say("settings.of", name=name, text=text) if name else text


def secret(value: SecretStr | None, file: Path | None) -> str | None:
    """A secret given directly or in a file; raises ConfigurationError naming the file, never the secret."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(say("file.secret", file=file, error=error.strerror)) from error
    return None if value is None else value.get_secret_value()
