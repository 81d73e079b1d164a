"""``riverchief processes check``: read a file of standard processes and explain it."""

from pathlib import Path
from typing import Annotated

import typer

from governance.incidents.deadlines import Phase
from governance.incidents.finding import Colour
from infra.texts import line, named, say
from riverchief import files
from riverchief.cli.commands import Commands
from riverchief.terminal import columns, out, tabulate

app = Commands("标准流程和时限 · Standard processes and deadlines.")


@app.command("check")
def check(file: Annotated[Path | None, typer.Argument(help="流程文件 · processes file")] = None) -> None:
    """检查流程文件并说明 · Read a file of processes and explain it; without one the shipped file."""
    found = files.read_processes(file)
    limits = columns("phase", *(f"rule.{colour}" for colour in Colour), title=named(say("process.limits")))
    for phase in Phase:
        limits.add_row(
            named(say(f"phase.{phase.value}")), *(str(found.policy.limits[phase, colour]) for colour in Colour)
        )
    out.print(limits)
    hours = found.policy.emergencies
    grades = ", ".join(f"{grade} {within}" for grade, within in hours.within.items())
    out.print(line("process.emergencies", limits=grades))
    out.print(line("process.again", answer=hours.answer, again=hours.again))
    rows = (
        (
            f"{one.key} {one.zh}",
            ", ".join(one.kinds) or "—",
            one.department or "—",
            ", ".join(one.joint) or "—",
            one.level.key,
            str(one.handle or "—"),
            str(one.close_after or found.policy.close_after),
        )
        for one in found.known
    )
    tabulate(("process", "kinds", "lead", "joint", "level", "phase.handle", "close_after"), rows, "process.none")
    out.print(f"✓ {line('process.valid', count=len(found.known))}")


@app.callback()
def _group() -> None:
    """One command today; more may come."""
