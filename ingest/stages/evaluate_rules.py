"""Evaluate the rules over live readings and the events that they show."""

from ingest.work import Work


class EvaluateRules:
    """Reads ``sorted``, ``live``, ``packed`` and ``detection``; writes ``live_findings``."""

    name = "rules"

    def run(self, work: Work) -> None:
        history, live, sorted_ = work.site.history, work.live, work.sorted
        checks, memory = history.checks, history.memory
        again, at, verdict = live.reflag_series, live.reflag_at, live.reflag_packed
        if len(again):
            # readings of earlier batches have a worse verdict now: take them out of the states that rest on them
            place = (memory.at[again] == at[:, None]).argmax(axis=1)
            checks.withdraw(again, at, memory.value[again, place], memory.packed[again, place], verdict)
        rows, batch = sorted_.live, sorted_.batch
        findings = checks.evaluate(
            sorted_.series[rows], batch.at[rows], batch.value[rows], work.packed[rows], work.now_ms
        )
        findings += checks.sudden.live(
            work.detection,
            history.last_alarm,
            batch.station[rows],
            batch.at[rows],
            history.registry.stations,
            lambda station: history.measured(station, batch),
            work.now_ms,
        )
        work.live_findings = findings
