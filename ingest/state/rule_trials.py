"""Rules on trial (试运行): a changed version of a rule judges live readings beside the one in force, for some days.

What it finds is only recorded here, beside what the version in force finds in the same time: it opens no incident and
informs nobody. A trial ends by itself, puts nothing in force, and begins with a backtest that is done.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from governance.audit import trail as audit_trail
from governance.incidents.finding import ConditionChange, Finding
from infra.errors import ConfigurationError, NotFound, Refused
from infra.records import from_row
from infra.texts import say
from infra.times import DAY_MS
from ingest.rules import explain, rule_file
from ingest.rules.alarm_state import Alarm, AlarmKey
from ingest.rules.exceedances import PublishedExceedance
from ingest.rules.model import EventRule, Rule
from ingest.state import rule_publications, rule_versions
from ingest.state.rule_publications import Publisher, Tried
from ingest.storage.tables import alarm as alarm_table
from ingest.storage.tables import rule_trial as table
from ingest.storage.tables import rule_trial_finding as findings_table
from ingest.storage.tables import rule_version
from sensors.maintenance import END_OF_TIME_MS
from sensors.parameters import Catalogue

RUNNING, OVER, WITHDRAWN, ADOPTED, SUPERSEDED = "running", "over", "withdrawn", "adopted", "superseded"
ALLOWED_DAYS = (1, 30)
"""The least and the most days of a trial."""
DEFAULT_DAYS = 7
MAX_FINDINGS = 10_000
"""Findings of a trial that are compared, the newest of them."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial of ``version`` of a rule beside the version ``base`` in force; ``body`` is the rule as TOML.

    ``proposed_by`` asked for the backtest, ``begun_by`` began the trial. ``ended_at_ms`` is None while ``state`` is
    running.
    """

    id: int
    rule: str
    version: str
    base: str
    body: str
    backtest: int
    proposed_by: str
    begun_by: str
    reason: str
    begun_at_ms: int
    until_ms: int
    state: str
    ended_at_ms: int | None
    ended_by: str
    end_reason: str

    def state_at(self, now_ms: int) -> str:
        """The state; a trial is over at its time, whether or not an ingest runs that notes it."""
        return OVER if self.state == RUNNING and now_ms >= self.until_ms else self.state

    def end_ms(self, now_ms: int) -> int:
        """Until when findings were recorded."""
        return min(self.until_ms, now_ms if self.ended_at_ms is None else self.ended_at_ms)


@dataclass(frozen=True, slots=True)
class TrialFinding:
    """An exceedance that one version found: the ``candidate``, or the one in force.

    ``first_ms`` is the reading at which it fired, ``fired_ms`` where it fired last (again on timely data); ``ended_ms``
    is None while it lasts.
    """

    rule: str
    candidate: bool
    station: str
    parameter: str
    cause: str
    colour: str
    since_ms: int
    first_ms: int
    fired_ms: int
    ended_ms: int | None
    retrospective: bool
    flapping: bool
    value: float | None
    text_zh: str
    text_en: str


# -- what people do ----------------------------------------------------------------------------------------------------


def begin(
    connection: sa.Connection, tried: Tried, by: Publisher, catalogue: Catalogue, now_ms: int, days: int = DEFAULT_DAYS
) -> Trial:
    """Begin a trial of the rule that a backtest changed; sent twice it is begun once.

    Raises ConfigurationError for too many days, and Refused without a backtest that is done, without a reason, where it
    changes another number of rules than one, a rule about events or one that is not in force, and while one of the rule
    is running.
    """
    least, most = ALLOWED_DAYS
    if not least <= days <= most:
        raise ConfigurationError(say("rules_page.trial_days", least=least, most=most))
    if not tried.is_done:
        raise Refused(say("rules_page.not_tried", number=tried.id))
    rule, base = _changed_rule(connection, tried, catalogue)
    for one in of_rule(connection, rule.id):
        if one.state_at(now_ms) == RUNNING:
            if one.backtest == tried.id:
                return one
            raise Refused(say("rules_page.trial_running", rule=rule.id, number=one.id))
    if not by.reason.strip():
        raise Refused(say("rules_page.no_reason"))
    values = {
        "rule": rule.id,
        "version": rule.version,
        "base": base,
        "body": explain.toml(rule),
        "backtest": tried.id,
        "proposed_by": tried.by,
        "begun_by": by.name,
        "reason": by.reason.strip(),
        "begun_at_ms": now_ms,
        "until_ms": now_ms + days * DAY_MS,
        "state": RUNNING,
        "ended_by": "",
        "end_reason": "",
    }
    number = int(connection.execute(sa.insert(table).values(values).returning(table.c.id)).scalar_one())
    trial = get(connection, number)
    _copy_active_alarms(connection, trial)
    _record_in_trail(connection, "begun", trial, by, now_ms)
    return trial


def withdraw(connection: sa.Connection, number: int, by: Publisher, now_ms: int) -> Trial:
    """End a running trial; what it found stays. Raises NotFound and Refused."""
    trial = get(connection, number)
    if trial.state == WITHDRAWN:
        return trial
    if trial.state_at(now_ms) != RUNNING:
        raise Refused(say("rules_page.trial_ended", number=number))
    return _end(connection, trial, WITHDRAWN, by, now_ms)


def adopt(connection: sa.Connection, number: int, by: Publisher, catalogue: Catalogue, now_ms: int) -> Trial:
    """Put the tried version in force, while the trial runs or after it is over; other rules stay as they are.

    Raises NotFound, and Refused for who proposed it, without a reason, after the trial was withdrawn, and where the
    rule changed since.
    """
    trial = get(connection, number)
    if trial.state == ADOPTED:
        return trial
    if trial.state in (WITHDRAWN, SUPERSEDED):
        raise Refused(say("rules_page.trial_ended", number=number))
    versions = rule_versions.in_force(connection)
    version = next((one for one in versions if one.rule == trial.rule), None)
    if version is None or version.version != trial.base:
        raise Refused(say("rules_page.trial_rule_changed", number=number))
    text = "\n".join(trial.body if one.rule == trial.rule else one.body for one in versions)
    tried = Tried(trial.backtest, trial.proposed_by, trial.begun_at_ms, True, text)
    rule_publications.publish_tried(connection, tried, by, catalogue, now_ms)
    return _end(connection, trial, ADOPTED, by, now_ms)


def _changed_rule(connection: sa.Connection, tried: Tried, catalogue: Catalogue) -> tuple[Rule, str]:
    """The one rule that a backtest changed, and its version in force."""
    before = {one.rule: one.version for one in rule_versions.in_force(connection)}
    after = {rule.id: rule for rule in rule_file.read(tried.rules, catalogue)}
    changed = [one for one in after.values() if before.get(one.id) != one.version]
    if len(changed) != 1 or before.keys() - after.keys():
        raise Refused(say("rules_page.trial_one_rule", number=tried.id))
    (rule,) = changed
    if rule.id not in before:
        raise Refused(say("rules_page.trial_not_in_force", rule=rule.id))
    if isinstance(rule, EventRule):
        raise Refused(say("rules_page.trial_no_events"))
    return rule, before[rule.id]


def _end(connection: sa.Connection, trial: Trial, state: str, by: Publisher, now_ms: int) -> Trial:
    if not by.reason.strip():
        raise Refused(say("rules_page.no_reason"))
    ended_at_ms = now_ms if trial.ended_at_ms is None else trial.ended_at_ms
    values = {"state": state, "ended_at_ms": ended_at_ms, "ended_by": by.name, "end_reason": by.reason.strip()}
    connection.execute(sa.update(table).where(table.c.id == trial.id).values(values))
    _record_in_trail(connection, state, trial, by, now_ms)
    return get(connection, trial.id)


def _record_in_trail(connection: sa.Connection, what: str, trial: Trial, by: Publisher, now_ms: int) -> None:
    body = {
        "trial": trial.id,
        "before": {"version": trial.base},
        "after": {"version": trial.version},
        "backtest": trial.backtest,
        "proposed_by": trial.proposed_by,
        "until_ms": trial.until_ms,
        "reason": by.reason.strip(),
    }
    entry = audit_trail.NewEntry(f"rule.trial_{what}", "rule", trial.rule, body, by.name, now_ms, by.role)
    audit_trail.append_many(connection, [entry])


# -- what is there -----------------------------------------------------------------------------------------------------


def get(connection: sa.Connection, number: int) -> Trial:
    """The trial of this number; raises NotFound."""
    row = connection.execute(sa.select(table).where(table.c.id == number)).one_or_none() if 0 < number < 2**31 else None
    if row is None:
        raise NotFound(say("rules_page.no_trial", number=number))
    return from_row(Trial, row)


def of_rule(connection: sa.Connection, rule: str) -> list[Trial]:
    """The trials of a rule, newest first."""
    query = sa.select(table).where(table.c.rule == rule).order_by(table.c.id.desc())
    return [from_row(Trial, row) for row in connection.execute(query)]


def of_backtest(connection: sa.Connection, number: int) -> Trial | None:
    """The newest trial that a backtest led to."""
    row = connection.execute(sa.select(table).where(table.c.backtest == number).order_by(table.c.id.desc())).first()
    return None if row is None else from_row(Trial, row)


def listing(connection: sa.Connection, limit: int) -> list[Trial]:
    """The newest trials."""
    rows = connection.execute(sa.select(table).order_by(table.c.id.desc()).limit(limit))
    return [from_row(Trial, row) for row in rows]


def running(connection: sa.Connection) -> list[Trial]:
    """The trials that nobody ended yet; their time may be over."""
    query = sa.select(table).where(table.c.state == RUNNING).order_by(table.c.id)
    return [from_row(Trial, row) for row in connection.execute(query)]


def findings(connection: sa.Connection, trial: Trial) -> list[TrialFinding]:
    """What both versions found during a trial and was not withdrawn, oldest first; at most ``MAX_FINDINGS``."""
    f = findings_table.c
    query = sa.select(findings_table).where(f.trial == trial.id, ~f.withdrawn)
    newest = connection.execute(query.order_by(f.first_ms.desc()).limit(MAX_FINDINGS))
    return [from_row(TrialFinding, row) for row in newest][::-1]


# -- what the ingest does ----------------------------------------------------------------------------------------------


def end_over(connection: sa.Connection, now_ms: int) -> None:
    """Note the end of the trials whose time is over."""
    due = sa.and_(table.c.state == RUNNING, table.c.until_ms <= now_ms)
    for row in connection.execute(sa.select(table).where(due)).all():
        trial = from_row(Trial, row)
        where = (table.c.id == trial.id) & (table.c.state == RUNNING)
        ended = {"state": OVER, "ended_at_ms": trial.until_ms}
        if connection.execute(sa.update(table).where(where).values(ended)).rowcount:
            _record_in_trail(connection, OVER, trial, Publisher("riverchief", "", ""), now_ms)


def end_superseded(connection: sa.Connection, now_ms: int) -> None:
    """End the trials whose rule has another version in force now, or none."""
    v = rule_version.c
    in_force = sa.select(v.rule).where(v.rule == table.c.rule, v.version == table.c.base, v.until_ms.is_(None)).exists()
    ended = sa.update(table).where(table.c.state == RUNNING, ~in_force)
    connection.execute(ended.values(state=SUPERSEDED, ended_at_ms=now_ms))


def record(
    connection: sa.Connection,
    trials: Mapping[str, Trial],
    findings: Sequence[Finding],
    *,
    candidate: bool,
    passing: Container[Finding] = (),
) -> None:
    """Record findings of rules on trial (by rule id): of the candidates, or of the versions in force.

    The ``passing`` ones, of late readings, do not change what is firing.
    """
    for one in findings:
        if one.rule in trials:
            _record(connection, trials[one.rule].id, one, candidate, one not in passing)


def _record(connection: sa.Connection, trial: int, one: Finding, candidate: bool, lasting: bool) -> None:
    f, at_ms = findings_table.c, one.observed_at_ms
    key = (f.trial == trial) & (f.candidate == candidate) & (f.station == one.station)
    key &= f.parameter == (one.parameter or "")
    if one.change is ConditionChange.WITHDRAWN:
        withdraw = sa.update(findings_table).where(key, f.fired_ms == at_ms)
        connection.execute(withdraw.values(withdrawn=True, active=False))
        return
    if one.change is ConditionChange.RESOLVED:
        if lasting:
            connection.execute(sa.update(findings_table).where(key, f.active).values(active=False))
        last = sa.select(sa.func.max(f.first_ms)).where(key, f.ended_ms.is_(None), ~f.withdrawn, f.first_ms <= at_ms)
        first_ms = connection.execute(last).scalar()
        connection.execute(sa.update(findings_table).where(key, f.first_ms == first_ms).values(ended_ms=at_ms))
        return
    same = (f.first_ms == at_ms) | (f.since_ms == one.since_ms) & f.ended_ms.is_(None)
    stored_first_ms = connection.execute(sa.select(f.first_ms).where(key, same).limit(1)).scalar()
    values: dict[str, Any] = {
        "fired_ms": at_ms,
        "retrospective": one.retrospective,
        "flapping": one.flapping,
        "active": lasting,
        "withdrawn": False,
    }
    if stored_first_ms is not None:  # it fires again: on timely data, or after a withdrawal
        connection.execute(sa.update(findings_table).where(key, f.first_ms == stored_first_ms).values(values))
        return
    values |= {
        "trial": trial,
        "rule": one.rule,
        "candidate": candidate,
        "station": one.station,
        "parameter": one.parameter or "",
        "first_ms": at_ms,
        "since_ms": one.since_ms,
        "cause": one.cause,
        "colour": one.colour.value,
        "value": one.value,
        "text_zh": one.text.zh,
        "text_en": one.text.en,
    }
    connection.execute(sa.insert(findings_table).values(values))


def _copy_active_alarms(connection: sa.Connection, trial: Trial) -> None:
    """What the version in force shows already when a trial begins: the candidate may find the same."""
    a = alarm_table.c
    colour, before = rule_versions.version(connection, trial.rule, trial.base).colour, say("rules_page.trial_before")
    rows = [
        {
            "trial": trial.id,
            "rule": trial.rule,
            "candidate": False,
            "station": row.station,
            "parameter": row.parameter,
            "first_ms": row.fired_at_ms,
            "since_ms": row.since_ms,
            "fired_ms": row.fired_at_ms,
            "retrospective": row.retrospective,
            "flapping": row.flapping,
            "active": True,
            "withdrawn": False,
            "cause": row.cause,
            "colour": colour,
            "text_zh": before.zh,
            "text_en": before.en,
        }
        for row in connection.execute(
            sa.select(alarm_table).where(a.rule == trial.rule, a.fired_at_ms <= trial.begun_at_ms)
        )
    ]
    if rows:
        connection.execute(sa.insert(findings_table), rows)


@dataclass(frozen=True, slots=True)
class CandidateState:
    """What the rules on trial showed so far, as `RuleEngine` takes it."""

    alarms: dict[AlarmKey, Alarm]
    gateways_back: Mapping[tuple[str, str], int]
    fired: Mapping[AlarmKey, tuple[int, ...]]


def candidate_state(connection: sa.Connection, trials: Sequence[Trial], flapping: Container[str]) -> CandidateState:
    """What the candidates showed so far; ``flapping``: the rules that hold flapping conditions."""
    f = findings_table.c
    query = sa.select(findings_table).where(f.trial.in_([one.id for one in trials]), f.candidate, ~f.withdrawn)
    alarms: dict[AlarmKey, Alarm] = {}
    lookbacks: dict[tuple[str, str], int] = {}
    fired: dict[AlarmKey, tuple[int, ...]] = {}
    for row in connection.execute(query.order_by(f.first_ms)):
        key = row.rule, row.station, row.parameter
        if row.active:
            alarms[key] = Alarm(row.cause, row.fired_ms, row.since_ms, row.retrospective, row.flapping)
        if row.ended_ms is not None and row.cause == f"silence:gateway:{row.station}":
            lookbacks[row.rule, row.station] = max(row.ended_ms, lookbacks.get((row.rule, row.station), 0))
        if row.rule in flapping:
            fired[key] = (*fired.get(key, ()), row.first_ms)
    return CandidateState(alarms, lookbacks, fired)


def exceedances(connection: sa.Connection, trials: Mapping[str, Trial], key: AlarmKey) -> list[PublishedExceedance]:
    """The exceedances that a candidate found and that were not withdrawn, oldest first."""
    f = findings_table.c
    where = (f.trial == trials[key[0]].id) & f.candidate & (f.station == key[1]) & (f.parameter == key[2])
    query = sa.select(f.first_ms, f.fired_ms, f.ended_ms).where(where, ~f.withdrawn).order_by(f.first_ms)
    return [
        PublishedExceedance(first_ms, fired_ms, END_OF_TIME_MS if ended_ms is None else ended_ms)
        for first_ms, fired_ms, ended_ms in connection.execute(query)
    ]
