"""Print a score as tables and sentences."""

from collections import Counter
from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from infra.texts import line, named, say
from infra.times import beijing
from riverchief.terminal import columns, out
from tools.score.matching import Thing, median_minutes
from tools.score.run import TOP_SOURCES, Score, by_kind

MAX_LISTED = 30


def show(found: Score) -> None:
    """Print a score."""
    counts = {name: getattr(found, name) for name in ("scenario", "seed", "days", "stations", "readings")}
    out.print(line("score.run", **counts), highlight=False, soft_wrap=True)
    for title, things in (("score.faults", found.faults), ("score.events", found.events)):
        if things:
            out.print(_table(named(say(title)), things))
    for sentence in sentences(found):
        out.print(sentence, highlight=False, soft_wrap=True)
    misses = [t for t in (*found.faults, *found.events) if not t.found]
    for t in misses[:MAX_LISTED]:
        span = f"{beijing(t.span.start_ms, '%m-%d %H:%M')} – {beijing(t.span.end_ms, '%m-%d %H:%M')}"
        out.print(f"[red]×[/] {t.kind} {escape(t.station)} {t.parameter} {span}", highlight=False)
    if len(misses) > MAX_LISTED:
        out.print(f"[red]×[/] … {line('list.more', count=len(misses) - MAX_LISTED, how='--json')}", highlight=False)


def _table(title: str, things: tuple[Thing, ...]) -> Table:
    figures = ("there", "found", "missed", "delay", "as_fault", "as_event")
    table = columns("kind", *figures, right=figures, title=title)
    for kind, of in by_kind(things):
        hits = sum(t.found for t in of)
        minutes = median_minutes(of)
        delay = "-" if minutes is None else f"{minutes:.0f} min"
        called = (str(sum(t.fault for t in of)), str(sum(t.event for t in of)))
        table.add_row(kind, str(len(of)), str(hits), str(len(of) - hits), delay, *called)
    return table


def sentences(found: Score) -> Iterator[str]:
    """Sentences about the figures that are not in the tables."""
    worst = ", ".join(f"{key} {n}" for key, n in Counter(found.false_by).most_common(3))
    faults, events = found.false_faults / found.months, found.false_events / found.months
    yield line(
        "score.false_alarms",
        faults=faults,
        of_faults=f"{found.false_faults}{': ' + worst if worst else ''}",
        events=events,
        of_events=found.false_events,
        months=found.months,
    )
    yield line("score.alarms", natural=found.natural_events, by_faults=found.fault_events, doubtful=found.doubtful)
    if events_ := {t.name for t in found.events}:
        seen = {t.name for t in found.events if t.found}
        yield line("score.seen", seen=len(seen), events=len(events_))
    if found.natural_samples:
        share = found.natural_flagged / found.natural_samples
        yield line("score.natural", share=share, samples=found.natural_samples)
    right, called = found.label_right
    if called:
        yield line("score.label", right=right, called=called, share=right / called)
    right, named_events = found.name_right
    if named_events:
        yield line("score.name", right=right, named=named_events, share=right / named_events)
    live = Counter(one.kind for one in found.incidents if not one.retrospective)
    past = sum(one.retrospective for one in found.incidents)
    kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(live.items())) or "0"
    yield line("score.incidents", live=kinds, past=past, pages=found.pages_a_week)
    if found.traced:
        first = sum(t.place is not None and t.place <= TOP_SOURCES for t in found.traced)
        yield line("score.traced", most=TOP_SOURCES, first=first, traced=len(found.traced))
    account = found.account
    missing = "?" if account.missing is None else f"{account.missing:,}"
    mark = "[green]✓[/]" if account.right else "[red]×[/]"
    counts = {name: getattr(account, name) for name in ("lost", "unknowable", "stored", "duplicate", "quarantined")}
    yield f"{mark} {line('score.account', missing=missing, **counts)}"
