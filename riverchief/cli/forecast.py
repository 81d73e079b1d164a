"""``riverchief forecast`` and ``riverchief trace``: forecasts and source attributions."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra import clock
from infra.errors import ConfigurationError, NotFound
from infra.texts import join_on_line, named, say
from infra.times import HOUR_MS, beijing, rfc3339
from ingest.storage import registry as registry_store
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, instant, load, open_site
from riverchief.terminal import out, tabulate
from sensors.forecast import Verdict
from sensors.parameters import catalogue

if TYPE_CHECKING:
    from ingest.analysis import forecasts, source_attribution

app = Commands()


@app.command()
def forecast(
    station: Annotated[str, typer.Argument(help="站点 · station")],
    parameter: Annotated[str, typer.Argument(help="参数 · parameter")],
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """未来三天的预报，以及何时越限 · What the next three days will be like, and when a limit will be passed."""
    from ingest.analysis import forecasts

    loaded, parameters = load(settings, data), catalogue()
    with open_site(loaded) as database, database.read() as connection:
        registry = registry_store.load(connection, parameters)
        if station not in registry:
            raise NotFound(say("command.no_station", station=station[:80]))
        if parameter not in parameters:
            raise ConfigurationError(say("command.no_parameter", parameter=parameter[:80]))
        found = forecasts.stored_forecasts(connection, station, parameter)
    if not found:
        raise NotFound(say("command.no_forecast", parameter=parameter, station=station))
    one = found[0]
    if as_json:
        typer.echo(json.dumps(_as_json(one), ensure_ascii=False))
        return
    out.print(f"{one.text.zh}\n{one.text.en}", highlight=False)
    if one.verdict is not Verdict.SHOWN:
        return
    what = parameters[parameter]
    for crossing in one.crossings:
        if crossing["expected_h"] is not None:
            sign = ">" if crossing["above"] else "<"
            span = " – ".join(
                "…" if crossing[k] is None else f"{crossing[k]:.0f} h" for k in ("earliest_h", "latest_h")
            )
            rule = crossing["rule"] or named(say("command.target_class"))
            out.print(
                f"{sign} {what.show(crossing['limit'])} · {crossing['expected_h']:.0f} h ({span}) · {rule}",
                highlight=False,
            )
    rows = (
        (beijing(at_ms), what.show(value), f"{low:.{what.decimals}f} – {high:.{what.decimals}f}")
        for at_ms, value, low, high in one.points
    )
    tabulate(("at", "median", "band"), rows, "command.no_points")


@app.command()
def trace(
    incident: Annotated[int | None, typer.Argument(help="事件编号 · number of the incident")] = None,
    station: Annotated[str | None, typer.Option(help="不按事件，而按站点 · a station instead of an incident")] = None,
    at: Annotated[str | None, typer.Option(help="何时发现，RFC 3339 · when it was found there")] = None,
    settings: SettingsFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """溯源：排口和河段按传播时间和潮流排序 · Where it came from: outfalls and stretches, ranked."""
    if (incident is None) == (station is None):
        raise ConfigurationError(say("command.trace_what"))
    if (station is None) != (at is None):
        raise ConfigurationError(say("command.station_at"))
    from ingest.analysis import source_attribution
    from riverchief.stores import open_stores

    loaded, parameters = load(settings, data), catalogue()
    with open_site(loaded) as database:
        store = open_stores(loaded, database, parameters).readings
        if station is None or at is None:
            found = source_attribution.trace_of_incident(database, store, parameters, incident or 0, clock.now_ms())
        else:
            with database.read() as connection:
                registry = registry_store.load(connection, parameters)
            found = source_attribution.trace(store, parameters, registry, station, instant("--at", at), clock.now_ms())
    if as_json:
        typer.echo(json.dumps(_trace(found), ensure_ascii=False))
        return
    out.print(f"{found.text.zh}\n{found.text.en}", highlight=False)
    for i, one in enumerate(found.candidates, 1):
        span = f"{beijing(one.early_ms)} – {beijing(one.late_ms)}"
        out.print(f"[bold]{i}. {join_on_line(one.name)}[/] {one.probability:.0%} · {span}", highlight=False)
        for reason in one.reasons:
            out.print(f"   {join_on_line(reason)}", highlight=False, markup=False)


def _trace(found: "source_attribution.StoredAttribution") -> dict[str, Any]:
    return {
        "station": found.station,
        "since": rfc3339(found.since_ms),
        "text": {"zh": found.text.zh, "en": found.text.en},
        "seen": [{"station": s.station, "onset_at": rfc3339(s.onset_ms)} for s in found.seen],
        "quiet": [q.station for q in found.quiet],
        "candidates": [
            {
                "kind": str(c.kind),
                "key": c.key,
                "name": {"zh": c.name.zh, "en": c.name.en},
                "reach": c.reach,
                "from_km": round(c.from_km, 2),
                "to_km": round(c.to_km, 2),
                "probability": round(c.probability, 3),
                "early_at": rfc3339(c.early_ms),
                "likely_at": rfc3339(c.likely_ms),
                "late_at": rfc3339(c.late_ms),
                "reasons": [{"zh": r.zh, "en": r.en} for r in c.reasons],
            }
            for c in found.candidates
        ],
    }


def _as_json(one: "forecasts.StoredForecast") -> dict[str, Any]:
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
