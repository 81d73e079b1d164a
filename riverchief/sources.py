"""Settings of the sources of readings: MQTT, HJ 212 and SL 651."""

from ingest.sources import sl651
from ingest.sources.hj212 import GatewaySettings
from ingest.sources.mqtt import MqttSettings
from riverchief.settings import Settings, secret


def mqtt_settings(settings: Settings) -> MqttSettings:
    """The broker's address and login for the source."""
    m = settings.mqtt
    return MqttSettings(
        host=m.host,
        port=m.port,
        user=m.user,
        password=secret(m.password, m.password_file),
        client_id=secret(None, m.client_id_file) or m.client_id,
        version=5 if m.version == "5" else 4,
        tls=m.tls,
        ca_file=str(m.ca_file) if m.ca_file else None,
        cert_file=str(m.cert_file) if m.cert_file else None,
        key_file=str(m.key_file) if m.key_file else None,
        keepalive_s=m.keepalive_s,
        share=settings.cluster.share if settings.cluster.servers else "",
    )


def gateway_settings(settings: Settings) -> GatewaySettings:
    """Settings of the HJ 212 gateway."""
    h = settings.hj212
    return GatewaySettings(
        host=h.host,
        port=h.port,
        cert_file=str(h.cert_file) if h.cert_file else None,
        key_file=str(h.key_file) if h.key_file else None,
        set_clock=h.set_clock,
        unverified=h.unverified,
        max_connections=h.max_connections,
        idle_s=h.idle_s,
    )


def sl651_settings(settings: Settings) -> sl651.GatewaySettings:
    """Settings of the SL 651 gateway, whose names are those of the section."""
    return sl651.GatewaySettings(**settings.sl651.model_dump(exclude={"enabled"}))
