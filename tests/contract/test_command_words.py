"""What commands say: help that fits a terminal of 80 columns, and refusals, in Chinese first with English beside it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner

from infra import texts
from riverchief.cli import app as command_line
from tests.cases import in_both_languages

WIDTH = 80
PLACE = Path(__file__).parents[2]
ROOT: Any = typer.main.get_command(command_line.app)
KEY = re.compile("|".join(rf"(?<![\w.]){re.escape(key)}(?![\w.])" for key in sorted(texts.keys())))


def commands(group: Any = ROOT, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group, with the words that lead to it."""
    yield words, group
    for name in group.list_commands(None) if hasattr(group, "list_commands") else ():
        yield from commands(group.get_command(None, name), *words, name)


ALL = dict(commands())


def squeezed(text: str) -> str:
    return "".join(text.split())


def said(command: Any) -> Iterator[str]:
    """The texts of a command's help as they are declared."""
    yield from command.help.split("\n\n")
    yield from (one.help for one in command.params)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_the_help_of_a_command_is_whole_in_both_languages_and_fits_80_columns(words: tuple[str, ...]) -> None:
    shown = CliRunner(env={"COLUMNS": str(WIDTH)}).invoke(command_line.app, [*words, "--help"])
    assert shown.exit_code == 0, shown.output
    assert [line for line in shown.output.splitlines() if cell_len(line.rstrip()) > WIDTH] == []
    assert "Show this message" not in shown.output
    page = squeezed(shown.output)
    for text in said(ALL[words]):
        zh, _, en = text.partition(" · ")
        assert in_both_languages(f"{zh} / {en}"), text
        assert squeezed(zh) in page
        assert squeezed(en) in page


REFUSED = """
chek
rules chek
rules check --nope
ledger --day
users add
users add 示例
bench nothing
bench latency --seconds nine
bench latency --seconds 1
check -c {here}/nowhere.toml
check -c {here}/wrong.toml
check -c {here}/contradicts.toml
check -c {here}/not.toml
ledger -d nowhere
ledger --day May --data {here}
rules check {here}/nowhere.toml
rules check {here}/not.toml
rules show nothing --data {here}
processes check {here}/not.toml
stations import {here}/nowhere.toml --data {here}
stations import {here}/not.toml --data {here}
stations import {here}/table.csv --kind nothing --data {here}
stations export --format xml --data {here}
stations export {here}/nowhere/x.toml --data {here}
stations add q --lon 113 --lat 23 --water sea --data {here}
stations hang nowhere do --data {here}
stations qr {here}/labels.html --data {here}
stations claims make nowhere --data {here}
setup device SHIWAN --admin-password-file {here}/table.csv
setup device shiwan --admin-password-file {here}/table.csv --certificate {here}
setup influx
setup broker --admin-password-file {here}/table.csv
classify {here}/nowhere.csv
classify {here}
classify {here}/table.csv --items nothing
classify {here}/other.csv
classify {here}/table.csv --strict
assess {here}/nowhere.csv --out {here}/flags.csv
assess {here}/other.csv --out {here}/flags.csv
assess {here}/table.csv --out {here}/flags.csv
assess {here}/timed.csv --out {here}/flags.csv --offset x
assess {here}/timed.csv --out {here}/flags.csv --network a
assess {here}/table.csv --out {here}/flags.csv --network x>y
backtest {here}/nowhere.toml {here}/timed.csv
backtest config/rules.toml --data {here}
backtest config/rules.toml {here}/timed.csv --station nobody
backtest config/rules.toml {here}/timed.csv --since 2030-01-01 --until 2020-01-01
backtest config/rules.toml {here}/timed.csv --html {here}/nowhere/x.html --data {here}
forecast nowhere do --data {here}
trace --data {here}
trace --station nowhere --data {here}
backup {here}/to --data {here}/nothing
restore {here} --data {here}/new
restore {here}/nowhere --data {here}/new
archive --data {here}
archive --before yesterday --data {here}
migrate --from sqlite:///{here}/none.db --to sqlite:///{here}/new.db
migrate --from mysql://x/y --to sqlite:///{here}/new.db
simulate --out {here}/t.csv
simulate --truth {here}/t.csv
simulate calm-week --every 30
simulate nothing
simulate {here}/not.toml
simulate {here}/scene.toml
simulate calm-week --speed fast
simulate calm-week --hj212 here
simulate calm-week --logger x
simulate calm-week --out {here}/t.xml
dashboards publish
reconcile --data {here}
oncall import {here}/not.toml --data {here}
notify test nobody --data {here}
notify preview nowhere --at later --data {here}
evidence 7 --out {here}/e.pdf --data {here}
assessment --month 2026 --data {here}
outbox replay 7 --data {here}
quarantine replay 7 --data {here}
review add nowhere good --since 2026-05-12 --until 2026-05-13 --reason x --data {here}
review void nowhere 1 --data {here}
audit check {here}/table.csv
audit check {here}/table.csv --key {here}/table.csv
audit proof 7 --data {here}
audit verify --roots {here}/table.csv --data {here}
hj212 devices remove MN --data {here}
hj212 devices add MN nowhere --any-password --data {here}
users token nobody --data {here}
users appoint nobody --region x --data {here}
demo --replay {here}/other.csv --no-browser
"""
"""Command lines that are wrong; {here} holds the files of `place`."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("words")
    (here / "wrong.toml").write_text("[mqtt]\nhots = 'x'\nport = 'x'\n")
    (here / "contradicts.toml").write_text("[mqtt]\ncert_file = 'x'\n")
    (here / "not.toml").write_text("= no\n")
    (here / "scene.toml").write_text("[scenario]\nstart = 2026-05-01\ndays = '1d'\n[[event]]\nkind = 'flood'\n")
    (here / "table.csv").write_text("do,note\n8,x\nbad,y\n")
    (here / "other.csv").write_text("a,b\n1,2\n")
    (here / "timed.csv").write_text("time,station,do\n2026-05-12T10:30:00Z,s,8\n2026-05-12T10:40:00Z,s,8.1\n")
    return here


@pytest.mark.parametrize("asked", REFUSED.strip().splitlines())
def test_a_refusal_is_in_both_languages_without_a_traceback(
    asked: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["riverchief", *asked.format(here=place).split()])
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    told = capsys.readouterr()
    assert ended.value.code in {1, 2}, told
    (refusal,) = [line for line in told.err.splitlines() if line.startswith("✗ ")] or [told.err + told.out]
    refusal = refusal.replace(str(place), "")
    assert in_both_languages(refusal), refusal
    assert re.search("[\u4e00-\u9fff]", refusal.partition(" / ")[0])
    assert not KEY.search(refusal), refusal
    assert "Traceback" not in told.out + told.err


DECLARED = {"Option", "Argument", "Commands", "command"}
"""What a command takes and means is said where it is declared (decision 0024)."""
UNSAID = {
    "riverchief/tables/assess.py": {"TIME", "DAY", "STATION", "_NAIVE"},  # headings and times of people's own tables
    "riverchief/tables/classify.py": {"MISSING"},  # what stands for nothing in them
    "riverchief/grafana.py": {"FOLDER_TITLE"},  # the folder's name on a server
    "riverchief/settings.py": {"name"},  # a site that was not given a name
    "riverchief/demo.py": {
        "_person",
        "_settings",
        "PATROL_NOTE",
        "REPORT_TEXT",
    },  # names of the example
}
"""File → the functions and constants that hold names and other people's words, not what a command says."""


def written(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Literals that hold Chinese: the function or name at the top of the module they belong to, and their line."""
    passed = {
        id(inner)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in DECLARED)
        for inner in ast.walk(node)
    }
    for top in getattr(tree, "body", ()):
        for holder in [top] if not isinstance(top, ast.ClassDef) else top.body:
            target = getattr(holder, "target", None) or next(iter(getattr(holder, "targets", ())), None)
            name = getattr(holder, "name", None) or getattr(target, "id", "")
            for node in ast.walk(holder):
                text = node.value if isinstance(node, ast.Constant) and id(node) not in passed else None
                if isinstance(text, str) and re.search("[\u3400-\u9fff]", text):
                    yield name, node.lineno


def test_what_commands_print_is_in_the_catalogue_and_not_in_the_code() -> None:
    found = {
        f"{path.relative_to(PLACE)}:{number}: {name}"
        for path in (PLACE / "riverchief").rglob("*.py")
        if "migrations" not in path.parts
        for name, number in written(ast.parse(path.read_text(encoding="utf-8")))
        if name not in UNSAID.get(str(path.relative_to(PLACE)), set())
    }
    assert found == set()


def test_a_sentence_in_the_code_would_be_found() -> None:
    code = 'def told(n):\n    """说明"""\n    out.print(f"{n} 条 entries")\nHELP = Option(help="站点 · station")\n'
    assert list(written(ast.parse(code))) == [("told", 3)]
