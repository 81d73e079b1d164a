"""Evaluate the rules over live readings and the events that they show."""

import numpy as np

from governance.incidents.finding import Finding
from ingest.rules.engine import RuleEngine
from ingest.work import Work


class EvaluateRules:
    """Reads ``sorted``, ``live``, ``packed`` and ``detection``; writes ``live_findings`` and ``trial_findings``."""

    name = "rules"

    def run(self, work: Work) -> None:
        history, batch = work.site.history, work.sorted.batch
        work.live_findings = _evaluate(history.checks, work)
        work.live_findings += history.checks.sudden.live(
            work.detection,
            history.last_alarm,
            batch.station[work.sorted.live],
            batch.at[work.sorted.live],
            history.registry.stations,
            lambda station: history.measured(station, batch),
            work.now_ms,
        )
        work.trial_findings = [] if history.trial is None else _evaluate(history.trial, work)


def _evaluate(engine: RuleEngine, work: Work) -> list[Finding]:
    """The findings of one engine about series."""
    memory, live, sorted_ = work.site.history.memory, work.live, work.sorted
    again, at, verdict = live.reflag_series, live.reflag_at, live.reflag_packed
    if len(again):
        # readings of earlier batches have a worse verdict now: take them out of the states that rest on them
        place = np.asarray((memory.at[again] == at[:, None]).argmax(axis=1))
        engine.withdraw(again, at, memory.value[again, place], memory.packed[again, place], verdict)
    rows, batch = sorted_.live, sorted_.batch
    return engine.evaluate(sorted_.series[rows], batch.at[rows], batch.value[rows], work.packed[rows], work.now_ms)
