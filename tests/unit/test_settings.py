"""Settings: the sample is the manual, a mistake is one sentence, and no secret is shown."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from infra.errors import ConfigurationError
from infra.texts import say
from riverchief import settings
from riverchief.settings import Settings, load, secret
from tests.says import says

SAMPLE = Path("config/settings.sample.toml")


def uncommented() -> str:
    """The sample with every setting switched on, prose left out."""
    lines = [re.sub(r"^# (?=[a-z_]+ = )", "", line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    return "\n".join(line for line in lines if not line.startswith("#"))


def every_setting() -> set[str]:
    found = set()
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= {f"{name}.{inner}" for inner in kind.model_fields}
        else:
            found.add(name)
    return found


def test_the_sample_shows_every_setting_and_no_other() -> None:
    shown = set()
    for name, value in tomllib.loads(uncommented()).items():
        shown |= {f"{name}.{inner}" for inner in value} if isinstance(value, dict) else {name}
    assert shown == every_setting()


def test_the_sample_shows_the_defaults() -> None:
    values = tomllib.loads(uncommented())
    defaults = Settings()
    for section, rows in values.items():
        for name, value in rows.items() if isinstance(rows, dict) else [(section, rows)]:
            default = getattr(getattr(defaults, section), name) if isinstance(rows, dict) else getattr(defaults, name)
            if default is not None:  # what has no default is shown as an example
                assert str(default) == str(value), f"{section}.{name}"


def write(folder: Path, text: str) -> Path:
    file = folder / "settings.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_sample_as_it_stands_is_a_working_file(tmp_path: Path) -> None:
    assert load(write(tmp_path, SAMPLE.read_text(encoding="utf-8"))) == Settings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[mqtt]\nhots = 'x'", says("settings.wrong", faults=say("settings.unknown", name="mqtt.hots"))),
        ("colour = 'red'", says("settings.wrong", faults=say("settings.unknown", name="colour"))),
        ("[mqtt]\nport = 70000", re.escape("mqtt.port")),
        ("[mqtt]\nport = 'often'", re.escape("mqtt.port")),
        ("[mqtt]\ncert_file = 'a'\ntls = true", says("settings.wrong", faults=say("settings.mqtt_pair"))),
        ("[mqtt]\nca_file = 'a'", says("settings.wrong", faults=say("settings.mqtt_tls"))),
        ("[mqtt]\npassword = 'p'", says("settings.wrong", faults=say("settings.mqtt_user"))),
        (
            "[mqtt]\nuser = 'u'\npassword = 'p'\npassword_file = 'f'",
            says("settings.wrong", faults=say("settings.both", section="mqtt", name="password")),
        ),
        (
            "[outbox]\nurl = 'https://platform.example/events'",
            says("settings.wrong", faults=say("settings.outbox_secret")),
        ),
        (
            "[api]\nhost = '0.0.0.0'\n[access]\nopen = true",
            says("settings.wrong", faults=say("settings.open_to_all", host="0.0.0.0")),
        ),
        ("[api]\ntoken = 't'\n[access]\nopen = true", says("settings.wrong", faults=say("settings.open_token"))),
        ("[api]\ntrusted_proxies = ['192.0.2.1/24']", re.escape("is no address or network")),
        ("[api]\nport = ", re.escape("settings.toml")),
    ],
)
def test_a_mistake_stops_the_start_with_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        load(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_an_address_of_the_time_series_server_with_a_query_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[influx]\nurl = 'http://influx:8086/?token=hidden'\n")
    with pytest.raises(
        ConfigurationError,
        match=says(
            "settings.wrong",
            where=say("settings.the_file", file=tmp_path / "settings.toml"),
            faults=say("time_series_server.query"),
        ),
    ) as caught:
        load(file)
    assert "hidden" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=says("settings.no_file", file=tmp_path / "nowhere.toml")):
        load(tmp_path / "nowhere.toml")


def test_the_environment_overrules_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIVERCHIEF_MQTT__PORT", "1999")
    loaded = load(write(tmp_path, "[mqtt]\nhost = 'broker.example'\nport = 1884"))
    assert (loaded.mqtt.host, loaded.mqtt.port) == ("broker.example", 1999)


def test_no_secret_is_shown(tmp_path: Path) -> None:
    mqtt, api = "[mqtt]\nuser = 'u'\npassword = 'hush'", "[api]\ntoken = 'hush'"
    text = f"{mqtt}\n{api}\n[outbox]\nurl = 'http://x.example'\nsecret = 'hush'"
    loaded = load(write(tmp_path, text))
    assert "hush" not in repr(loaded)
    with pytest.raises(ConfigurationError) as caught:
        load(write(tmp_path, "[api]\nhost = 5\ntoken = 'hush'\nhots = 'hush'"))
    assert "hush" not in str(caught.value)


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("sesame\n")
    assert secret(None, file) == "sesame"
    with pytest.raises(ConfigurationError, match=says("file.secret", file=tmp_path / "missing")):
        secret(None, tmp_path / "missing")


def test_a_secret_given_directly_is_used() -> None:
    loaded = Settings(api=settings.ApiSection(token="sesame"))  # type: ignore[arg-type]
    assert secret(loaded.api.token, loaded.api.token_file) == "sesame"
