"""The command line as a whole: each module beside this one holds a group of commands, thin skins over the parts."""

import sys

import typer

from riverchief.cli import (
    assessment,
    audit,
    backtest,
    dashboards,
    evidence,
    foresight,
    hj212,
    ledger,
    mutes,
    notices,
    outbox,
    processes,
    quarantine,
    reconcile,
    review,
    rules,
    running,
    setup,
    simulate,
    stations,
    storage,
    tables,
    users,
)
from riverchief.terminal import err
from sensors.errors import ConfigurationError, WaterError

app = typer.Typer(
    help="河长智慧平台 · From a sensor in the river to a closed case.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (running, ledger, tables, foresight, storage):
    app.add_typer(group.app)
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(rules.app, name="rules")
app.add_typer(review.app, name="review")
app.add_typer(mutes.app, name="mutes")
app.add_typer(stations.app, name="stations")
app.add_typer(outbox.app, name="outbox")
app.add_typer(dashboards.app, name="dashboards")
app.add_typer(setup.app, name="setup")
app.add_typer(hj212.app, name="hj212")
app.add_typer(users.users, name="users")
app.add_typer(processes.processes, name="processes")
app.add_typer(audit.app, name="audit")
app.add_typer(notices.notify, name="notify")
app.add_typer(notices.shifts, name="oncall")
app.command()(simulate.simulate)
app.command()(evidence.evidence)
app.command()(assessment.assessment)
app.command()(reconcile.reconcile)
app.command("backtest")(backtest.run)


def main() -> None:
    """The entry point: what we refuse is one sentence and exit code 2, never a traceback."""
    try:
        app()
    except WaterError as error:
        err.print(f"[red]✗[/] {error}", highlight=False, markup=True, soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
