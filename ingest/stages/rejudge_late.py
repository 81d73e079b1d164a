"""Judge late readings in the neighbourhood that is stored around them (:mod:`ingest.rejudge.late_readings`)."""

from ingest.rejudge.late_readings import rejudge_late
from ingest.rejudge.station_moves import StoredReadings
from ingest.work import Work
from sensors.reading import pack


class RejudgeLate:
    """Reads ``sorted``, ``live``, ``detection`` and ``senders``; writes ``late``."""

    name = "late"

    def run(self, work: Work) -> None:
        site, sorted_, live = work.site, work.sorted, work.live
        beside = sorted_.batch.take(sorted_.live), pack(live.flag, live.tests)
        work.late = rejudge_late(
            sorted_.batch.take(sorted_.late),
            sorted_.series[sorted_.late],
            StoredReadings(site.history, site.store, site.marks, beside),
            site.past_events(work.now_ms, work.detection),
            work.senders,
            work.now_ms,
        )
