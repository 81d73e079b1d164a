"""The loss ledger: ``/ledger`` shows a month of station-days, ``/ledger/{station}/{day}`` what is missing on one."""

import re
from datetime import date, timedelta

from fastapi import APIRouter, Response

from api.pages import list_export
from api.pages.forms import Fields
from api.pages.list_export import Table
from api.pages.menu import LEDGER
from api.pages.models import ledger as models
from api.pages.view import PageRoute, View, Viewing
from api.requests import day as read_day
from api.requests import whole_number
from infra.errors import NotFound, StorageUnavailable
from infra.texts import say
from infra.times import beijing, beijing_day, beijing_day_span
from ingest import ledger, quarantine
from ingest.storage import maintenance

ROWS = 100
"""Stations of one page of the calendar."""
HELD = 20
"""Quarantine entries that a day names."""
_MONTH = re.compile(r"20\d\d-(0[1-9]|1[0-2])")

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get(LEDGER.path)
def show(v: Viewing) -> Response:
    """A month of all stations, or of one."""
    v.require(LEDGER.right)
    today = beijing_day(v.now_ms)
    month, _ = _month(v, today)
    only_gaps, rows = _rows(v, month)
    chosen = next((row for row in month.rows if row.station == v.query.get("station")), None)
    number = min(whole_number(v.query.get("page", ""), 5) or 1, 1 + max(0, len(rows) - 1) // ROWS)
    return v.render(
        "ledger.html",
        month=month,
        rows=rows[(number - 1) * ROWS : number * ROWS],
        before=number - 1 if number > 1 else None,
        after=number + 1 if len(rows) > number * ROWS else None,
        only_gaps=only_gaps,
        chosen=chosen,
        one=chosen or next(iter(rows), None),
        silent=[row for row in month.rows if row.silent],
        today=today.isoformat(),
        states=models.State,
    )


@router.post(LEDGER.path + "/export")
def export(v: Viewing, given: Fields) -> Response:
    """The accounts of the month as a file, a row for each station and day."""
    v.require(LEDGER.right)
    today = beijing_day(v.now_ms)
    month, accounts = _month(v, today)
    names = {row.station: row.name for row in _rows(v, month)[1]}
    names |= {ledger.UNREGISTERED: v.say("ledger_page.unregistered")} if ledger.UNREGISTERED in names else {}
    head = [v.say(f"ledger_page.{name}") for name in models.EXPORT_HEAD]
    rows = [
        (
            names[one.station],
            one.station,
            one.day,
            one.sent if models.is_sent_known(one) else v.say("ledger_page.unknown"),
            one.stored,
            one.duplicate,
            one.quarantined,
            v.say("ledger_page.unknown") if one.missing is None else one.missing,
            v.say(f"ledger_page.state_{models.state_of(one, today.isoformat())}"),
        )
        for one in sorted(accounts, key=lambda one: (one.station, one.day))
        if one.station in names
    ]
    return list_export.answer(v, given, Table("ledger", head, rows))


def _month(v: View, today: date) -> tuple[models.Month, list[ledger.Account]]:
    """The month that the address asks for, and its accounts."""
    name = v.query.get("month", "")
    if not _MONTH.fullmatch(name) or name > today.strftime("%Y-%m"):
        name = today.strftime("%Y-%m")
    with v.context.database.read() as connection:
        accounts = ledger.accounts(connection, days=(f"{name}-01", f"{name}-31"), limit=1_000_000)
    return models.month(name, accounts, v.registries.recent(), v.language, today), accounts


def _rows(v: View, month: models.Month) -> tuple[bool, list[models.Row]]:
    """Whether only stations with gaps are asked for, and the rows of the list."""
    only_gaps = v.query.get("show") == "gaps"
    return only_gaps, [row for row in month.rows if not row.silent and not (only_gaps and row.fine)]


@router.get(LEDGER.path + "/{station}/{day}")
def show_day(v: Viewing, station: str, day: str) -> Response:
    """One account: the sum, what is missing, and what is known of the cause."""
    v.require(LEDGER.right)
    day = read_day(day)
    registered = {one.key: one for one in v.registries.recent().stations}
    today = beijing_day(v.now_ms).isoformat()
    start_ms, ends_ms = beijing_day_span(date.fromisoformat(day))
    with v.context.database.read() as connection:
        found = ledger.accounts(connection, day=day, station=station)
        if not found and station not in registered:
            raise NotFound(say("ledger_page.no_account", station=station[:80], day=day))
        gaps = models.missing(ledger.gaps(connection, station, day))
        held = quarantine.listing(
            connection, station=station if station in registered else None, account=station, day=day, limit=HELD + 1
        )
        visits = [
            one
            for _, one in maintenance.visits(connection, station)
            if one.since_ms < ends_ms and (one.until_ms is None or one.until_ms > start_ms)
        ]
    account = found[0] if found else None
    one = registered.get(station)
    quality = None
    unreadable = False
    if one is not None and account is not None:
        end_ms = min(ends_ms, v.now_ms)
        try:
            window = v.context.store.window(station, start_ms, end_ms - 1)
            quality = models.quality(window, start_ms, end_ms, one.interval_s)
        except StorageUnavailable:
            unreadable = True
    arrived = models.rate([account] if account else [], "9999-12-31")
    return v.render(
        "ledger_day.html",
        station=station,
        name=station if one is None else one.en if v.language == "en" else one.zh,
        day=day,
        account=account,
        state=models.state_of(account, today) if account else models.State.NONE,
        known=account is not None and models.is_sent_known(account),
        gaps=gaps,
        held=held[:HELD],
        more_held=len(held) > HELD,
        visits=visits,
        quality=quality,
        unreadable=unreadable,
        clock=lambda at_ms: beijing(at_ms, "%H:%M"),
        ends_ms=ends_ms,
        valid=models.valid_share(arrived, quality) if quality else None,
        day_before=(date.fromisoformat(day) - timedelta(days=1)).isoformat(),
        day_after=(date.fromisoformat(day) + timedelta(days=1)).isoformat() if day < today else None,
    )
