"""``riverchief users``: people, roles, terms and tokens."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from governance.organisation.regions import Regions
from governance.organisation.roles import Department, Role, role_name
from governance.people import store as people_store
from infra.texts import line, named
from infra.times import DAY_MS, beijing
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, By, DataFolder, SettingsFile, instant, load, login, open_site
from riverchief.terminal import out, tabulate

app = Commands("人员、角色、任期和登录码 · People, roles, terms and tokens.")

Days = Annotated[
    int | None,
    typer.Option(min=1, max=3650, help="登录码有效天数，缺省见 access.token_days · days until the token expires"),
]
Name = Annotated[str, typer.Argument(help="姓名 · name, given once and for ever")]


@app.command("add")
def add(  # noqa: PLR0913, PLR0917  (an option of the command each)
    name: Name,
    role: Annotated[Role, typer.Option(help="角色 · role")],
    region: Annotated[str, typer.Option(help="区域代码，缺省为全域 · code of a region; everywhere if left out")] = "",
    department: Annotated[Department | None, typer.Option(help="部门（处置人员） · a handler's department")] = None,
    print_token: Annotated[
        bool, typer.Option("--print-token", help="发放登录码并显示一次 · issue and show a token")
    ] = False,
    days: Days = None,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """登记人员 · Somebody new; a chief or deputy with a region is appointed to it at once."""
    token = None
    with _writing(settings, data) as (connection, regions, now_ms, _):
        people_store.add(
            connection, name, role, region=region, department=department, by=_author(by), now_ms=now_ms, regions=regions
        )
        if print_token:
            good_ms = _good_ms(days, settings, data)
            token = people_store.issue_token(connection, name, by=_author(by), now_ms=now_ms, good_ms=good_ms)
    if token is None:
        out.print(f"✓ {name}: {named(role_name(role))}", highlight=False)
    else:
        typer.echo(token)  # alone, so that a script can take it


@app.command("list")
def listing(settings: SettingsFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """人员名单 · Everybody."""
    with _writing(settings, data) as (connection, _, now_ms, _):
        found = people_store.list_people(connection)
        terms = people_store.appointments(connection)
        tokens = people_store.valid_tokens(connection, now_ms)
    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "role": one.role.value,
            "region": one.region,
            "department": one.department.value if one.department else None,
            "terms": [
                {"region": t.region, "reach": t.reach, "since_ms": t.since_ms, "until_ms": t.until_ms}
                for t in terms
                if t.name == one.name
            ],
            "tokens": [
                {"issued_at_ms": t.issued_at_ms, "expires_at_ms": t.expires_at_ms} for t in tokens.get(one.name, ())
            ],
        }
        for one in found
    ]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    tabulate(
        ("person", "role", "region", "department", "terms", "tokens"),
        (_row(one, now_ms) for one in rows),
        "command.nobody",
    )


def _row(one: dict[str, Any], now_ms: int) -> tuple[str, ...]:
    held = [t for t in one["terms"] if t["until_ms"] is None or t["until_ms"] > now_ms]
    terms = "; ".join(f"{t['region']} {t['reach']} {beijing(t['since_ms'], '%Y-%m-%d')}–" for t in held)
    role = named(role_name(Role(one["role"])))
    expiries = [t["expires_at_ms"] for t in one["tokens"]]
    until = ", ".join("∞" if at is None else beijing(at, "%Y-%m-%d") for at in expiries)
    return one["name"], role, one["region"] or "—", one["department"] or "—", terms or "—", until or "—"


@app.command("remove")
def remove(name: Name, by: By = None, settings: SettingsFile = None, data: DataFolder = None) -> None:
    """移除人员 · Take role, terms and tokens away; refused while open incidents are theirs."""
    with _writing(settings, data) as (connection, _, now_ms, _):
        people_store.remove(connection, name, by=_author(by), now_ms=now_ms)
    out.print(f"✓ {name}", highlight=False)


@app.command("invite")
def invite(name: Name, by: By = None, settings: SettingsFile = None, data: DataFolder = None) -> None:
    """生成一次性链接，本人用来设置密码 · A link to set one's password, good once, for a day."""
    from governance.people import accounts

    with _writing(settings, data) as (connection, _, now_ms, _):
        code = accounts.make_link(connection, people_store.get(connection, name), by=_author(by), now_ms=now_ms)
    typer.echo(f"{load(settings, data).address}/password/{code}")  # alone, so that a script can take it


@app.command("token")
def token(
    name: Name,
    revoke: Annotated[bool, typer.Option(help="先作废旧登录码 · revoke the old ones first")] = False,
    days: Days = None,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """发放新登录码，显示一次 · A new token, shown this once."""
    with _writing(settings, data) as (connection, _, now_ms, _):
        if revoke:
            people_store.revoke_tokens(connection, name, by=_author(by), now_ms=now_ms)
        good_ms = _good_ms(days, settings, data)
        made = people_store.issue_token(connection, name, by=_author(by), now_ms=now_ms, good_ms=good_ms)
    typer.echo(made)


@app.command("appoint")
def appoint(  # noqa: PLR0913, PLR0917  (an option of the command each)
    name: Name,
    region: Annotated[str, typer.Option(help="区域代码 · code of the region")],
    reach: Annotated[str, typer.Option(help="河段，缺省为区域内全部水体 · one reach only")] = "",
    deputy_of: Annotated[str, typer.Option(help="所助河长 · the chief whom a deputy helps")] = "",
    since: Annotated[str | None, typer.Option(help="起，RFC 3339，默认现在 · since; now if left out")] = None,
    until: Annotated[str | None, typer.Option(help="止，RFC 3339 · until")] = None,
    by: By = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
) -> None:
    """任命河长：前任任期结束，未结案事件由接任者继承 · Begin a term; the successor inherits the open incidents."""
    with _writing(settings, data) as (connection, regions, now_ms, source):
        moved = people_store.appoint(
            connection,
            name,
            region=region,
            reach=reach,
            deputy_of=deputy_of,
            since_ms=now_ms if since is None else instant("since", since),
            until_ms=None if until is None else instant("until", until),
            by=_author(by),
            now_ms=now_ms,
            source=source,
            regions=regions,
        )
    inherited = ", ".join(f"#{number}" for number in moved) or "—"
    out.print(f"✓ {name} → {region} {reach} · {line('command.inherited', incidents=inherited)}", highlight=False)


@contextmanager
def _writing(settings: Path | None, data: Path | None) -> Iterator[tuple[Any, Regions, int, str]]:
    """One transaction of the site's database: connection, the tree of regions, now, the site's source."""
    from infra import clock
    from ingest.storage import registry as registry_store
    from sensors.parameters import catalogue

    loaded = load(settings, data)
    with open_site(loaded) as database, database.write() as connection:
        registry = registry_store.load(connection, catalogue())
        yield connection, Regions(registry.regions, registry.stations), clock.now_ms(), loaded.site.source


def _good_ms(days: int | None, settings: Path | None, data: Path | None) -> int:
    return DAY_MS * (days or load(settings, data).access.token_days)


def _author(by: str | None) -> str:
    return by or login() or "command line"
