"""The systemd units: what systemd itself says of them, and that they name what is there."""

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from riverchief import setup
from riverchief.settings import load
from tests.stack import is_setting

FOLDER = Path("config/systemd")
UNIT = (FOLDER / "riverchief@.service").read_text(encoding="utf-8")
FULL_STACK = (FOLDER / "riverchief@.service.d" / "full-stack.conf").read_text(encoding="utf-8")
BROKER_ADMIN = (FOLDER / "riverchief@.service.d" / "broker-admin.conf").read_text(encoding="utf-8")
ALL = UNIT + FULL_STACK + BROKER_ADMIN
SECRETS = "/etc/riverchief/secrets/"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units beside each other as they are installed; only the program's path is that of an existing program."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    assert UNIT.count("/opt/riverchief/bin/riverchief ") == 2
    (tmp_path / "riverchief@.service").write_text(UNIT.replace("/opt/riverchief/bin/riverchief ", "/bin/true "))
    return tmp_path


def analyse(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": f"{folder}:", "LC_ALL": "C.UTF-8"}
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_finds_nothing_to_complain_of(installed: Path) -> None:
    for instance in ("serve", "ingest", "api", "worker"):
        done = analyse(installed, "verify", "--man=no", f"riverchief@{instance}.service")
        complaints = [line for line in done.stderr.splitlines() if "riverchief" in line]
        assert not complaints, complaints
        assert done.returncode == 0


@needs_systemd
def test_systemd_would_find_a_spelling_mistake(installed: Path) -> None:
    file = installed / "riverchief@.service.d" / "full-stack.conf"
    file.write_text(FULL_STACK.replace("LoadCredential=pgpass", "LoadCredentials=pgpass"))
    assert "LoadCredentials" in analyse(installed, "verify", "--man=no", "riverchief@serve.service").stderr


@needs_systemd
def test_the_service_is_shut_in(installed: Path) -> None:
    """systemd's own measure: 10 is a service that may do everything; most stock services stand above 7."""
    done = analyse(installed, "security", "--offline=true", "--threshold=15", str(installed / "riverchief@.service"))
    assert done.returncode == 0, done.stdout


def test_every_credential_is_a_file_that_the_set_up_makes(tmp_path: Path) -> None:
    made = {*setup.prepare(tmp_path, ["broker.example"], datetime.now(UTC)), "riverchief/influx_token"}
    loaded = dict(re.findall(r"^LoadCredential=([\w.]+):(\S+)$", ALL, re.MULTILINE))
    assert len(loaded) == 7
    assert {path.removeprefix(SECRETS) for path in loaded.values()} <= made
    named = set(re.findall(r"%d/([\w.]+)", ALL))
    assert named | {"audit_key.pub"} == set(loaded), "the public half is read beside the key"


@pytest.mark.parametrize("text", [UNIT, UNIT + FULL_STACK, ALL], ids=["alone", "full-stack", "all"])
def test_the_variables_are_settings_that_hold_together(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RIVERCHIEF_")]:
        monkeypatch.delenv(name)
    given = dict(re.findall(r'^Environment="?(RIVERCHIEF_\w+)=([^"\n]+)"?$', text, re.MULTILINE))
    assert len(given) >= 4
    for name, value in given.items():
        assert is_setting(name), f"{name} would be ignored in silence"
        monkeypatch.setenv(name, value.replace("%d", "/run/credentials/riverchief@serve.service"))
    loaded = load(None)
    assert str(loaded.data) == "/var/lib/riverchief"
    assert ("postgresql" in loaded.database_url) is (text != UNIT)
