"""What ``riverchief simulate SCENARIO --score`` says to people."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from riverchief.score import FIRST, Score, as_json, by_kind, score
from riverchief.scoring import Thing, median_minutes
from riverchief.terminal import out, progress_bar
from sensors.errors import ConfigurationError
from sensors.texts import sentence
from sensors.times import beijing

if TYPE_CHECKING:
    from riverchief.settings import Settings

LISTED = 30


def run(scenario: str | None, settings: "Settings", seed: int, json: bool) -> None:
    """Score a scenario and tell it."""
    if scenario is None:
        raise ConfigurationError(sentence("order.score_what"))
    with progress_bar(f"评分 scoring {scenario}") as told:
        found = score(scenario, settings, seed=seed, on_progress=told)
    if json:
        out.print_json(data=as_json(found))
    else:
        tell(found)


def tell(found: Score) -> None:
    """The score as tables and sentences."""
    out.print(
        f"{found.scenario} · 种子 seed {found.seed} · {found.days:g} 天 days · {found.stations} 站 stations"
        f" · {found.readings:,} 读数 readings",
        highlight=False,
    )
    for title, things in (("故障 faults", found.faults), ("事件 events", found.events)):
        if things:
            out.print(_table(title, things))
    for said in sentences(found):
        out.print(said, highlight=False, soft_wrap=True)
    misses = [t for t in (*found.faults, *found.events) if not t.found]
    for t in misses[:LISTED]:
        span = f"{beijing(t.span.start_ms, '%m-%d %H:%M')} – {beijing(t.span.end_ms, '%m-%d %H:%M')}"
        out.print(f"[red]×[/] {t.kind} {escape(t.station)} {t.parameter} {span}", highlight=False)
    if len(misses) > LISTED:
        out.print(f"[red]×[/] … {len(misses) - LISTED} 条 more (--json)", highlight=False)


def _table(title: str, things: tuple[Thing, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    headings = ("种类 kind", "有 there", "发现 found", "漏 missed", "延迟 delay")
    for i, name in enumerate((*headings, "标为故障 as fault", "标为事件 as event")):
        table.add_column(name, justify="left" if i == 0 else "right")
    for kind, of in by_kind(things):
        hits = sum(t.found for t in of)
        minutes = median_minutes(of)
        delay = "-" if minutes is None else f"{minutes:.0f} min"
        called = (str(sum(t.fault for t in of)), str(sum(t.event for t in of)))
        table.add_row(kind, str(len(of)), str(hits), str(len(of) - hits), delay, *called)
    return table


def sentences(found: Score) -> Iterator[str]:
    """What the tables do not say, one sentence each."""
    worst = ", ".join(f"{key} {n}" for key, n in Counter(found.false_by).most_common(3))
    faults, events = found.false_faults / found.months, found.false_events / found.months
    yield (
        f"误报（每站月）false alarms a station-month: 故障 faults {faults:.2f} ({found.false_faults}"
        f"{': ' + worst if worst else ''}), 事件 events {events:.2f} ({found.false_events});"
        f" {found.months:.1f} 站月 station-months; 自然事件期间的事件告警 event alarms of natural events"
        f" {found.natural_events}, 故障引起 of faults {found.fault_events}；存疑 doubtful {found.doubtful}"
    )
    if events_ := {t.name for t in found.events}:
        seen = {t.name for t in found.events if t.found}
        yield f"至少一站发现 events found at one station or more: {len(seen)} / {len(events_)}"
    if found.natural_samples:
        share = found.natural_flagged / found.natural_samples
        yield f"自然事件好数据被标记 good samples of natural events flagged: {share:.2%} / {found.natural_samples:,}"
    right, called = found.label_right
    if called:
        yield f"标签正确 label right: {right} / {called} ({right / called:.0%})"
    right, told = found.name_right
    if told:
        yield f"事件名称正确 events told by their right name: {right} / {told} ({right / told:.0%})"
    live = Counter(one.kind for one in found.incidents if not one.retrospective)
    past = sum(one.retrospective for one in found.incidents)
    kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(live.items())) or "0"
    yield (
        f"事件单 incidents: 实时 live {kinds}; 追溯 retrospective {past}; "
        f"每周呼叫 pages a week {found.pages_a_week:.1f}"
    )
    if found.traced:
        first = sum(t.place is not None and t.place <= FIRST for t in found.traced)
        yield f"溯源 tracing: 真实排口居前{FIRST} true source among the first {FIRST}: {first} / {len(found.traced)}"
    account = found.account
    missing = "?" if account.missing is None else f"{account.missing:,}"
    mark = "[green]✓[/]" if account.right else "[red]×[/]"
    yield (
        f"{mark} 账本 ledger: 缺失 missing {missing}, 途中丢失 lost on the way {account.lost:,}"
        f" (其后再无报文 nothing came after {account.unknowable:,}); 入库 stored {account.stored:,}, "
        f"重复 duplicate {account.duplicate:,}, 隔离 quarantined {account.quarantined:,}"
    )
