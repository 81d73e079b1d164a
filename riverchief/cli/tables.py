"""``riverchief classify`` and ``riverchief assess``: commands on tables, without a site."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson
from riverchief.terminal import err, out, progress_bar
from sensors.parameters import catalogue
from sensors.standards.gb3838 import Oxygen, Water

app = Commands()


@app.command()
def classify(
    file: Annotated[Path, typer.Argument(help="表格 · a table: .csv, .csv.gz, .xlsx, .parquet")],
    water_body: Annotated[Water, typer.Option("--water-body", help="河流或湖库 · whose limits count")] = Water.RIVER,
    to: Annotated[Path | None, typer.Option("--out", help="输出文件，默认标准输出 · default: CSV to stdout")] = None,
    items: Annotated[
        str, typer.Option(help="评价项目 · table | national (21) | real-time (5) | keys, with commas")
    ] = "table",
    saturation: Annotated[
        bool, typer.Option("--saturation", help="饱和率90%即Ⅰ类 · 90 % saturation is class I too (needs temperature)")
    ] = False,
    rounded: Annotated[bool, typer.Option("--rounded", help="先按标准修约 · round half to even first")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="无法识读即报错 · an unreadable cell is an error")] = False,
    as_json: AsJson = False,
) -> None:
    """按 GB 3838-2002 判定水质类别 · Add the class of water and what decides it to every row of a table."""
    from riverchief.tables import classify as classify_

    options = classify_.Options(
        water_body, classify_.items(items), Oxygen.SATURATION if saturation else Oxygen.MG_L, rounded, strict
    )
    with progress_bar(file.name) as progress:
        summary = classify_.classify(file, to or sys.stdout.buffer, options, catalogue(), progress)
    if as_json:
        (out if to else err).print_json(data=dataclasses.asdict(summary))
    else:
        for line in classify_.summary_lines(summary):
            err.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command()
def assess(
    file: Annotated[Path, typer.Argument(help="表格 · a table: .csv, .csv.gz, .xlsx, .parquet")],
    to: Annotated[Path, typer.Option("--out", help="可疑读数与事件 · where the flags go")],
    network: Annotated[
        list[str] | None,
        typer.Option("--network", help="上游>下游，或其文件 · a>b>c, or a file with such lines"),
    ] = None,
    offset: Annotated[
        str | None, typer.Option("--offset", help="未注明时区的时间，如 +08:00 · of times that say none; default UTC")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """检验一张表：哪些读数不可信，何时水质突变 · Which readings of a table are doubtful, and when the water changed."""
    from riverchief.tables import assess as assess_

    edges, shift = assess_.network(network or ()), assess_.offset(offset)
    with progress_bar(file.name) as progress:
        summary = assess_.assess_file(file, to, catalogue(), network=edges, offset=shift, progress=progress)
    if as_json:
        out.print_json(data=dataclasses.asdict(summary))
    else:
        for line in assess_.summary_lines(summary):
            err.print(line, highlight=False, markup=False, soft_wrap=True)
