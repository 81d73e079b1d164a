"""Judge late readings in the neighbourhood that is stored around them (:mod:`ingest.rejudge.late_readings`)."""

from ingest.rejudge.late_readings import rejudge_late
from ingest.work import Work
from sensors.reading import pack


class RejudgeLate:
    """Reads ``sorted``, ``live``, ``detection`` and ``senders``; writes ``late``."""

    name = "late"

    def run(self, work: Work) -> None:
        site, sorted_, live = work.site, work.sorted, work.live
        work.late = rejudge_late(
            sorted_.batch.take(sorted_.late),
            sorted_.series[sorted_.late],
            site.history,
            site.store,
            site.marks,
            work.now_ms,
            (sorted_.batch.take(sorted_.live), pack(live.flag, live.tests)),
            site.past_events(work.now_ms, work.detection),
            work.senders,
        )
