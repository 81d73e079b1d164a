"""SL 651 messages from the pipeline to the store, the quarantine and the ledger; stations from the command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.clock import now_ms
from infra.errors import ConfigurationError, NotFound
from infra.times import beijing_day
from ingest import ledger, quarantine
from ingest.storage import sl651_stations
from riverchief.cli.app import app
from sensors.reading import Message, Reason
from sensors.wire.sl651.readings import Gauge, topic
from sensors.wire.telemetry import StatusWord
from tests.sl651_site import ADDRESS, Site651, body, frame

FUJIAN = Path(__file__).parents[1] / "data" / "sl651" / "fujian.txt"
MINUTE = 60_000


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site651]:
    made = Site651(tmp_path / "site", udp=False)
    made.register(Gauge(ADDRESS, "shiwan"))
    made.site.follow_registry()
    yield made
    made.database.close()


def take(site: Site651, *payloads: bytes, address: str = ADDRESS) -> None:
    now = now_ms()
    site.site.process([Message(address, payload, now, "sl651", topic(address)) for payload in payloads], now)


def at(ago: int = 0) -> int:
    return (now_ms() // MINUTE - ago) * MINUTE


def held(site: Site651) -> list[quarantine.QuarantineEntry]:
    with site.database.read() as connection:
        return list(quarantine.listing(connection))


def test_a_bad_element_is_quarantined_with_the_message_and_the_others_are_stored(site: Site651) -> None:
    when = at()
    raw = frame(body(1, when, "FF02120123392300028960"))
    take(site, raw)
    assert site.stored("shiwan", "level") == {when: 28.96}
    (entry,) = held(site)
    assert (entry.reason, entry.payload, entry.refused) == (
        Reason.UNKNOWN_PARAMETER.key,
        raw,
        ((when // MINUTE * MINUTE, "FF02"),),
    )


def test_the_ledger_counts_each_reading_once(site: Site651) -> None:
    raw = frame(body(1, at(), "392300028960" + "03110251"))
    take(site, raw)
    take(site, raw, frame(body(1, at(), "392300028960" + "03110251"), 0x33))
    with site.database.read() as connection:
        (account,) = ledger.accounts(connection, day=beijing_day(now_ms()).isoformat())
    assert (account.station, account.messages, account.readings) == ("shiwan", 3, 6)
    assert (account.stored, account.duplicate) == (2, 4)


def test_a_message_of_a_station_that_is_registered_later_is_replayed(site: Site651) -> None:
    other, when = "003A00BEEF", at()
    raw = frame(body(1, when, address=other), address=other)
    take(site, raw, address=other)
    (entry,) = held(site)
    assert (entry.reason, entry.payload) == (Reason.UNKNOWN_STATION.key, raw)
    with site.database.write() as connection:
        sl651_stations.save(connection, Gauge(other, "shiwan"))
    site.site.follow_registry()
    site.site.process([entry.message()], now_ms())
    assert site.stored("shiwan", "level") == {when: 28.96}
    assert held(site) == []


def test_the_newest_reading_is_remembered_and_never_goes_back(site: Site651) -> None:
    newest = at()
    take(site, frame(body(1, newest)))
    take(site, frame(body(2, newest - 60 * MINUTE)))
    with site.database.read() as connection:
        assert sl651_stations.load(connection)[ADDRESS].last_at_ms == newest


def test_status_bits_are_events_only_where_they_change(site: Site651) -> None:
    with site.database.write() as connection:

        def told(at_ms: int, bits: int) -> list[tuple[str, int]]:
            found = sl651_stations.status_changes(connection, ADDRESS, StatusWord(at_ms, bits))
            return [(one["event"], one["bit"]) for one in map(json.loads, found)]

        assert told(1_000, 0x01) == []
        assert told(2_000, 0x01) == []
        assert told(3_000, 0x80) == [("power_restored", 0), ("door_closed", 7)]
        assert told(2_500, 0x01) == [], "it is older than what is known"
        assert told(4_000, 0x06) == [("battery_low", 1), ("status_bit", 2), ("door_open", 7)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "12345678"},
        {"address": "00123456G8"},
        {"password": "12"},
        {"base_m": float("nan")},
        {"array_order": "middle"},
    ],
)
def test_what_cannot_be_registered_is_named(site: Site651, wrong: dict[str, Any]) -> None:
    with site.database.write() as connection, pytest.raises(ConfigurationError):
        sl651_stations.save(connection, Gauge(**({"address": ADDRESS, "station": "shiwan"} | wrong)))
    with site.database.write() as connection, pytest.raises(NotFound):
        sl651_stations.save(connection, Gauge(ADDRESS, "nowhere"))


def test_stations_are_registered_listed_and_removed_without_showing_a_password(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--data", str(tmp_path)])
        assert done.exit_code == 0, done.output
        return done.stdout

    run("stations", "add", "fsc-1", "--lon", "113.1", "--lat", "23.0")
    run("sl651", "devices", "add", "0012345a78", "fsc-1", "--password", "a000", "--base", "1.5", "--by", "示例")
    listed = run("sl651", "devices", "list", "--json")
    assert json.loads(listed) == [
        {
            "address": "0012345A78",
            "station": "fsc-1",
            "base_m": 1.5,
            "array_order": "first",
            "last_at_ms": None,
            "password": True,
        }
    ]
    run("sl651", "devices", "add", "0012345a78", "fsc-1", "--array-order", "last")
    run("sl651", "devices", "remove", "0012345A78", "--by", "示例")
    changes = run("stations", "changes", "--json", "0012345A78")
    assert [one["after"].get("array_order") for one in json.loads(changes)] == [None, "last", "first"]
    assert "a000" not in (listed + changes).lower()
    assert json.loads(run("sl651", "devices", "list", "--json")) == []


@pytest.mark.parametrize("binary", [False, True])
def test_decode_reads_bytes_and_hexadecimal_lines(binary: bool) -> None:
    given = FUJIAN.read_bytes()
    if binary:
        lines = [line for line in given.splitlines() if line and not line.startswith(b"#")]
        given = b"".join(bytes.fromhex(line.decode()) for line in lines)
    done = CliRunner().invoke(app, ["sl651", "decode"], input=given)
    assert done.exit_code == 0
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(told) == 23
    assert all(one["ok"] for one in told)
    second = told[1]
    assert (second["station"], second["function"], second["serial"]) == ("0012345678", "34", 3)
    assert {
        "id": "39",
        "code": "Z",
        "zh": "水位",
        "key": "level",
        "time": "2014-06-12T02:00:00+08:00",
        "value": 27.3,
    } in (second["blocks"][0]["elements"])
    assert not any("password" in one for one in told)
    assert told[0]["parameters"] == [{"id": "03"}], "a new password is not shown"


def test_decode_says_why_bytes_are_no_frame() -> None:
    raw = bytearray(frame(body(1, at())))
    raw[-1] ^= 1
    done = CliRunner().invoke(app, ["sl651", "decode"], input=bytes(raw))
    assert json.loads(done.stdout.splitlines()[0])["ok"] is False
