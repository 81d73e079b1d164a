"""Devices that are not there, for a stack that has none yet: the site's own stations publish a simulated river.

They publish over MQTT like devices do. The history lies on a fixed grid, so that the same hours sent again after a
restart are the same readings.
"""

import ssl
import threading

from riverchief import clock, files
from riverchief.serve import mqtt_settings
from riverchief.settings import Settings
from riverchief.signals import on_signal
from sensors.parameters import catalogue
from simulator import live
from simulator.device import Connection

HISTORY_STEP_S = 900


def run(settings: Settings, *, history_days: float, every_s: float, seed: int) -> live.Truth:
    """Publish ``history_days`` of history, then a reading of each station every ``every_s``, until SIGTERM or SIGINT.

    The broker and the login are those of ``[mqtt]``, the stations those of ``site.stations`` (the shipped example when
    it is left out). Raises ConfigurationError when a file cannot be used.
    """
    registry = files.read_stations(settings.site.stations, catalogue())
    m = mqtt_settings(settings)
    connection = Connection(m.host, m.port, m.user, m.password, tls=_trust(m.ca_file) if m.tls else None)
    step_ms = HISTORY_STEP_S * 1000
    stop = threading.Event()
    with on_signal(lambda *_: stop.set()):
        return live.run(
            registry,
            connection,
            start_ms=clock.now_ms() // step_ms * step_ms,
            boot=clock.now_ms() // 1000,
            history_days=history_days,
            history_step_s=HISTORY_STEP_S,
            interval_s=every_s,
            seed=seed,
            stop=stop,
            clock=clock.now_ms,
        )


def _trust(ca_file: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)
