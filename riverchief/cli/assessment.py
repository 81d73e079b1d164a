"""``riverchief assessment``: a month's assessment on the terminal or as an Excel file."""

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from governance.assessment.model import GroupBy, Indicator
from infra import clock
from infra.texts import named, say
from riverchief import files
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, load, login, open_site
from riverchief.terminal import columns, out, save
from sensors.parameters import catalogue

app = Commands()


@app.command()
def assessment(
    month: Annotated[str, typer.Option(help="月份，如 2026-10 · month")],
    by: Annotated[GroupBy, typer.Option(help="按河长、镇街或河段 · chief, street or reach")] = GroupBy.STREET,
    file: Annotated[Path | None, typer.Option("--out", help="写入 Excel · write an Excel file")] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """月度考核 · The assessment of a month, made from the trail."""
    from api import assessment as assessing
    from api import export_log
    from api.routes.assessments import view

    loaded = load(settings, data)
    formula = files.read_formula(loaded.site.assessment)
    now_ms = clock.now_ms()
    with open_site(loaded) as database:
        made, registry = assessing.make(database, catalogue(), month, by, formula, now_ms=now_ms)
        if file is not None:
            sheet = assessing.sheet(made, registry, assessing.noted(database, registry, month))
            save(file, sheet)
            body = {"month": month, "by": by, "format": "xlsx"}
            export_log.note(
                database, "assessment", f"assessment/{month}", sheet, body, by=login(), role="", at_ms=now_ms
            )
    if as_json:
        out.print_json(json.dumps(msgspec.to_builtins(view(made, registry)), ensure_ascii=False))
        return
    figures = ("assessment.cases", *(f"assessment.{name.value}" for name in Indicator), "assessment.score")
    title = f"{month} · {named(say('assessment.example'))}" if formula.example else month
    listed = columns("", *figures, right=figures, title=title)
    for row in [*made.rows, made.total]:
        name = say("assessment.total") if row is made.total else assessing.name_of(by, row.key, registry)
        shares = [row.shares[indicator] for indicator in Indicator]
        cells = ["—" if share.value is None else f"{share.value:.1%}" for share in shares]
        listed.add_row(named(name), str(row.cases), *cells, "—" if row.score is None else f"{row.score:.2f}")
    out.print(listed)
    if file is not None:
        out.print(f"[green]✓[/] {file}", highlight=False, soft_wrap=True)
