"""Refuse readings that cannot be used (:mod:`ingest.stages.acceptance`)."""

from ingest.stages.acceptance import accept
from ingest.work import Work


class Validate:
    """Reads ``decoded`` and ``messages``; writes ``accepted`` (canonical units, station indices) and ``rejected``."""

    name = "validate"

    def run(self, work: Work) -> None:
        found = accept(work.decoded, work.messages, work.site.history.registry, work.now_ms)
        work.accepted, work.rejected = found.batch, found.rejected
