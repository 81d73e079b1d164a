"""``riverchief forecast`` and ``riverchief trace``: what is coming, and where something came from."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ingest import forecasts
from ingest.storage import registry as registry_store
from riverchief import logs
from riverchief import settings as settings_
from riverchief.serve import open_database
from riverchief.settings import Settings
from sensors.errors import ConfigurationError, NotFound
from sensors.forecast import HOUR_MS, Verdict
from sensors.parameters import catalogue
from sensors.times import beijing, rfc3339

app = typer.Typer()

SettingsFile = Annotated[Path | None, typer.Option("--settings", "-c", help="设置文件 · settings file")]
DataFolder = Annotated[Path | None, typer.Option("--data", help="数据目录 · folder of the embedded store")]
AsJson = Annotated[bool, typer.Option("--json", help="机器可读 · machine-readable")]


def _load(settings: Path | None, data: Path | None) -> Settings:
    loaded = settings_.load(settings, **({} if data is None else {"data": data}))
    logs.configure(loaded.log)
    return loaded


@app.command()
def forecast(
    station: Annotated[str, typer.Argument(help="站点 · station")],
    parameter: Annotated[str, typer.Argument(help="参数 · parameter")],
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """未来三天的预报，以及何时越限 · What the next three days will be like, and when a limit will be passed."""
    loaded, known = _load(settings, data), catalogue()
    database = open_database(loaded)
    try:
        with database.read() as connection:
            registry = registry_store.load(connection, known)
            if station not in registry:
                raise NotFound(f"station {station[:80]!r} is not registered")
            if parameter not in known:
                raise ConfigurationError(f"parameter {parameter[:80]!r} is not in the catalogue")
            found = forecasts.kept(connection, station, parameter)
    finally:
        database.close()
    if not found:
        raise NotFound(
            f"no forecast of {parameter} at {station} has been made yet: serve or worker makes one every hour"
        )
    one = found[0]
    if as_json:
        typer.echo(json.dumps(_plain(one), ensure_ascii=False))
        return
    out = Console()
    out.print(f"{one.text.zh}\n{one.text.en}", highlight=False)
    if one.verdict is not Verdict.SHOWN:
        return
    what = known[parameter]
    for crossing in one.crossings:
        if crossing["expected_h"] is not None:
            sign = ">" if crossing["above"] else "<"
            span = " – ".join(
                "…" if crossing[k] is None else f"{crossing[k]:.0f} h" for k in ("earliest_h", "latest_h")
            )
            rule = crossing["rule"] or "水质目标 target class"
            out.print(
                f"{sign} {what.show(crossing['limit'])} · {crossing['expected_h']:.0f} h (80 %: {span}) · {rule}",
                highlight=False,
            )
    table = Table("时间 at", "中值 median", "80 %")
    for at_ms, value, low, high in one.points:
        table.add_row(beijing(at_ms), what.show(value), f"{low:.{what.decimals}f} – {high:.{what.decimals}f}")
    out.print(table)


def _plain(one: forecasts.Kept) -> dict[str, Any]:
    return {
        "station": one.station,
        "parameter": one.parameter,
        "issued_at": rfc3339(one.issued_ms),
        "shown": one.verdict is Verdict.SHOWN,
        "verdict": str(one.verdict),
        "text": {"zh": one.text.zh, "en": one.text.en},
        "ratio": one.ratio,
        "ratio_daily": one.ratio_daily,
        "coverage": one.coverage,
        "days": one.days,
        "points": [
            {"at": rfc3339(at_ms), "value": value, "low": low, "high": high} for at_ms, value, low, high in one.points
        ],
        "crossings": [
            {
                "rule": c["rule"],
                "limit": c["limit"],
                "above": c["above"],
                **{
                    f"{name}_at": None
                    if c[f"{name}_h"] is None
                    else rfc3339(round(one.issued_ms + c[f"{name}_h"] * HOUR_MS) // 1000 * 1000)
                    for name in ("expected", "earliest", "latest")
                },
            }
            for c in one.crossings
        ],
    }
