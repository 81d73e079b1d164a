"""``python -m tools.score SCENARIO [--seed N] [--json] [--settings FILE]``."""

from typing import Annotated

import typer

from infra.texts import line
from riverchief import logs
from riverchief.cli.app import run_command_line
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, SettingsFile, load
from riverchief.terminal import out, progress_bar
from tools.score import report
from tools.score.run import as_json as score_as_json
from tools.score.run import score as score_scenario

app = Commands()


@app.command()
def score(
    scenario: Annotated[str, typer.Argument(help="场景或 .toml 文件 · a scenario or a .toml file")],
    settings: SettingsFile = None,
    seed: Annotated[int, typer.Option(help="模拟种子 · seed of the simulated water")] = 1,
    as_json: AsJson = False,
) -> None:
    """整个系统跑一遍场景，按真值评分 · Run the whole system on a scenario and score it against the truth."""
    loaded = load(settings, None)
    logs.configure(loaded.log)
    with progress_bar(line("progress.score", scenario=scenario)) as on_progress:
        found = score_scenario(scenario, loaded, seed=seed, on_progress=on_progress)
    if as_json:
        out.print_json(data=score_as_json(found))
    else:
        report.show(found)


if __name__ == "__main__":
    run_command_line(app)
