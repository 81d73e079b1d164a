"""The command line as a whole; each module beside this one holds a group of commands.

A module is loaded once one of its commands is asked for: most need a small part of the system, and start with that.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from rich.markup import escape

from infra.errors import ConfigurationError, WaterError
from infra.texts import Text, both
from riverchief.cli.commands import Commands, Group, Misused, misuse
from riverchief.terminal import err

MODULE_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "running": ("demo", "serve", "ingest", "api", "worker", "check", "doctor", "bench"),
    "cluster": ("bridge", "partitions"),
    "setup": ("setup",),
    "users": ("users",),
    "privacy": ("privacy",),
    "stations": ("stations",),
    "hj212": ("hj212",),
    "sl651": ("sl651",),
    "rules": ("rules",),
    "processes": ("processes",),
    "notices": ("notify", "oncall"),
    "ledger": ("ledger",),
    "quarantine": ("quarantine",),
    "review": ("review",),
    "mutes": ("mutes",),
    "outbox": ("outbox",),
    "reconcile": ("reconcile",),
    "audit": ("audit",),
    "evidence": ("evidence",),
    "assessment": ("assessment",),
    "forecast": ("forecast", "trace"),
    "backtest": ("backtest",),
    "tables": ("assess", "classify"),
    "simulate": ("simulate",),
    "dashboards": ("dashboards",),
    "storage": ("backup", "restore", "archive", "migrate"),
}
"""Module → its commands and groups, in the order in which the help shows them."""


class Root(Group):
    """All commands, each from its module."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for names in MODULE_COMMANDS.values() for name in names]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        home = next((module for module, names in MODULE_COMMANDS.items() if cmd_name in names), None)
        if home is None:
            return None
        group = typer.main.get_group(import_module(f"riverchief.cli.{home}").app)
        group.name = cmd_name
        return group.commands.get(cmd_name, group)


app = Commands("河长智慧平台 · From a sensor in the river to a closed case.", cls=Root)


@app.callback()
def _all() -> None:
    """Its commands are in the modules."""


def main() -> None:
    """The entry point of ``riverchief``."""
    run_command_line(app)


def run_command_line(app: Commands) -> None:
    """Run commands and end the process: a refusal is a sentence in both languages and exit code 2, no traceback."""
    try:
        code = app(standalone_mode=False)
    except Misused as error:
        if message := misuse(error):
            _refuse(message)
            err.print(f"  {error.ctx.command_path} --help" if error.ctx else "", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(1)
    except WaterError as error:
        _refuse(error.text)
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
    sys.exit(code or 0)


def _refuse(text: Text) -> None:
    err.print(f"[red]✗[/] {escape(both(text))}", highlight=False, soft_wrap=True)
