"""An assessment made from the stores: the trail's entries, the registry's regions, and the sheet that is handed on."""

import io
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from typing import Any

from governance import assessment_appeals, assessment_periods
from governance.assessment.assess import assess_each
from governance.assessment.model import CLASSES_ACTION, Assessment, Formula, GroupBy, Groups, Indicator, Inputs, Row
from governance.assessment.month import month_of, reads_from, year_before
from governance.assessment_appeals import Appeal
from governance.assessment_periods import Period
from governance.audit import trail as audit_trail
from governance.organisation import terms as terms_
from governance.organisation.regions import Place, Regions
from governance.organisation.roles import Actor, role_name
from governance.organisation.terms import Appointment
from governance.people import store as people_store
from governance.reports.patrols import PatrolShares
from governance.tables import audit as trail
from infra.database import Database
from infra.texts import Text, named, say
from infra.times import beijing, beijing_day_span
from ingest.storage import registry as registry_store
from sensors.network import Level
from sensors.parameters import Catalogue
from sensors.stations import Registry

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def make(
    database: Database,
    catalogue: Catalogue,
    month: str,
    by: GroupBy,
    formula: Formula,
    *,
    now_ms: int,
    who: Actor | None = None,
) -> tuple[Assessment, Registry]:
    """The assessment of a month as ``who`` may see it, and the registry that names its streets and reaches.

    Somebody bound to regions sees the rows that lie in them: chiefs with a term there in the month (and themselves),
    streets, reaches with a station there. Raises ConfigurationError for what is no month, and StorageUnavailable.
    """
    (made,), registry = make_each(database, catalogue, month, (by,), formula, now_ms=now_ms, who=who)
    return made, registry


def make_each(
    database: Database,
    catalogue: Catalogue,
    month: str,
    bys: Sequence[GroupBy],
    formula: Formula,
    *,
    now_ms: int,
    who: Actor | None = None,
) -> tuple[list[Assessment], Registry]:
    """As `make`, for several kinds of rows from one reading of the trail."""
    c = trail.c
    since_ms = reads_from(month, formula)
    past_ms, past_end_ms = year_before(month)
    recent = ((c.kind == "incident") | (c.what == CLASSES_ACTION)) & (c.at_ms >= since_ms)
    year_ago = (c.what == CLASSES_ACTION) & c.at_ms.between(past_ms, past_end_ms - 1)
    with database.read() as connection:
        registry = registry_store.load(connection, catalogue)
        terms = people_store.appointments(connection)
        lines = audit_trail.select_entries(connection, recent | year_ago)
        belongs = groups(registry, terms, assessment_periods.of_month(connection, month))
        walked = PatrolShares(connection, belongs.street, formula.patrols_due, formula.deputies_patrol)
        seen = None if who is None or who.regions is None else partial(_seen, who, month, registry, terms)
        made = assess_each(lines, month, bys, formula, now_ms=now_ms, inputs=Inputs(belongs, walked, seen))
    return made, registry


def _seen(who: Actor, month: str, registry: Registry, terms: Sequence[Appointment], by: GroupBy, key: str) -> bool:
    """Whether somebody bound to regions may see the row called so."""
    if by is GroupBy.STREET:
        return who.covers(key)
    if by is GroupBy.REACH:
        return any(station.reach == key and who.covers(station.region, key) for station in registry.stations)
    start_ms, end_ms = month_of(month)
    return who.answers_for(key) or any(
        term.name == key
        and term.since_ms < end_ms
        and (term.until_ms is None or term.until_ms > start_ms)
        and who.covers(term.region, term.reach)
        for term in terms
    )


def chiefs(terms: Sequence[Appointment], registry: Registry, reach: str, at_ms: int) -> list[str]:
    """The chiefs who answer for a reach at an instant: its own, or those of the water where its stations are."""
    known = Regions(registry.regions)
    places = {station.region for station in registry.stations if station.reach == reach}
    return sorted({terms_.responsible(terms, Place(code, reach), known, at_ms) for code in places} - {""})


@dataclass(frozen=True, slots=True)
class Noted:
    """What people said of a month: appeals against its figures, and periods that mark its days."""

    appeals: Sequence[Appeal] = ()
    periods: Sequence[Period] = ()


def noted(database: Database, registry: Registry, month: str, who: Actor | None = None) -> Noted:
    """The appeals of the rows that ``who`` may see, and all marked periods of the month."""
    with database.read() as connection:
        appeals = assessment_appeals.of_month(connection, month)
        periods = assessment_periods.of_month(connection, month)
        terms = people_store.appointments(connection) if appeals else []
    return Noted([one for one in appeals if sees(who, one.month, registry, terms, one.group_by, one.key)], periods)


def sees(who: Actor | None, month: str, registry: Registry, terms: Sequence[Appointment], by: str, key: str) -> bool:
    """Whether somebody may see a row of a month."""
    return who is None or who.regions is None or _seen(who, month, registry, terms, GroupBy(by), key)


def answers(
    who: Actor, by: GroupBy, key: str, made: Assessment, registry: Registry, terms: Sequence[Appointment], now_ms: int
) -> bool:
    """Whether a chief, or the deputy who helps them, answers for a row now or answered at some time of its month."""
    if by is GroupBy.CHIEF:
        return who.answers_for(key)
    turns = {at for term in terms for at in (term.since_ms, term.until_ms) if at is not None}
    instants = {now_ms, made.start_ms, *(at for at in turns if made.start_ms < at < made.end_ms)}
    if by is GroupBy.REACH:
        return any(who.answers_for(name) for at_ms in instants for name in chiefs(terms, registry, key, at_ms))
    known = Regions(registry.regions)
    return any(who.answers_for(terms_.responsible(terms, Place(key, ""), known, at_ms)) for at_ms in instants)


def _affected(registry: Registry, periods: Sequence[Period]) -> Callable[[int, str, str], Collection[str]] | None:
    """Names the kinds of marked periods of an instant, reach and region."""
    if not periods:
        return None
    known = Regions(registry.regions)
    lying: dict[str, set[str]] = {}
    for station in registry.stations:
        lying.setdefault(station.reach, set()).add(station.region)
    spans = [
        (
            beijing_day_span(date.fromisoformat(one.first))[0],
            beijing_day_span(date.fromisoformat(one.last))[1],
            one,
            known.within(one.region),
        )
        for one in periods
    ]

    def affected(at_ms: int, reach: str, region: str) -> Collection[str]:
        places = {region} if region else lying.get(reach, set())
        return {
            one.kind.value
            for begin_ms, end_ms, one, codes in spans
            if begin_ms <= at_ms < end_ms and one.reach in ("", reach) and (codes is None or places & codes)
        }

    return affected


def groups(registry: Registry, terms: Sequence[Appointment], periods: Sequence[Period] = ()) -> Groups:
    """Where stations, reaches and regions belong by the registry, and the chiefs by their terms.

    A reach belongs to the streets of its stations, and to the chiefs of that day.
    """
    regions = {region.code: region for region in registry.regions}
    reaches = {station.key: station.reach for station in registry.stations}
    places = {station.key: station.region for station in registry.stations}
    known = Regions(registry.regions)
    turns = sorted({at for term in terms for at in (term.since_ms, term.until_ms) if at is not None})

    @cache
    def between(reach: str, turn: int) -> list[str]:
        """The chiefs of a reach until the next term begins or ends: not asked anew for each day of it."""
        return chiefs(terms, registry, reach, turns[turn - 1] if turn else -(2**62))

    def street(code: str) -> str:
        seen: set[str] = set()
        here = code
        while here in regions and here not in seen:
            if regions[here].level is Level.STREET:
                return here
            seen.add(here)
            here = regions[here].parent or ""
        return code

    @cache
    def streets(reach: str) -> list[str]:
        return sorted({street(places[key]) for key, on in reaches.items() if on == reach and places[key]})

    def water(by: GroupBy, reach: str, at_ms: int) -> Sequence[str]:
        if by is GroupBy.REACH:
            return (reach,)
        if by is GroupBy.CHIEF:
            return between(reach, bisect_right(turns, at_ms))
        return streets(reach)

    def chief(name: str, at_ms: int) -> str:
        return terms_.chief_of(terms, name, known, at_ms)

    return Groups(
        street,
        lambda key: reaches.get(key, ""),
        lambda key: places.get(key, ""),
        water,
        chief,
        _affected(registry, periods),
    )


def name_of(by: GroupBy, key: str, registry: Registry) -> Text:
    """How a row is called."""
    if not key:
        return say("assessment.nobody")
    if by is GroupBy.REACH:
        found = next((Text(reach.zh, reach.en) for reach in registry.reaches if reach.key == key), None)
    elif by is GroupBy.STREET:
        found = next((Text(region.zh, region.en) for region in registry.regions if region.code == key), None)
    else:
        found = None
    return found or Text(key, key)


# -- the sheet ---------------------------------------------------------------------------------------------------------


def sheet(made: Assessment, registry: Registry, said: Noted = Noted()) -> bytes:
    """The assessment as an Excel file: the rows, every incident behind them, what people said, the formula, its source.

    Text is written as text, whatever it begins with: a name is no formula.
    """
    import xlsxwriter

    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False})
    formats = {
        "head": book.add_format({"bold": True, "bg_color": "#dfeceb", "border": 1, "text_wrap": True}),
        "title": book.add_format({"bold": True, "font_size": 14}),
        "share": book.add_format({"num_format": "0.0%"}),
        "score": book.add_format({"num_format": "0.00", "bold": True}),
    }
    _summary(book, made, registry, formats)
    _cases(book, made, registry, formats)
    _said(book, made, registry, said, formats)
    _basis(book, made, formats)
    book.close()
    return out.getvalue()


def _summary(book: Any, made: Assessment, registry: Registry, formats: dict[str, Any]) -> None:
    page = book.add_worksheet("汇总 summary")
    title = named(say("assessment.title", month=made.month, by=say(f"assessment.{made.by.value}")))
    note = f" · {named(say('assessment.example'))}" if made.formula.example else ""
    if made.trial:
        note += f" · {named(say('assessment_page.trial', until=beijing(made.until_ms, _TIME)))}"
    page.write_string(0, 0, title + note, formats["title"])
    heads = [say(f"assessment.{made.by.value}"), say("assessment.cases")]
    for indicator in Indicator:
        heads += [say(f"assessment.{indicator.value}"), say("assessment.good"), say("assessment.of")]
    heads += [say("assessment.improvement"), say("assessment.score")]
    if made.total.without is not None:
        heads += [say(f"assessment.{name}") for name in ("affected", "water_without", "score_without")]
    for column, head in enumerate(heads):
        page.write(2, column, named(head), formats["head"])
    for number, row in enumerate([*made.rows, made.total]):
        last = number == len(made.rows)
        name = say("assessment.total") if last else name_of(made.by, row.key, registry)
        _row(page, 3 + number, row, named(name), formats)
    page.set_column(0, 0, 26)
    page.set_column(1, len(heads), 11)
    page.freeze_panes(3, 1)


def _row(page: Any, at: int, row: Row, name: str, formats: dict[str, Any]) -> None:
    page.write_string(at, 0, name)
    page.write_number(at, 1, row.cases)
    column = 2
    for indicator in Indicator:
        share = row.shares[indicator]
        if not share.available:
            page.write_string(at, column, named(say("assessment.unavailable")))
        else:
            if share.value is not None:
                page.write_number(at, column, share.value, formats["share"])
            page.write_number(at, column + 1, share.good)
            page.write_number(at, column + 2, share.of)
        column += 3
    if row.improvement is not None:
        page.write_number(at, column, row.improvement, formats["share"])
    if row.score is not None:
        page.write_number(at, column + 1, row.score, formats["score"])
    if row.without is None:
        return
    page.write_string(at, column + 2, named(affected_days(row)))
    days = row.without.shares[Indicator.WATER].value
    if days is not None:
        page.write_number(at, column + 3, days, formats["share"])
    if row.without.score is not None:
        page.write_number(at, column + 4, row.without.score, formats["score"])


def affected_days(row: Row) -> Text:
    """How many days of which marked periods touch a row."""
    parts = [
        say("assessment.affected_by", days=n, kind=say(f"assessment.period_{kind}")) for kind, n in row.affected.items()
    ]
    return Text("、".join(one.zh for one in parts), ", ".join(one.en for one in parts))


def _said(book: Any, made: Assessment, registry: Registry, said: Noted, formats: dict[str, Any]) -> None:
    """The appeals against figures of this kind of rows, and the marked periods."""
    page = book.add_worksheet("申诉与时段 appeals")
    heads = ("row", "figure", "frozen", "reason", "link", "appealed", "appeal_state", "decided", "remark", "version")
    for column, name in enumerate(heads):
        page.write(0, column, named(say(f"assessment.said_{name}")), formats["head"])
    line = 1
    for one in said.appeals:
        if one.group_by != made.by:
            continue
        decided = f"{one.decided_by} {beijing(one.decided_at_ms, _TIME)}" if one.decided_at_ms else ""
        texts = (
            named(name_of(made.by, one.key, registry)),
            named(say(f"assessment.{one.figure}")),
            frozen(one),
            one.reason,
            one.link or one.attachment[:12],
            f"{one.by} {beijing(one.at_ms, _TIME)}",
            named(say(f"assessment.appeal_state_{one.state}")),
            decided,
            one.remark,
            str(one.version),
        )
        for column, text in enumerate(texts):
            page.write_string(line, column, text)
        line += 1
    line += 1
    for column, name in enumerate(("period", "first", "last", "place", "reason", "by")):
        page.write(line, column, named(say(f"assessment.said_{name}")), formats["head"])
    for number, period in enumerate(said.periods, line + 1):
        place = place_of(period, registry)
        kind = named(say(f"assessment.period_{period.kind}"))
        texts_ = (kind, period.first, period.last, named(place), period.reason, period.by)
        for column, text in enumerate(texts_):
            page.write_string(number, column, text)
    page.set_column(0, len(heads), 18)


def frozen(one: Appeal) -> str:
    """A figure as it was frozen."""
    if one.figure == assessment_appeals.SCORE:
        return "—" if one.value is None else f"{one.value:.2f}"
    return f"{one.good}/{one.of}"


def place_of(period: Period, registry: Registry) -> Text:
    """Where a marked period counts."""
    if period.reach:
        return name_of(GroupBy.REACH, period.reach, registry)
    return name_of(GroupBy.STREET, period.region, registry) if period.region else say("assessment.everywhere")


def _cases(book: Any, made: Assessment, registry: Registry, formats: dict[str, Any]) -> None:
    page = book.add_worksheet("事件 incidents")
    names = ("incident", "opened", "state", "colour", "responsible", "street_of", "reach", "closed")
    heads = [say(f"assessment.{name}") for name in names]
    for indicator in (Indicator.ACCEPTANCE, Indicator.HANDLING):
        name = say(f"assessment.{indicator.value}")
        for part in (say("assessment.good"), say("assessment.of")):
            heads.append(Text(f"{name.zh} {part.zh}", f"{name.en} {part.en}"))
    heads.append(say("assessment.recurred"))
    for column, head in enumerate(heads):
        page.write(0, column, named(head), formats["head"])
    street = groups(registry, ()).street
    for at, case in enumerate(made.cases, 1):
        page.write_number(at, 0, case.id)
        when = (beijing(case.opened_at_ms, _TIME), case.closed_at_ms and beijing(case.closed_at_ms, _TIME))
        words = (say(f"state.{case.state}"), say(f"incident.{case.colour}"))
        place = (name_of(GroupBy.STREET, street(case.region), registry), name_of(GroupBy.REACH, case.reach, registry))
        state, colour, in_street, on_reach = (named(text) for text in (*words, *place))
        texts = (when[0], state, colour, case.responsible, in_street, on_reach, when[1] or "")
        for column, text in enumerate(texts, 1):
            page.write_string(at, column, text)
        counts = (case.acceptance.good, case.acceptance.of, case.handling.good, case.handling.of, int(case.recurred))
        for column, count in enumerate(counts, 1 + len(texts)):
            page.write_number(at, column, count)
    page.set_column(0, len(heads), 15)
    page.freeze_panes(1, 1)


def _basis(book: Any, made: Assessment, formats: dict[str, Any]) -> None:
    page = book.add_worksheet("依据 basis")
    formula = made.formula
    rows: list[tuple[str, str | float]] = [
        (
            named(say("assessment.weight", name=say(f"assessment.{indicator.value}"))),
            formula.weights.get(indicator, 0.0),
        )
        for indicator in Indicator
    ]
    rows += [
        (named(say("assessment.grace")), float(formula.closing_grace_days)),
        (named(say("assessment.appeal_days")), float(formula.appeal_days)),
        (named(say("assessment.again_within")), float(formula.recurrence_days)),
        *((named(say("assessment.due", role=role_name(role))), float(n)) for role, n in formula.patrols_due.items()),
        (named(say("assessment.until")), beijing(made.until_ms, _TIME)),
        (named(say("assessment.last_entry")), float(made.last_n)),
        (named(say("assessment.head")), made.head),
    ]
    if formula.example:
        page.write(0, 0, named(say("assessment.example")), formats["title"])
    for at, (name, value) in enumerate(rows, 2):
        page.write_string(at, 0, name)
        if isinstance(value, str):
            page.write_string(at, 1, value)
        else:
            page.write_number(at, 1, value)
    page.write_string(3 + len(rows), 0, named(say("assessment.reproduce")))
    page.set_column(0, 0, 60)
    page.set_column(1, 1, 70)


_TIME = "%Y-%m-%d %H:%M"
