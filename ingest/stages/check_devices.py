"""Evaluate the instruments themselves: their clocks and rates, sensors that are due for a check, suspected faults."""

from governance.incidents.finding import Finding
from ingest.rules import maintenance_due, suspected_faults
from ingest.storage import maintenance as maintenance_store
from ingest.work import Work
from sensors.maintenance import MaintenanceRecords


class CheckDevices:
    """Reads ``decoded``, ``messages``, ``sorted`` and ``live``; writes ``device_findings``."""

    name = "devices"

    def run(self, work: Work) -> None:
        site, live, sorted_ = work.site, work.live, work.sorted
        memory, registry, alarms = site.history.memory, site.history.registry, site.history.checks.alarms

        def maintenance_records() -> MaintenanceRecords:
            with site.database.read() as connection:
                return maintenance_store.load(connection)

        rows, batch = sorted_.live, sorted_.batch
        readings = sorted_.series[rows], batch.at[rows], batch.value[rows]
        findings: list[Finding] = site.clocks.follow(work.decoded, work.messages, registry, alarms)
        findings += site.rates.faults.begun(registry, alarms, work.now_ms)
        findings += maintenance_due.findings(
            live.carried, memory, registry, site.catalogue, alarms, maintenance_records
        )
        findings += suspected_faults.findings(readings, live, memory, registry, site.catalogue, alarms)
        work.device_findings = findings
