"""``riverchief simulate``: the command and its progress."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.errors import ConfigurationError
from infra.texts import Text, join_on_line, line, named, say
from infra.times import beijing, rfc3339
from riverchief.cli.commands import Commands
from riverchief.cli.options import SettingsFile, open_site
from riverchief.terminal import err, out, progress_bar, save

if TYPE_CHECKING:
    from riverchief.settings import Settings
    from riverchief.simulate import RunOptions, RunPlan
    from simulator.play import LineState, Progress, RunResult

app = Commands()

UNANSWERED_S = 2.0
"""Time without an answer after which the broker is reported as unavailable."""
PROGRESS_PERIOD_S = 30.0
"""Where standard error is no terminal, a line of progress comes so often."""


RUN_OPTIONS = ("speed", "truth", "hj212", "logger", "logger_password_file", "sl651", "connections", "batch")
"""Options of a scenario that is played."""
SITE_OPTIONS = ("history_days", "every")
"""Options of the site's own stations, which are played without a scenario."""


def refuse_ignored_options(context: typer.Context, scenario: str | None) -> None:
    """Raise ConfigurationError for an option that would be ignored, naming when it applies."""

    def given(*names: str) -> str | None:
        sources = ((name, context.get_parameter_source(name)) for name in names)
        found = next((name for name, source in sources if source is not None and source.name == "COMMANDLINE"), None)
        return found and f"--{found.replace('_', '-')}"

    if scenario is None:
        if (option := given(*RUN_OPTIONS, "stations")) is not None:
            raise ConfigurationError(say("simulate.needs_scenario", option=option))
        return
    if (option := given(*SITE_OPTIONS)) is not None:
        raise ConfigurationError(say("simulate.own_only", option=option))
    if given("table") and (option := given(*RUN_OPTIONS)) is not None:
        raise ConfigurationError(say("simulate.lines_only", option=option, what="--out"))


@app.command()
def simulate(  # noqa: PLR0913, PLR0917  (an option of the command each)
    context: typer.Context,
    scenario: Annotated[
        str | None,
        typer.Argument(
            help="场景或 .toml 文件；不给则模拟本站点 · a scenario or a .toml file; without, the site's own"
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="列出场景 · describe the scenarios")] = False,
    table: Annotated[
        Path | None, typer.Option("--out", help="写成带真值的表，不发布 · write a table with its truth instead")
    ] = None,
    settings: SettingsFile = None,
    history_days: Annotated[
        float, typer.Option(min=0, max=366, help="无场景时先发历史天数 · without a scenario: days of history first")
    ] = 14.0,
    every: Annotated[
        float, typer.Option(min=0.1, max=3600, help="无场景时读数间隔秒数 · without a scenario: s between readings")
    ] = 60.0,
    seed: Annotated[int, typer.Option(help="模拟种子 · seed of the simulated water")] = 1,
    speed: Annotated[str, typer.Option(help="1 实时，60 快 60 倍，max 尽快 · 1 live, 60 times faster, max")] = "1",
    truth: Annotated[
        Path | None, typer.Option(help="写出所播内容的真值表 · write the truth of what was played (.csv, .csv.gz)")
    ] = None,
    hj212: Annotated[
        str | None,
        typer.Option(help="HJ 212 网关 HOST:PORT，已登记的数采仪由此上报 · gateway; registered loggers use it"),
    ] = None,
    logger: Annotated[
        list[str] | None, typer.Option(help="STATION=MN，代替登记表 · instead of the registered loggers")
    ] = None,
    logger_password_file: Annotated[
        Path | None, typer.Option(help="--logger 的 PW 所在文件 · file with the PW of --logger")
    ] = None,
    sl651: Annotated[
        str | None,
        typer.Option(help="SL 651 网关 HOST:PORT，已登记的遥测站由此上报 · gateway; registered SL 651 stations use it"),
    ] = None,
    connections: Annotated[
        int | None, typer.Option(min=0, max=50_000, help="独立连接的站点数 · stations with a connection of their own")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="每条消息的样本数 · samples a message")] = 1,
    stations: Annotated[
        Path | None, typer.Option(help="写出场景的站点文件后结束 · write the scenario's stations to import, and end")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="机器可读 · machine-readable")] = False,
) -> None:
    """模拟站点按场景经 MQTT、HJ 212 上报 · Devices that are not there publish a scenario, or the site's own river."""
    from infra import clock
    from riverchief import logs
    from riverchief import settings as settings_
    from riverchief import simulate as simulate_
    from riverchief.simulate_table import check_target

    if list_:
        _list_scenarios(as_json)
        return
    refuse_ignored_options(context, scenario)
    loaded = settings_.load(settings)
    logs.configure(loaded.log)
    if table is not None:
        _write_scenario(scenario, table, loaded, seed, as_json)
        return
    if scenario is None:
        with progress_reporting() as (stop, progress):
            played = simulate_.run(
                loaded, history_days=history_days, every_s=every, seed=seed, stop=stop, on_progress=progress
            )
        out.print(line("simulate.sent", messages=played.messages, readings=played.readings))
        _warn_unanswered(played)
        raise typer.Exit(0 if played.answered else 1)
    options = simulate_.RunOptions(
        scenario,
        simulate_.speed(speed),
        seed,
        simulate_.OWN_CONNECTIONS if connections is None else connections,
        batch,
        None if hj212 is None else simulate_.address(hj212),
        _loggers(loaded, hj212, logger or [], logger_password_file),
        None if sl651 is None else simulate_.address(sl651),
        {} if sl651 is None else _gauges(loaded),
    )
    plan = simulate_.plan_run(loaded, options, clock.now_ms())
    if stations is not None:
        _write_stations(plan, stations)
        return
    if truth is not None:
        check_target(truth)
    played = _play(loaded, options, plan, truth)
    if as_json:
        out.print_json(data=dataclasses.asdict(played) | {"fates": {k.value: n for k, n in played.fates.items()}})
    else:
        _print_played(played, truth)
    raise typer.Exit(0 if played.answered else 1)


def _gauges(settings: "Settings") -> dict[str, Any]:
    """The SL 651 stations that are registered at the site, by station."""
    from ingest.storage import sl651_stations

    with open_site(settings) as database, database.read() as connection:
        found = {gauge.station: gauge for gauge in sl651_stations.load(connection).values()}
    if not found:
        raise ConfigurationError(say("simulate.no_gauge"))
    return found


def _loggers(settings: "Settings", hj212: str | None, entries: list[str], password_file: Path | None) -> dict[str, Any]:
    """The loggers that play: those named, or those registered at the site."""
    from riverchief import settings as settings_
    from riverchief import simulate as simulate_

    if hj212 is None:
        if entries:
            raise ConfigurationError(say("simulate.logger_gateway"))
        return {}
    if entries:
        return dict(simulate_.loggers(entries, settings_.secret(None, password_file) or ""))
    from ingest.storage import loggers as logger_store

    with open_site(settings) as database, database.read() as connection:
        found = {logger.station: logger for logger in logger_store.load(connection).values()}
    if not found:
        raise ConfigurationError(say("simulate.no_logger"))
    return found


def _write_stations(plan: "RunPlan", path: Path) -> None:
    from sensors import registry_toml
    from sensors.maintenance import MaintenanceRecords
    from sensors.registry_rows import Book

    save(path, registry_toml.write(Book(plan.registry, MaintenanceRecords())))
    count = len(plan.registry.stations)
    err.print(
        f"[green]✓[/] {path}: {line('simulate.stations_written', stations=count, path=path)}",
        highlight=False,
        soft_wrap=True,
    )


def _play(settings: "Settings", options: "RunOptions", plan: "RunPlan", truth: Path | None) -> "RunResult":
    from riverchief import simulate as simulate_
    from simulator.run_record import RunRecord

    for announcement in opening_lines(settings, options, plan):
        err.print(announcement, highlight=False, soft_wrap=True)
    with progress_bar(line("progress.fill")) as on_progress:
        river = simulate_.spin_up(options, plan, on_progress)
    record = RunRecord() if truth is not None else None
    with progress_reporting() as (stop, progress):
        played = simulate_.play_scenario(
            settings, options, plan, river, stop=stop, settled=record, on_progress=progress
        )
    if record is not None and truth is not None:
        with progress_bar(line("progress.truth", file=truth.name)) as on_progress:
            simulate_.write_truth(truth, plan, river, record, played.until_ms, on_progress)
    return played


@contextmanager
def progress_reporting() -> Iterator[tuple[threading.Event, Callable[["Progress"], None]]]:
    """The stop event of a run (set by SIGTERM and SIGINT), and its progress callback."""
    from riverchief.signals import on_signal

    stop = threading.Event()
    with on_signal(lambda *_: stop.set()), err.status(line("progress.connect")) as status:
        reporter = ProgressReporter()

        def progress(now: "Progress") -> None:
            moment = time.monotonic()
            for change in reporter.connection_changes(now, moment):
                err.print(change, highlight=False, soft_wrap=True)
            where = reporter.line(now)
            status.update(where)
            if not err.is_terminal and reporter.due(moment):
                err.print(where, highlight=False, soft_wrap=True)

        yield stop, progress


def opening_lines(settings: "Settings", options: "RunOptions", plan: "RunPlan") -> list[str]:
    """The lines printed before a run begins."""
    from simulator.play import AS_FAST_AS_POSSIBLE

    pace = say("simulate.fast") if options.speed == AS_FAST_AS_POSSIBLE else f"{options.speed:g} ×"
    ends = {"begin": plan.pace.start_ms, "end": plan.scenario.end_ms}
    span = {name: beijing(at_ms, "%Y-%m-%d %H:%M") for name, at_ms in ends.items()} | {"pace": pace}
    shown = [f"MQTT {settings.mqtt.host}:{settings.mqtt.port}: {len(plan.own) + len(plan.shared):,}"]
    if plan.loggers and options.platform is not None:
        shown.append(f"HJ 212 {options.platform[0]}:{options.platform[1]}: {len(plan.loggers):,}")
    if options.centre is not None:
        shown.append(f"SL 651 {options.centre[0]}:{options.centre[1]}: {len(options.gauges):,}")
    lines = [
        line("simulate.begins", scenario=Text(plan.scenario.zh, plan.scenario.en), seed=options.seed, **span),
        line("simulate.stations", who=", ".join(shown)),
    ]
    if plan.refused_connections:
        lines.append(f"[yellow]{line('simulate.shared', own=len(plan.own), others=plan.refused_connections)}[/]")
    return lines


class ProgressReporter:
    """Formats the progress of a run; each change of a connection is reported once."""

    def __init__(self) -> None:
        self._away_since: dict[str, float] = {}
        self._reported_lines: set[str] = set()
        self._refusals: dict[str, str] = {}
        self._next = 0.0

    def connection_changes(self, now: "Progress", moment: float) -> list[str]:
        """Sentences about changes since the last call; ``moment`` is a monotonic clock in s."""
        return [change for state in now.lines for change in self._line_changes(state, moment)]

    def _line_changes(self, state: "LineState", moment: float) -> Iterator[str]:
        name = state.name
        if state.refusal and state.refusal != self._refusals.get(name):
            yield f"[red]{line('simulate.refuses', name=name, refusal=state.refusal)}[/]"
        self._refusals[name] = state.refusal
        if state.wanted and not state.connected:
            since = self._away_since.setdefault(name, moment)
            if name not in self._reported_lines and moment - since >= UNANSWERED_S and not state.refusal:
                self._reported_lines.add(name)
                yield f"[yellow]{line('simulate.silent', name=name)}[/]"
            return
        since = self._away_since.pop(name, moment)
        if name in self._reported_lines:
            self._reported_lines.discard(name)
            yield f"[green]{line('simulate.answers', name=name, seconds=moment - since)}[/]"

    def line(self, now: "Progress") -> str:
        """One line: time reached, messages sent, connections."""
        share = "" if now.share is None else f"{now.share:.0%} · "
        connected, wanted = sum(s.connected for s in now.lines), sum(s.wanted for s in now.lines)
        sent = say("simulate.sent", messages=now.messages, readings=now.readings)
        parts = [sent, say("simulate.connected", connected=connected, wanted=wanted)]
        if under_way := sum(s.under_way for s in now.lines):
            parts.append(say("simulate.under_way", messages=under_way))
        if now.remembered:
            parts.append(say("simulate.kept", samples=now.remembered))
        both = Text("，".join(text.zh for text in parts), ", ".join(text.en for text in parts))
        return f"{share}{beijing(now.at_ms, '%m-%d %H:%M')} · {join_on_line(both)}"

    def due(self, moment: float) -> bool:
        """Whether a line of progress is due on a standard error that is no terminal."""
        if moment < self._next:
            return False
        self._next = moment + PROGRESS_PERIOD_S
        return True


def _print_played(played: "RunResult", truth: Path | None) -> None:
    counts = {name: getattr(played, name) for name in ("messages", "readings", "events", "seconds")}
    out.print(line("simulate.played", **counts))
    fates = ", ".join(f"{fate.value} {n:,}" for fate, n in sorted(played.fates.items()))
    out.print(f"{named(say('simulate.samples'))}: {fates}")
    if truth is not None:
        out.print(f"{named(say('simulate.truth'))}: {truth}")
    _warn_unanswered(played)


def _warn_unanswered(played: "RunResult") -> None:
    if not played.answered:
        err.print(f"[yellow]{line('simulate.unanswered')}[/]", soft_wrap=True)


def _list_scenarios(as_json: bool) -> None:
    from riverchief.simulate_table import list_scenarios

    if as_json:
        out.print_json(data={"scenarios": [dataclasses.asdict(found) for found in list_scenarios()]})
        return
    for found in list_scenarios():
        out.print(f"[bold]{found.key}[/]  {join_on_line(Text(found.zh, found.en))}", highlight=False)
        out.print(f"  {found.see_zh}\n  {found.see_en}\n", highlight=False)


def _write_scenario(scenario: str | None, table: Path, settings: "Settings", seed: int, as_json: bool) -> None:
    from riverchief.simulate_table import write

    if scenario is None:
        raise ConfigurationError(say("simulate.out_scenario"))
    with progress_bar(line("progress.simulate", scenario=scenario)) as on_progress:
        written = write(scenario, table, settings, seed=seed, on_progress=on_progress)
    if as_json:
        passages = [
            {
                "event": p.event.name,
                "kind": str(p.event.kind),
                "station": p.station,
                "first": rfc3339(p.first_ms),
                "peak": rfc3339(p.peak_ms),
                "last": rfc3339(p.last_ms),
                "strength": round(p.strength, 2),
            }
            for p in written.passages
        ]
        out.print_json(data={"rows": written.rows, "stations": written.stations, "passages": passages})
        return
    counts = {"rows": written.rows, "stations": written.stations, "passages": len(written.passages)}
    out.print(f"[green]✓[/] {table}: {line('simulate.written', **counts)}", highlight=False)
