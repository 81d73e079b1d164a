"""The trail on both databases: whatever is done to it is found, at the right entry."""

import contextlib
import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from governance.audit import merkle
from governance.audit import trail as audit_trail
from governance.audit.merkle import GENESIS, Root
from governance.audit.trail import FaultKind, Verified
from governance.verification import roots
from infra.database import Database
from infra.errors import NotFound, Refused
from ingest.rules import rule_file
from ingest.state import rule_versions
from ingest.storage import changes, registry
from ingest.storage.changes import Author
from sensors.parameters import catalogue
from sensors.stations import Registry, Station
from tests.databases import unguarded, with_tables
from tests.says import says

pytestmark = pytest.mark.both_databases

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
T = 1_790_000_000_000


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    with_tables(database)
    yield database
    database.close()


def add(database: Database, count: int, start: int = 0) -> int:
    new = [
        audit_trail.NewEntry(
            "plan.changed", "plan", i, {"goal": f"目标{i}", "share": i / 7}, f"王工{i % 3}（示例）", T + i
        )
        for i in range(start, start + count)
    ]
    with database.write() as connection:
        return audit_trail.append_many(connection, new)


def seal(database: Database, now_ms: int = T) -> Root:
    with database.write() as connection:
        made = roots.seal(connection, KEY, origin="/river", now_ms=now_ms)
    assert made is not None
    assert made.faults == []
    return made.root


def verify(database: Database, *outside: Root) -> Verified:
    with database.read() as connection:
        return roots.verify(connection, [KEY.public_key()], outside)


def test_entries_are_numbered_and_chained_and_found_again(database: Database) -> None:
    assert add(database, 3) == 3
    with database.write() as connection:
        body = {"nul": "a\x00b", "half": "\ud800", "text": "氨氮", "none": None}
        assert audit_trail.append(connection, "x.y", kind="k", id="甲\x00", body=body, by="\x00", at_ms=T) == 4
    with database.read() as connection:
        lines = list(audit_trail.all_entries(connection))
        assert [line.n for line in lines] == [1, 2, 3, 4]
        assert [line.prev for line in lines] == [GENESIS, *(line.hash for line in lines[:3])]
        assert [line.n for line in audit_trail.list_entries(connection, what="plan", by="王工1（示例）")] == [2]
        assert [line.n for line in audit_trail.list_entries(connection, since_ms=T + 1, until_ms=T + 2)] == [2]
        assert [line.n for line in audit_trail.list_entries(connection, before_n=3, limit=1)] == [2]
        assert [line.n for line in audit_trail.entries_of(connection, "plan", 2)] == [3]
        assert audit_trail.entries_of(connection, "plan", 2, until_ms=T + 1) == []
        with pytest.raises(NotFound, match=says("audit_page.no_entry", n=5)):
            audit_trail.get(connection, 5)
    assert json.loads(lines[3].body)["text"] == "氨氮"
    assert (verify(database).ok, verify(database).entries) == (True, 4)


def test_the_database_refuses_to_change_delete_or_replace_an_entry_or_a_root(database: Database) -> None:
    add(database, 2)
    root = seal(database)
    statements = ["UPDATE audit SET kind = 'x'", "DELETE FROM audit", "DELETE FROM audit_root"]
    statements.append("UPDATE audit_root SET root = 'x'")
    row = "SELECT n, at_ms, 'x', role, what, kind, subject, body, prev_hash, hash FROM audit WHERE n = 1"
    names = 'n, at_ms, "by", role, what, kind, subject, body, prev_hash, hash'
    if database.is_sqlite:
        statements.append(f"INSERT OR REPLACE INTO audit ({names}) {row}")
        statements.append(f"INSERT OR REPLACE INTO audit (rowid, {names}) {row.replace('SELECT n', 'SELECT 1, 9')}")
        statements.append("INSERT OR REPLACE INTO audit_root SELECT * FROM audit_root")
    else:
        statements.append(f'INSERT INTO audit ({names}) {row} ON CONFLICT (n) DO UPDATE SET "by" = excluded."by"')
        statements += ["TRUNCATE audit", "TRUNCATE audit_root"]
    for statement in statements:
        with pytest.raises(sa.exc.DBAPIError, match="never changed"), database.write() as connection:
            connection.exec_driver_sql(statement)
    with database.write() as connection:
        roots.mark_sent(connection, root, T)
        assert roots.list_roots(connection, unsent=True) == []
    assert (verify(database).ok, verify(database).entries, verify(database).roots) == (True, 2, 1)


def test_a_hash_that_is_no_number_is_found_at_its_entry(database: Database) -> None:
    add(database, 3)
    seal(database)
    unguarded(database, "UPDATE audit SET hash = 'no number' WHERE n = 2")
    fault = verify(database).faults[0]
    assert (fault.n, fault.until, fault.wrong) == (2, 2, FaultKind.CHANGED)


def test_roots_taken_out_of_the_database_are_missed_by_those_outside(database: Database) -> None:
    add(database, 3)
    first = seal(database)
    add(database, 2, start=3)
    second = seal(database)
    unguarded(database, "DELETE FROM audit_root")
    assert verify(database).ok
    (fault,) = verify(database, first, second).faults
    assert (fault.n, fault.until, fault.wrong) == (3, 5, FaultKind.ROOT_MISSING)


def test_what_is_rolled_back_leaves_no_entry_and_no_gap(database: Database) -> None:
    add(database, 1)
    with contextlib.suppress(RuntimeError), database.write() as connection:
        audit_trail.append(connection, "x", kind="k", id=1, body={}, by="b", at_ms=T)
        raise RuntimeError
    assert add(database, 1, start=5) == 2
    assert verify(database).ok


def test_several_workers_append_at_once_in_one_chain(database: Database) -> None:
    failed: list[Exception] = []

    def work(worker: int) -> None:
        own = Database(database.url)
        try:
            for i in range(10):
                add(own, 3, start=worker * 1000 + i * 3)
        except Exception as error:
            failed.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    found = verify(database)
    assert (found.ok, found.entries) == (True, 120)
    with database.read() as connection:
        assert audit_trail.head(connection)[0] == 120


def test_a_change_of_the_registry_is_an_entry_with_before_and_after(database: Database) -> None:
    with database.write() as connection:
        for name in ("石湾", "石湾大桥"):
            station = Station("shiwan", name, "Shiwan", 113.1, 23.0)
            registry.save(connection, Registry((station,), catalogue=catalogue()), Author("周工（示例）", T))
        changes.record_change(connection, "credential", "shiwan/u", {"issued": True}, author=Author("周工（示例）", T))
    with database.read() as connection:
        first, second = audit_trail.entries_of(connection, "station", "shiwan")
        (login,) = audit_trail.entries_of(connection, "credential", "shiwan/u")
    assert (first.what, first.by, first.at_ms) == ("registry.station", "周工（示例）", T)
    assert json.loads(first.body)["before"] is None
    assert json.loads(second.body)["before"]["zh"] == "石湾"
    assert json.loads(second.body)["after"]["zh"] == "石湾大桥"
    assert login.what == "registry.credential"


def test_every_version_of_a_rule_is_an_entry_when_it_begins_and_when_it_ends(database: Database) -> None:
    text = '[[threshold]]\nid = "x"\nparameter = "do"\nside = "below"\nlimit = {limit}\nsamples = 3\ncolour = "red"\n'
    for limit in (2.0, 2.0, 3.0):
        with database.write() as connection:
            rule_versions.record_versions(
                connection, rule_file.read(text.format(limit=limit), catalogue()), catalogue(), T
            )
    with database.read() as connection:
        told = [(line.what, json.loads(line.body)) for line in audit_trail.entries_of(connection, "rule", "x")]
    assert [what for what, _ in told] == ["rule.in_force", "rule.ended", "rule.in_force"]
    assert "limit = 3.0" in told[2][1]["toml"]
    assert told[1][1]["version"] == told[0][1]["version"] != told[2][1]["version"]


# -- tampering, by somebody who owns the database and knows how it works -----------------------------------------------


class Copy:
    """A trail of 12 entries in a file, roots after the 5th and the 10th, and nobody to guard it."""

    def __init__(self, folder: Path) -> None:
        whole, file = folder / "whole.db", folder / "trail.db"
        if not whole.exists():
            self._write(whole)
        shutil.copyfile(whole, file)
        self.database = Database(f"sqlite:///{file}")
        with self.database.read() as connection:
            self.first, self.second = roots.list_roots(connection)
        self.raw = sqlite3.connect(file, isolation_level=None)
        self.raw.execute("PRAGMA synchronous=OFF")
        for (name,) in self.raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            self.raw.execute(f"DROP TRIGGER {name}")

    @staticmethod
    def _write(file: Path) -> None:
        database = Database(f"sqlite:///{file}")
        with_tables(database)
        add(database, 5)
        seal(database, T)
        add(database, 5, start=5)
        seal(database, T + 1)
        add(database, 2, start=10)
        database.close()

    def rechain(self, start: int) -> None:
        """Write the hashes anew from an entry on, as a careful forger would."""
        with self.database.read() as connection:
            lines = list(audit_trail.all_entries(connection))
        prev = lines[start - 2].hash if start > 1 else GENESIS
        for line in lines[start - 1 :]:
            self.raw.execute("UPDATE audit SET prev_hash = ? WHERE n = ?", (prev, line.n))
            prev = merkle.chained(prev, line.record())
            self.raw.execute("UPDATE audit SET hash = ? WHERE n = ?", (prev, line.n))

    def close(self) -> None:
        self.raw.close()
        self.database.close()


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Copy]:
    made = Copy(tmp_path)
    yield made
    made.close()


COLUMNS = {"by": "别人", "role": "chief", "what": "x", "kind": "y", "subject": "z", "at_ms": 1, "body": "{}"}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_tampering_is_found_at_the_right_entry(tmp_path: Path, data: st.DataObject) -> None:
    copy = Copy(tmp_path)
    try:
        n = data.draw(st.integers(1, 12))
        how = data.draw(st.sampled_from(["change", "hash", "delete", "swap", "cut", "rewrite", "insert"]))
        raw, first = copy.raw, n
        if how == "change":
            column = data.draw(st.sampled_from(sorted(COLUMNS)))
            raw.execute(f'UPDATE audit SET "{column}" = ? WHERE n = ?', (COLUMNS[column], n))
        elif how == "hash":  # the entry alone gets a hash that fits it
            raw.execute("UPDATE audit SET body = '{}' WHERE n = ?", (n,))
            with copy.database.read() as connection:
                line = audit_trail.get(connection, n)
            raw.execute("UPDATE audit SET hash = ? WHERE n = ?", (line.expected_hash(), n))
        elif how == "delete":
            raw.execute("DELETE FROM audit WHERE n = ?", (n,))
        elif how == "swap":
            other = data.draw(st.integers(1, 12).filter(lambda m: m != n))
            first = min(n, other)
            for old, new in ((n, -1), (other, n), (-1, other)):
                raw.execute("UPDATE audit SET n = ? WHERE n = ?", (new, old))
        elif how == "cut":
            raw.execute("DELETE FROM audit WHERE n >= ?", (n,))
        elif how == "rewrite":
            raw.execute("UPDATE audit SET body = '{}' WHERE n = ?", (n,))
            copy.rechain(n)
        else:  # an entry of somebody's own, the later ones moved and chained anew
            for m in range(12, n - 1, -1):
                raw.execute("UPDATE audit SET n = ? WHERE n = ?", (m + 1, m))
            row = (n, T, "x", "", "x", "x", "x", "{}", "", "")
            raw.execute("INSERT INTO audit VALUES (?,?,?,?,?,?,?,?,?,?)", row)
            copy.rechain(n)
        found = verify(copy.database, copy.first, copy.second)
        unsigned = first > 10 and (how in {"cut", "rewrite", "insert"} or (how in {"hash", "delete"} and first == 12))
        if unsigned:  # under no root, and nothing after it: what `unsigned` warns of
            assert found.ok
            return
        assert not found.ok
        fault = found.faults[0]
        assert fault.n <= first <= fault.until, (how, n, fault)
        if how in {"change", "delete", "swap"}:
            assert fault.n == fault.until
    finally:
        copy.close()


def test_a_trail_cut_off_together_with_its_roots_is_found_with_the_roots_from_outside(trail: Copy) -> None:
    trail.raw.execute("DELETE FROM audit WHERE n > 5")
    trail.raw.execute("DELETE FROM audit_root WHERE size > 5")
    assert verify(trail.database).ok
    (fault,) = verify(trail.database, trail.second).faults
    assert (fault.n, fault.until, fault.wrong) == (6, 10, FaultKind.CUT_OFF)


def test_a_trail_chained_anew_is_found_as_the_smallest_range_that_roots_allow(trail: Copy) -> None:
    for n, span in ((8, (6, 10)), (3, (1, 5))):
        trail.raw.execute(f"UPDATE audit SET body = '{{}}' WHERE n = {n}")
        trail.rechain(n)
        (fault,) = verify(trail.database, trail.first, trail.second).faults
        assert (fault.n, fault.until, fault.wrong) == (*span, FaultKind.REWRITTEN)


def test_a_trail_written_anew_and_signed_with_another_key_is_found(trail: Copy) -> None:
    trail.raw.execute("UPDATE audit SET body = '{}' WHERE n = 2")
    trail.rechain(2)
    trail.raw.execute("DELETE FROM audit_root")
    other = Ed25519PrivateKey.generate()
    with trail.database.write() as connection:
        roots.seal(connection, other, origin="/river", now_ms=T)
    found = verify(trail.database, trail.first)
    assert {fault.wrong for fault in found.faults} == {FaultKind.SIGNATURE, FaultKind.REWRITTEN, FaultKind.ROOT_MISSING}
    rewritten = next(fault for fault in found.faults if fault.wrong is FaultKind.REWRITTEN)
    assert (rewritten.n, rewritten.until) == (1, 5)


def test_sealing_reads_only_what_is_new_and_tells_what_is_wrong_with_it(trail: Copy) -> None:
    trail.raw.execute("UPDATE audit SET body = '{}' WHERE n IN (3, 11)")
    with trail.database.write() as connection:
        made = roots.seal(connection, KEY, origin="/river", now_ms=T + 2)
        assert made is not None
        assert [fault.n for fault in made.faults] == [11]
        assert roots.seal(connection, KEY, origin="/river", now_ms=T + 3) is None
    assert [fault.n for fault in verify(trail.database).faults] == [3, 11]


def test_a_proof_of_every_entry_holds_and_continues_every_earlier_root(trail: Copy) -> None:
    with trail.database.read() as connection:
        for n in range(1, 11):
            for since in (5, 10, None):
                made = roots.proof(connection, n, since=since)
                merkle.check_proof(merkle.read_proof(json.dumps(made.as_json())), [KEY.public_key()])
                assert made.earlier == (trail.second if since == 10 else trail.first)
        with pytest.raises(Refused, match=says("audit_page.no_root_yet", n=11)):
            roots.proof(connection, 11)
        with pytest.raises(Refused, match=says("audit_page.no_root", since=7, known="5, 10")):
            roots.proof(connection, 1, since=7)
        with pytest.raises(NotFound):
            roots.proof(connection, 99)


def test_an_entry_under_no_root_yet_whose_hash_was_made_to_fit_breaks_the_chain_behind_it(trail: Copy) -> None:
    trail.raw.execute("UPDATE audit SET body = '{}' WHERE n = 11")
    with trail.database.read() as connection:
        line = audit_trail.get(connection, 11)
    trail.raw.execute("UPDATE audit SET hash = ? WHERE n = 11", (line.expected_hash(),))
    (fault,) = verify(trail.database).faults
    assert (fault.n, fault.until, fault.wrong) == (11, 12, FaultKind.OUT_OF_ORDER)
