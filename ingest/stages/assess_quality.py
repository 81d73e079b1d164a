"""Quality verdicts of live readings, with the marks of maintenance, and the events that they show."""

from dataclasses import replace

import numpy as np

from ingest.work import SortedBatch, Work
from sensors.quality import QualityResult, SeriesReadings, check_quality
from sensors.reading import pack, unpack


class AssessQuality:
    """Reads ``sorted``; writes ``live`` and ``detection``."""

    name = "quality"

    def run(self, work: Work) -> None:
        site, sorted_ = work.site, work.sorted
        verdict = check_quality(
            SeriesReadings(*sorted_.live_columns()), site.history.memory, site.catalogue, network=site.network
        )
        work.live = _marked(work, sorted_, verdict)
        work.detection = site.history.watch(sorted_.batch.take(sorted_.live), work.live, site.edges)


def _marked(work: Work, sorted_: SortedBatch, live: QualityResult) -> QualityResult:
    """The verdict with the marks of checks and visits, also on what is remembered of the series."""
    marks = work.site.marks
    if not marks.spans:
        return live
    history, batch = work.site.history, sorted_.batch
    rows, again, carried = sorted_.live, live.reflag_series, live.carried
    recent = carried.recent
    flag, tests = unpack(
        marks.apply_marks(batch.station[rows], batch.parameter[rows], batch.at[rows], pack(live.flag, live.tests))
    )
    series = np.repeat(recent.series, recent["at"].shape[1])
    remembered = marks.apply_marks(
        history.station[series], history.parameter[series], recent["at"].ravel(), recent["packed"].ravel()
    )
    columns = {**recent.columns, "packed": remembered.reshape(recent["packed"].shape)}
    return replace(
        live,
        flag=flag,
        tests=tests,
        reflag_packed=marks.apply_marks(
            history.station[again], history.parameter[again], live.reflag_at, live.reflag_packed
        ),
        carried=replace(carried, recent=replace(recent, columns=columns)),
    )
