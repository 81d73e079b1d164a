"""The compose file says what the programs read: paths, ports, variables. No container engine is needed for that."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from riverchief.settings import load

COMPOSE: dict[str, Any] = yaml.safe_load(Path("docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]


def test_every_variable_is_a_setting_and_the_settings_hold_together(monkeypatch: pytest.MonkeyPatch) -> None:
    given = SERVICES["riverchief"]["environment"]
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    loaded = load(None)
    assert str(loaded.data) == "/data"
    assert loaded.mqtt.host in SERVICES
    # a variable that is no setting would be ignored in silence: each must have changed something
    for name in given:
        monkeypatch.delenv(name)
        assert load_or_none() != loaded, name
        monkeypatch.setenv(name, str(given[name]))


def load_or_none() -> Any:
    try:
        return load(None)
    except Exception:
        return None


def test_the_ports_are_those_the_programs_listen_on() -> None:
    broker = Path("config/mosquitto/mosquitto.conf").read_text(encoding="utf-8")
    listens = re.search(r"^listener (\d+)", broker, re.MULTILINE)
    assert listens is not None
    assert SERVICES["mosquitto"]["ports"] == [f"{listens[1]}:{listens[1]}"]
    assert int(listens[1]) == load(None).mqtt.port
    assert SERVICES["riverchief"]["ports"] == [f"127.0.0.1:{load(None).api.port}:{load(None).api.port}"]


def test_every_mounted_file_of_the_repository_exists() -> None:
    for service in SERVICES.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./") and not source.startswith("./secrets"):
                assert Path(source).exists(), source
            elif not source.startswith("."):
                assert source in COMPOSE["volumes"]


def test_every_secret_is_declared_and_kept_out_of_the_repository() -> None:
    for name in SERVICES["riverchief"]["secrets"]:
        assert COMPOSE["secrets"][name]["file"].startswith("./secrets/")
    assert "secrets/" in Path(".gitignore").read_text(encoding="utf-8").splitlines()


def test_the_images_are_pinned() -> None:
    assert all(re.search(r":\d+\.\d+", service["image"]) for service in SERVICES.values() if "image" in service)


def test_the_shipped_broker_configuration_keeps_and_does_not_throttle() -> None:
    lines = Path("config/mosquitto/mosquitto.conf").read_text(encoding="utf-8").splitlines()
    assert {"persistence true", "max_queued_messages 0", "max_inflight_messages 2000"} <= set(lines)
