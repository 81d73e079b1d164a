"""``riverchief notify`` and ``riverchief oncall``: recipients, deliveries, and the on-call roster."""

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from governance.incidents.finding import Colour
from governance.notify import oncall
from governance.notify import store as notice_store
from governance.notify.contacts import Directory
from governance.notify.message import TEST_INCIDENT, Item, NoticeKind
from governance.notify.preview import preview as preview_messages
from governance.notify.wording import compose
from infra import clock
from infra.errors import ConfigurationError
from infra.texts import Text, join_on_line, line, say
from infra.times import BEIJING, DAY_MS, beijing, rfc3339, to_ms
from riverchief import files, messages
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, load, login, open_site
from riverchief.settings import Settings
from riverchief.terminal import out, tabulate

notify = Commands("通知：谁会收到什么 · Messages to people.")
shifts = Commands("值班表 · Who of the office is on call.")
app = Commands()
app.add_typer(notify, name="notify")
app.add_typer(shifts, name="oncall")

SHOWN_DAYS = 28


@notify.command("test")
def notify_test(
    person: Annotated[str, typer.Argument(help="联系人 · key of a contact")],
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """经每个渠道各发一条测试消息 · A test message through every channel; exit code 1 when one does not take it."""
    loaded = load(settings, data)
    with open_site(loaded) as database, database.read() as connection:
        contact = _directory(loaded, connection, clock.now_ms()).named(person)
    text = say("notice.test_text", name=contact.name, site=loaded.site.name)
    item = Item(TEST_INCIDENT, NoticeKind.TEST, Colour.BLUE, clock.now_ms(), Text("", ""), text)
    send, failed = messages.sender(loaded.notices), False
    for number, channel in enumerate(contact.channels, 1):
        body = compose([item], contact.language, short=channel.short, link=None)
        outcome = send(channel, loaded.site.name, body)
        failed |= not outcome.ok
        mark = "✓" if outcome.ok else "✗"
        out.print(f"{mark} {number} {channel.kind} {outcome.error or ''}".rstrip(), highlight=False, markup=False)
    raise typer.Exit(1 if failed else 0)


@notify.command("preview")
def preview(
    station: Annotated[str, typer.Argument(help="站点 · station key")],
    colour: Annotated[Colour, typer.Option(help="紧急程度 · urgency")] = Colour.RED,
    at: Annotated[str | None, typer.Option(help="北京时间 HH:MM，默认现在 · Beijing time, now by default")] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """若此刻出事，谁在何时收到 · Who would be called, when, and who next if nobody confirms; sends nothing."""
    loaded = load(settings, data)
    policy, at_ms = messages.policy(loaded.notices), _instant_of(at)
    with open_site(loaded) as database, database.read() as connection:
        directory = _directory(loaded, connection, at_ms)
        place = messages.places(connection, [station]).get(station)
        duty = oncall.on_call(connection, at_ms)
    if place is None:
        raise ConfigurationError(say("command.no_station", station=station))
    found = preview_messages(directory, place, colour, at_ms, duty=lambda _: duty, policy=policy)
    rows = [(one.step, one.contact, one.at_ms) for one in found]
    if as_json:
        out.print_json(data=[{"step": s, "contact": c.key, "at": rfc3339(t)} for s, c, t in rows])
        return
    if not rows:
        out.print(line("notice.nobody"))
    for step, contact, told_ms in rows:
        ways = ", ".join(channel.kind for channel in contact.channels)
        out.print(f"{step} {beijing(told_ms)} {contact.key} {contact.name} ({ways})", highlight=False, markup=False)


@notify.command("list")
def list_(
    settings: SettingsFile = None,
    data: DataFolder = None,
    status: Annotated[
        str | None,
        typer.Option(
            help="pending、sent、dead 或 cancelled 的通知 · messages that are pending, sent, dead or cancelled"
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="最多几条 · at most so many")] = 20,
    as_json: AsJson = False,
) -> None:
    """最近的通知 · The newest messages, and what became of them."""
    with open_site(load(settings, data)) as database, database.read() as connection:
        found = notice_store.list_notices(connection, status=status, limit=limit)
        items = notice_store.items(connection, [one.id for one in found])
    if as_json:
        rows = [
            {f.name: getattr(one, f.name) for f in dataclasses.fields(one)}
            | {"incidents": [item.incident_id for item in items.get(one.id, [])], "body": _without_link(one.body)}
            for one in found
        ]
        out.print_json(data=rows)
        return
    if not found:
        out.print(line("command.no_notices"))
    for one in found:
        numbers = [str(item.incident_id) for item in items.get(one.id, [])][:5]
        at = beijing(one.sent_at_ms or one.due_at_ms)
        rest = one.sent_by or one.last_error or ""
        row = f"{one.id} {one.status} {at} {one.contact} [{', '.join(numbers)}] {rest}"
        out.print(row, highlight=False, markup=False)


@shifts.command("show")
def show(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """现在和今后四周谁值班 · Who is on call now and in the next four weeks; exit code 1 when nobody is at some time."""
    now_ms = clock.now_ms()
    with open_site(load(settings, data)) as database, database.read() as connection:
        planned = oncall.shifts(connection, now_ms, now_ms + SHOWN_DAYS * DAY_MS)
    gap_ms = oncall.uncovered(planned, now_ms, now_ms + SHOWN_DAYS * DAY_MS)
    if as_json:
        rows = [
            {"person": s.person, "begins": rfc3339(s.starts_at_ms), "until": rfc3339(s.ends_at_ms), "rank": s.rank}
            for s in planned
        ]
        gap = None if gap_ms is None else rfc3339(gap_ms)
        out.print_json(data={"now": oncall.ranks(planned, now_ms), "shifts": rows, "uncovered_from": gap})
    else:
        rows_ = (
            (*(beijing(at, "%Y-%m-%d %H:%M") for at in (s.starts_at_ms, s.ends_at_ms)), str(s.rank), s.person)
            for s in planned
        )
        tabulate(("since", "until", "rank", "person"), rows_, "notices.no_shift")
        if gap_ms is not None:
            out.print(line("notice.uncovered", at=beijing(gap_ms)), highlight=False, markup=False)
    raise typer.Exit(0 if gap_ms is None else 1)


@shifts.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="值班计划 TOML · the plan (config/oncall.sample.toml shows one)")],
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """导入值班计划，替换自其首班起的安排 · Put a plan in force; it replaces what was planned from then on."""
    loaded = load(settings, data)
    with open_site(loaded) as database, database.write() as connection:
        found, notes = files.read_shifts(file, _directory(loaded, connection, clock.now_ms()))
        dropped = oncall.replace(connection, found, by=login(), now_ms=clock.now_ms())
    for note in notes:
        out.print(join_on_line(note), highlight=False, markup=False, soft_wrap=True)
    out.print(line("notice.imported", count=len(found), dropped=dropped), highlight=False, markup=False)


def _without_link(body: str | None) -> str | None:
    """A message without its confirmation link, which is a credential."""
    return None if body is None else " ".join("…" if "/a/" in word else word for word in body.split(" "))


def _instant_of(text: str | None) -> int:
    now = datetime.now(BEIJING)
    if text is None:
        return to_ms(now)
    try:
        at = datetime.strptime(text, "%H:%M").replace(tzinfo=BEIJING).timetz()
    except ValueError:
        raise ConfigurationError(say("command.time_of_day", text=text)) from None
    return to_ms(datetime.combine(now.date(), at))


def _directory(loaded: Settings, connection: sa.Connection, at_ms: int) -> Directory:
    found = messages.all_contacts(loaded, connection, at_ms)
    if not found.contacts:
        raise ConfigurationError(say("command.no_contacts"))
    return found
