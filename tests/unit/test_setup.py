"""The first set-up: what it makes, what it leaves alone, and what survives an interruption."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from infra.errors import ConfigurationError
from riverchief import setup
from riverchief.brokers import certificates
from tests.says import says

NOW = datetime(2026, 5, 12, 2, 30, tzinfo=UTC)
NAMES = ["broker.example", "192.0.2.10"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def certificate(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "broker" / "server.pem").read_bytes())


def names(folder: Path) -> set[str]:
    held = certificate(folder).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in held}


def test_the_second_start_changes_nothing(tmp_path: Path) -> None:
    made = setup.prepare(tmp_path, NAMES, NOW)
    before = contents(tmp_path)
    assert set(made) == set(before)
    assert setup.prepare(tmp_path, NAMES, NOW + timedelta(days=365)) == []
    assert contents(tmp_path) == before


def test_no_two_sites_have_a_secret_in_common(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    setup.prepare(one, NAMES, NOW)
    setup.prepare(other, NAMES, NOW)
    held = contents(one)
    assert not set(held.values()) & set(contents(other).values())
    words = [value for name, value in held.items() if name.endswith(("password", "token"))]
    assert min(map(len, words)) >= 32


def test_both_ends_hold_the_same_words(tmp_path: Path) -> None:
    setup.prepare(tmp_path, NAMES, NOW)
    held = contents(tmp_path)
    assert held["grafana/postgres_password"] == held["postgres/grafana_password"]
    assert held["riverchief/pgpass"] == b"*:*:*:*:" + held["postgres/password"]
    assert b":" not in held["postgres/password"], "libpq would cut it there"


@pytest.mark.parametrize("lost", ["riverchief/pgpass", "grafana/postgres_password", "broker/server.pem"])
def test_what_an_interrupted_start_did_not_write_is_made_by_the_next(tmp_path: Path, lost: str) -> None:
    setup.prepare(tmp_path, NAMES, NOW)
    before = contents(tmp_path)
    (tmp_path / lost).unlink()
    assert lost in setup.prepare(tmp_path, NAMES, NOW)
    after = contents(tmp_path)
    assert set(after) == set(before)
    changed = {name for name in before if before[name] != after[name]}
    assert {Path(name).name for name in changed} <= {"server.pem", "server.key"}, (
        "everybody who has a password can keep it"
    )
    certificates.check_pair(after["broker/server.pem"], after["broker/server.key"])


def test_a_lost_original_is_made_anew_at_both_ends(tmp_path: Path) -> None:
    setup.prepare(tmp_path, NAMES, NOW)
    (tmp_path / "postgres" / "password").unlink()
    setup.prepare(tmp_path, NAMES, NOW)
    held = contents(tmp_path)
    assert held["riverchief/pgpass"] == b"*:*:*:*:" + held["postgres/password"]


def test_a_write_that_fails_leaves_no_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigurationError, match=says("file.unwritable", error="No space left on device")):
        setup.prepare(tmp_path, NAMES, NOW)
    assert contents(tmp_path) == {}


def test_each_folder_and_file_is_its_holders_alone(tmp_path: Path) -> None:
    setup.prepare(tmp_path, NAMES, NOW)
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_the_brokers_first_users_are_the_administrator_and_the_health_check(tmp_path: Path) -> None:
    setup.prepare(tmp_path, NAMES, NOW)
    state = json.loads((tmp_path / "broker" / "dynamic-security.json").read_text())
    assert [one["username"] for one in state["clients"]] == ["admin", "health"]
    assert state["defaultACLAccess"]["publishClientReceive"] is False
    rights = {(acl["acltype"], acl["topic"]) for role in state["roles"] for acl in role["acls"]}
    assert not [topic for _, topic in rights if not topic.startswith("$")], "neither of them sees a river"


def test_the_certificate_is_for_the_names_given_and_new_when_they_change(tmp_path: Path) -> None:
    setup.prepare(tmp_path, NAMES, NOW)
    assert names(tmp_path) == {"broker.example", "192.0.2.10"}
    authority = (tmp_path / "broker" / "ca.pem").read_bytes()
    renewed = set(setup.prepare(tmp_path, ["other.example"], NOW))
    assert {Path(name).name for name in renewed} == {"server.key", "server.pem", "ca.pem"}
    assert {f"{holder}/server.pem" for holder in setup.BROKERS} <= renewed
    assert names(tmp_path) == {"other.example"}
    assert (tmp_path / "broker" / "ca.pem").read_bytes() == authority, "no device has to learn a new authority"


def test_a_certificate_that_ends_soon_is_made_anew_by_the_same_authority(tmp_path: Path) -> None:
    setup.prepare(tmp_path, NAMES, NOW)
    first = certificate(tmp_path)
    near = first.not_valid_after_utc - timedelta(days=certificates.RENEW_DAYS - 1)
    assert "broker/server.pem" in setup.prepare(tmp_path, NAMES, near)
    second = certificate(tmp_path)
    assert second.not_valid_after_utc > first.not_valid_after_utc
    authority = x509.load_pem_x509_certificate((tmp_path / "broker" / "ca.pem").read_bytes())
    second.verify_directly_issued_by(authority)
    assert authority.not_valid_after_utc > second.not_valid_after_utc


def test_a_certificate_the_site_brought_is_left_alone(tmp_path: Path) -> None:
    site, own = tmp_path / "site", tmp_path / "own"
    setup.prepare(site, NAMES, NOW)
    setup.prepare(own, ["broker.example"], NOW)
    bring = own / "broker"
    setup.install_certificate(site, bring / "server.pem", bring / "server.key", bring / "ca.pem")
    brought = contents(site)
    assert brought["broker/server.pem"] == (bring / "server.pem").read_bytes()
    assert brought["broker/ca.pem"] == (bring / "ca.pem").read_bytes()
    assert setup.prepare(site, ["another.example"], NOW + timedelta(days=800)) == []
    assert contents(site) == brought


def test_a_key_that_does_not_belong_to_the_certificate_is_refused(tmp_path: Path) -> None:
    site, own = tmp_path / "site", tmp_path / "own"
    setup.prepare(site, NAMES, NOW)
    setup.prepare(own, NAMES, NOW)
    before = contents(site)
    with pytest.raises(ConfigurationError, match=says("certificate.other_key")):
        setup.install_certificate(site, own / "broker" / "server.pem", site / "broker" / "server.key", None)
    with pytest.raises(ConfigurationError, match=says("certificate.no_pem")):
        setup.install_certificate(site, own / "riverchief" / "api_token", own / "broker" / "server.key", None)
    assert contents(site) == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", says("certificate.no_name")),
        ("a b", says("certificate.no_host", name="a b")),
        ("河.example", says("certificate.no_host", name="河.example")),
    ],
)
def test_a_name_no_certificate_can_carry_is_refused_by_name(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        setup.prepare(tmp_path, [name] if name else [], NOW)


def test_no_private_key_shows_when_it_is_printed() -> None:
    pair = certificates.authority("示例", NOW)
    assert "PRIVATE" not in repr(pair)
    assert "BEGIN" not in repr(pair)
