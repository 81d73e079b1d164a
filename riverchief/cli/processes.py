"""``riverchief processes check``: the standard processes of a file, read and explained."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from governance.deadlines import Phase
from governance.finding import Colour
from riverchief import files
from riverchief.cli.commands import Commands
from riverchief.terminal import out

app = Commands("标准流程和时限 · Standard processes and deadlines.")


@app.command("check")
def check(file: Annotated[Path | None, typer.Argument(help="流程文件 · processes file")] = None) -> None:
    """检查流程文件并说明 · Read a file of processes and explain it; without one the shipped file."""
    found = files.read_processes(file)
    limits = Table("环节 step", *(f"{colour}" for colour in Colour), title="时限 limits")
    for phase in Phase:
        limits.add_row(phase.value, *(str(found.policy.limits[phase, colour]) for colour in Colour))
    out.print(limits)
    hours = found.policy.emergencies
    told = ", ".join(f"{grade} {within}" for grade, within in hours.within.items())
    out.print(f"突发事件上报时限 emergencies are reported within: {told}")
    out.print(f"无人回应每 unanswered, again each {hours.answer}；逾期每 overdue, again each {hours.again}")
    table = Table("流程 process", "适用 kinds", "主办 lead", "协办 joint", "层级 level", "处置 handle", "读数 readings")
    for one in found.known:
        table.add_row(
            f"{one.key} {one.zh}",
            ", ".join(one.kinds) or "—",
            one.department or "—",
            ", ".join(one.joint) or "—",
            one.level.key,
            str(one.handle or "—"),
            str(one.close_after or found.policy.close_after),
        )
    out.print(table)
    out.print(f"✓ {len(found.known)} 个流程有效 processes are valid")


@app.callback()
def _group() -> None:
    """One command today; more may come."""
