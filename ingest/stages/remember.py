"""Take a committed batch into memory."""

from infra.errors import StorageUnavailable
from ingest.work import Work


class Remember:
    """Reads what ``Commit`` stored; changes the memory of the site, and tells its listener of findings."""

    name = "remember"

    def run(self, work: Work) -> None:
        site, history, sorted_, notes = work.site, work.site.history, work.sorted, work.cross_notes
        site.rules_saved = True
        history.memory.apply(work.live.carried)
        history.memory.note(notes.series, notes.at, notes.packed)
        history.save_detection(work.detection)
        history.mark_stored(sorted_.series, sorted_.batch.at, work.resumed)
        try:
            for station in work.late.rejudgement.stations:
                history.load(station, work.now_ms)  # late data changed the past its memory and rules rest on
        except StorageUnavailable:
            site.invalidate()  # the batch is stored all the same: read everything again before the next one
        if work.findings:
            site.on_findings()
