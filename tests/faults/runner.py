"""Faults at random against a running site; what is sent and what must hold afterwards is known.

    make faults ARGS="--seed 7 --faults 200 --database postgres"

Mosquitto, InfluxDB 1.6, the database, ingest, API and worker as processes, a receiver of ours; devices publish all the
time. Faults come one after another from a schedule that the seed decides. The command writes the table of
docs/reliability.md and exits with 1 where anything is wrong.
"""

import argparse
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from riverchief import logs
from riverchief.settings import LogSection
from riverchief.terminal import out
from simulator.devices.fleet import Fleet
from tests.faults import checks, table
from tests.faults.kinds import KILL_BROKER, KILL_INGEST, KINDS, Kind, Run
from tests.faults.parts import PARTS, Site
from tests.faults.report import MEMORY_MB, PROGRESS_S, Fault, Report
from tests.faults.river import River
from tests.rig import eventually

STEADY = ["s0", "s1", "s2", "s3"]
POLLUTE_EVERY = 8
"""Faults; those in which an alarm comes up let another station turn."""
MAY_SEND_AGAIN = ("worker", "power loss", "database", "PostgreSQL", "receiver")
"""Faults that come between sending and recording that something was sent."""
MOST_IN_FLIGHT = 8
"""Deliveries that a worker has on their way at once."""
SHORT = 25
"""A run of so many faults has no time for faults that last, nor for processes that load the product at each start."""
OTHER_DATABASE = {"sqlite", "postgres"}
PATIENCE_S = 90.0
BACKLOG, BACKLOG_PER_S = 20_000, 2_000
"""Messages that wait, and how many a second are waited for."""
"""A site that does not go on by then never will."""
LEASES_MS = 700_000
"""Longer than any claim, wait or backoff: passes once everything is mended, so that what waits is due."""


def schedule(rng: random.Random, kinds: Sequence[Kind], count: int, kills: int) -> list[Kind]:
    """Every kind once in an order that is drawn, again and again; ``kills`` of the ingest are mixed in."""
    found: list[Kind] = []
    while len(found) < count - kills:
        found += rng.sample(kinds, len(kinds))
    found = found[: count - kills] + [KILL_INGEST] * kills
    rng.shuffle(found)
    return found


def run(
    seed: int,
    count: int,
    dialect: str,
    *,
    kills: int = 0,
    backlog: int = BACKLOG,
    only: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Let faults happen, and check; ``only`` takes the kinds with this in their name."""
    rng = random.Random(seed)
    site = Site(dialect, cold=count > SHORT)
    try:
        allowed = site.capabilities | ({"time"} if count > SHORT else set())
        possible = [one for one in KINDS if one.needs <= allowed and only in one.name]
        left_out = [one.name for one in KINDS if one not in possible and not one.needs & OTHER_DATABASE]
        report = Report(seed, dialect, left_out)
        planned = schedule(rng, possible, count, kills)
        turning = [f"p{i:02d}" for i in range(max(6, count // 5))]
        late = [f"late{i}" for i in range(1 + sum(one.name.startswith("flood") for one in planned))]
        site.register(*STEADY, *turning, *late, "old", "file")
        site.start(*PARTS)
        with Fleet([*STEADY, *turning, *late, "old"], site.device, boot=1) as fleet:
            _subscribed(site, fleet)
            with River(fleet, site.clock, rng, STEADY, turning, late) as river:
                river.fill_old_months()
                site.recovers(STEADY[0], PATIENCE_S)
                work = Run(site, river, rng, backlog)
                for number, kind in enumerate(planned):
                    if number % POLLUTE_EVERY == POLLUTE_EVERY // 2:
                        river.pollute()
                    report.faults.append(_one(work, kind))
                    say(f"{number + 1:3d} {kind.name}: {report.faults[-1].recovered_s:.1f} s")
                time.sleep(1)
            _settle(site, fleet)
        _examine(site, river, report)
        return report
    except BaseException:
        sys.stderr.write(f"what the processes logged last:\n{site.log()[-5000:]}\n")
        raise
    finally:
        site.close()


def _subscribed(site: Site, fleet: Fleet) -> None:
    """A message published before the first subscription belongs to nobody: wait for the session to exist."""

    def heard() -> bool:
        fleet["old"].publish([], site.clock.now_ms())
        fleet.flush(5)
        return site.ask("SELECT sum(messages) FROM ledger") > 0

    eventually("the ingest subscribes", heard, PATIENCE_S, every_s=0.2)


def _one(work: Run, kind: Kind) -> Fault:
    begun_at = time.monotonic()
    kind.apply(work)
    return Fault(kind, begun_at, work.site.recovers(STEADY[0], PATIENCE_S + work.backlog / BACKLOG_PER_S))


def _settle(site: Site, fleet: Fleet) -> None:
    """Wait until nothing is on its way any more."""
    assert fleet.flush(PATIENCE_S), "the broker does not take everything"
    site.clock.pass_time(LEASES_MS)
    quiet_since, last = time.monotonic(), -1

    def settled() -> bool:
        nonlocal quiet_since, last
        site.revive()
        taken = site.ask("SELECT sum(messages) FROM ledger")
        with site.database() as database:
            waiting = checks.waits(database, site.clock.now_ms())
        if taken != last or any(waiting.values()):
            quiet_since, last = time.monotonic(), taken
        return time.monotonic() - quiet_since > 2

    try:
        eventually("everything has arrived", settled, PATIENCE_S, every_s=0.25)
    except BaseException:
        with site.database() as database:
            sys.stderr.write(f"still on its way: {checks.waits(database, site.clock.now_ms())}\n")
        raise


def _examine(site: Site, river: River, report: Report) -> None:
    codes = site.stop()
    report.readings = found = checks.readings(site, river)
    report.sent = sum(len(one.values) for one in river.sent.values())
    report.redelivered = site.ask("SELECT sum(messages_duplicate) FROM ledger")
    report.sent_at = {key: one.sent_at for key, one in river.sent.items()}
    report.incidents = len(river.polluted) + len(river.flooded)
    report.ended_by_itself, report.peak_mb = Counter(site.ended_by_itself), dict(site.peak_mb)
    accepted = Counter(one.event_id for one in site.receiver.accepted())
    report.events, report.events_again = len(accepted), accepted.total() - len(accepted)
    texts = Counter(site.receiver.texts)
    report.texts, report.texts_again = len(texts), texts.total() - len(texts)
    report.wrong += [f"{part} exits with {code}" for part, code in codes.items() if code]
    report.wrong += [
        f"{len(wrong)} readings {name}: {sorted(wrong)[:3]}"
        for name, wrong in (("lost", found.lost), ("altered", found.altered), ("doubled", found.doubled))
        if wrong
    ]
    if other := {report.fault_of(one) for one in found.named} - {KILL_BROKER.name}:
        report.wrong.append(f"readings are missing after {', '.join(sorted(other))}")
    for check in checks.CHECKS:
        report.wrong += check(site, river)
    report.wrong += checks.books(site, found)
    unrecorded = sum(any(word in one.kind.name for word in MAY_SEND_AGAIN) for one in report.faults)
    if max(report.texts_again, report.events_again) > unrecorded * MOST_IN_FLIGHT:
        report.wrong.append(f"{report.texts_again} messages and {report.events_again} events were sent again")
    report.wrong += [f"{part} had {mb:.0f} MB" for part, mb in site.peak_mb.items() if mb > MEMORY_MB]


def too_slow(report: Report) -> list[str]:
    """The faults after which nothing was stored, or the API did not answer, for too long."""
    return [
        f"fault {number}, {one.kind.name}: no progress for {one.recovered_s:.1f} s"
        for number, one in enumerate(report.faults, 1)
        if one.recovered_s > PROGRESS_S
    ]


def main() -> None:
    """The command behind ``make faults``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--backlog", type=int, default=BACKLOG, help="messages that wait when an ingest was away")
    parser.add_argument("--only", default="", help="kinds with this in their name; writes no table")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # ends what was started
    logs.configure(LogSection(level="warning"))
    say = partial(out.print, soft_wrap=True, highlight=False, markup=False)
    say(f"seed {given.seed}")
    report = run(given.seed, given.faults, given.database, backlog=given.backlog, only=given.only, say=say)
    wrong = [*report.wrong, *too_slow(report)]
    for line in (*table.summary(report), *(f"WRONG: {one}" for one in wrong)):
        say(line)
    if not given.only:
        table.write(report, wrong)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
