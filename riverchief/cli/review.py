"""``riverchief review``: verdicts of people on readings; they override all tests."""

from typing import Annotated, Any

import typer

from infra import clock
from infra.texts import named, say
from infra.times import beijing, rfc3339
from ingest.storage import maintenance as store
from riverchief.cli.commands import Commands
from riverchief.cli.options import (
    AsJson,
    By,
    DataFolder,
    SettingsFile,
    author,
    instant,
    newest_of,
    registered,
    site_database,
)
from riverchief.terminal import out, tabulate
from sensors.maintenance import Review, Verdict, make_review
from sensors.parameters import catalogue

app = Commands("数据复核 · What people say readings are worth.")

Station = Annotated[str, typer.Argument(help="站点 · station key")]


@app.command("add")
def add(  # noqa: PLR0913, PLR0917  (an option of the command each)
    station: Station,
    verdict: Annotated[Verdict, typer.Argument(help="good 为有效，suspect 为存疑，bad 为无效 · what they are worth")],
    since: Annotated[str, typer.Option(help="起，含，RFC 3339 或日期 · the first reading meant: a time or a day")],
    until: Annotated[str, typer.Option(help="止，不含 · readings before it are meant")],
    reason: Annotated[str, typer.Option(help="理由 · why")],
    parameter: Annotated[str, typer.Option(help="参数，缺省为全部 · all of the station if left out")] = "",
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """判定读数有效或无效 · Call readings good or bad: what rested on bad ones is withdrawn."""
    parameters = catalogue()
    span = instant("--since", since), instant("--until", until)
    with site_database(settings, data) as database, database.write() as connection:
        whose = author(by)
        registered(connection, station)
        made = make_review(station, parameter, span, verdict, reason, whose.by, clock.now_ms(), parameters)
        made = store.with_second_person(connection, made)
        number = store.add_review(connection, made, whose)
    _print_list([(number, made)], as_json=as_json)


@app.command("list")
def listing(
    station: Annotated[str | None, typer.Argument(help="站点，缺省为全部 · station key; all if left out")] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """列出复核，新的在前 · Reviews, newest first; void ones are kept and count for nothing."""
    _print_list(newest_of(settings, data, station, store.reviews), as_json=as_json)


@app.command("confirm")
def confirm(
    station: Station,
    number: Annotated[int, typer.Argument(help="编号 · its number")],
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """复审通过待复审的判定，须由另一人 · Agree with a pending review, as another person than who gave it."""
    with site_database(settings, data) as database, database.write() as connection:
        after = store.confirm_review(connection, station, number, author(by))
    _print_list([(number, after)], as_json=as_json)


@app.command("void")
def void(
    station: Station,
    number: Annotated[int, typer.Argument(help="编号 · its number")],
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """撤销复核 · Take a review back: the readings get their own verdicts again."""
    with site_database(settings, data) as database, database.write() as connection:
        after = store.void_review(connection, station, number, author(by))
    _print_list([(number, after)], as_json=as_json)


def _print_list(found: list[tuple[int, Review]], *, as_json: bool) -> None:
    if as_json:
        out.print_json(data=[_as_json(number, one) for number, one in found])
    else:
        rows = (_row(number, one) for number, one in found)
        tabulate(("number", "station", "parameter", "since", "until", "verdict", "reason", "by"), rows, "review.none")


def _row(number: int, one: Review) -> tuple[str, ...]:
    verdict = say(f"maintenance.verdict_{one.verdict}")
    key = "review.void" if one.void else "review.pending" if one.pending else ""
    fields = named(say(key, verdict=verdict) if key else verdict)
    span = beijing(one.since_ms, "%Y-%m-%d %H:%M"), beijing(one.until_ms, "%Y-%m-%d %H:%M")
    return str(number), one.station, one.parameter or "—", *span, fields, one.reason, one.by


def _as_json(number: int, one: Review) -> dict[str, Any]:
    times = {"since": rfc3339(one.since_ms), "until": rfc3339(one.until_ms), "at": rfc3339(one.at_ms)}
    fields = {
        name: getattr(one, name) for name in ("station", "parameter", "reason", "by", "void", "pending", "second")
    }
    return {"number": number, **fields, "verdict": one.verdict.value, **times}
