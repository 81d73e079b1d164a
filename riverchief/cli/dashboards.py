"""``riverchief dashboards``: build the Grafana dashboards, and publish them."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from infra.errors import ConfigurationError
from infra.texts import say
from riverchief import settings as settings_
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, SettingsFile, load
from riverchief.terminal import out

app = Commands("Grafana 仪表盘 · Dashboards.")


@app.command("build")
def build(
    folder: Annotated[Path, typer.Argument(help="目标目录 · folder to write to")] = Path("dashboards/generated"),
    settings: SettingsFile = None,
) -> None:
    """由代码生成仪表盘 JSON · Write the dashboards as Grafana reads them."""
    from dashboards import catalogue as boards
    from dashboards import parts

    folder.mkdir(parents=True, exist_ok=True)
    for board in boards.build(load(settings).grafana.console_url):
        file = folder / f"{board.uid}.json"
        file.write_text(parts.text(board), encoding="utf-8")
        out.print(str(file), highlight=False, soft_wrap=True)


@app.command("publish")
def publish(
    settings: SettingsFile = None,
    force: Annotated[
        bool, typer.Option("--force", help="覆盖在 Grafana 中改过的 · overwrite what was edited in Grafana")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """发布仪表盘到 Grafana；再次发布不改变任何东西 · Put the dashboards into Grafana; twice changes nothing."""
    from dashboards import catalogue as boards
    from dashboards import parts
    from riverchief import grafana

    chosen = load(settings).grafana
    if chosen.url is None:
        raise ConfigurationError(say("grafana.no_url"))
    published = grafana.publish(
        [parts.plain(board) for board in boards.build(chosen.console_url)],
        url=chosen.url,
        token=settings_.secret(chosen.token, chosen.token_file),
        force=force,
    )
    if as_json:
        out.print_json(data=[dataclasses.asdict(one) for one in published])
        return
    for one in published:
        out.print(f"{one.uid:14} {one.done:10} {one.url}", highlight=False, soft_wrap=True)
