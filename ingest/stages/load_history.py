"""Load the history of the stations of a batch, which a start leaves for later."""

from ingest.work import Work
from sensors.reading import distinct


class LoadHistory:
    """Reads ``pending``; changes the memory of the site.

    The stations beside and above those of the batch are loaded, too: they are asked when its readings are judged.
    """

    name = "load"

    def run(self, work: Work) -> None:
        site = work.site
        if site.history.whole:
            return
        stations = distinct(work.pending.station).tolist()
        near = {other for one in stations for other in site.network.get(one, ())}
        above = {way.above for one in stations for way in site.flow.above.get(one, ())}
        site.history.ensure_loaded([*stations, *near, *above], work.now_ms)
