"""The table of docs/reliability.md."""

import os
import platform
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.report import Report

FILE = Path("docs/reliability.md")
SHOWN = 20
"""Of a run that went wrong."""
HEAD = "| fault | times | lost | named missing | altered | doubled | progress after s, median | longest |"


def summary(report: Report) -> Iterator[str]:
    """The figures of a run, a line each."""
    found = report.readings
    yield (
        f"{report.sent:,} readings sent: {found.stored:,} stored, {len(found.held):,} in quarantine, "
        f"{len(found.named):,} named missing by the ledger, {len(found.lost):,} lost, {len(found.altered):,} altered, "
        f"{len(found.doubled):,} doubled; {report.redelivered:,} messages came again."
    )
    yield (
        f"{report.incidents:,} alarms; {report.events:,} events delivered, {report.events_again:,} "
        f"again under the same id; {report.texts:,} messages to people, {report.texts_again:,} again in the same words."
    )
    peaks = ", ".join(f"{part} {mb:.0f} MB" for part, mb in sorted(report.peak_mb.items()))
    ended = ", ".join(f"{part} {count}" for part, count in sorted(report.ended_by_itself.items())) or "none"
    yield f"Memory at most: {peaks}. Processes that ended without being killed: {ended}."


def rows(report: Report) -> Iterator[str]:
    """A row for each kind of fault, in the order of their names."""
    found = report.readings
    counts = [Counter(map(report.fault_of, some)) for some in (found.lost, found.named, found.altered, found.doubled)]
    for name in sorted({one.kind.name for one in report.faults}):
        took = [one.recovered_s for one in report.faults if one.kind.name == name]
        figures = " | ".join(str(count[name]) for count in counts)
        yield f"| {name} | {len(took)} | {figures} | {statistics.median(took):.1f} | {max(took):.1f} |"


def write(report: Report, wrong: Sequence[str]) -> None:
    """Put the run into the document, between the marks of its database."""
    machine = f"{os.cpu_count()} processors with a load of {os.getloadavg()[2]:.1f}, Python {platform.python_version()}"
    left_out = f" Left out here: {', '.join(report.left_out)}." if report.left_out else ""
    more = len(wrong) - SHOWN
    lines = [
        f"{len(report.faults)} faults, seed {report.seed}, {datetime.now(UTC):%Y-%m-%d}, {machine}.{left_out}",
        *summary(report),
        "",
        HEAD,
        "|---" * (HEAD.count("|") - 1) + "|",
        *rows(report),
        "",
        f"What did not hold: {'; '.join(wrong[:SHOWN]) or 'nothing'}{f' and {more} more' if more > 0 else ''}.",
    ]
    begin, end = (f"<!-- {report.dialect}: {what} -->" for what in ("written by make faults", "end"))
    text = FILE.read_text("utf-8")
    before, rest = text.split(begin)
    FILE.write_text(f"{before}{begin}\n{chr(10).join(lines)}\n{end}{rest.split(end)[1]}", "utf-8")
