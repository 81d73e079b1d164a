"""Terminal output of the commands: consoles, tables, files, progress bar."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from infra.errors import ConfigurationError
from infra.texts import line, named, say

out = Console()
err = Console(stderr=True)

SHOW_PROGRESS_AFTER_S = 2.0
"""Work that takes longer shows its progress."""


def columns(*names: str, right: Collection[str] = (), title: str = "") -> Table:
    """A table without rows yet, its columns called as the catalogue says: ``column.NAME``, or a key with its section.

    An empty name is a column without one; those of ``right`` hold figures, and beside figures a word is not broken.
    """
    table = Table(title=title or None)
    for name in names:
        heading = escape(named(say(name if "." in name else f"column.{name}")) if name else "")
        is_figure = name in right
        no_wrap = bool(right) and not is_figure
        table.add_column(heading, overflow="fold", no_wrap=no_wrap, justify="right" if is_figure else "left")
    return table


def tabulate(names: Sequence[str], rows: Iterable[Sequence[str]], none: str) -> None:
    """Print rows as a table of such columns, or the sentence ``none`` where there are none."""
    table = columns(*names)
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table if table.row_count else line(none))


def aligned(rows: Mapping[str, str]) -> Iterator[str]:
    """Lines of a name from the catalogue and what it is, one below the other."""
    names = {key: named(say(key)) for key in rows}
    width = max(map(cell_len, names.values()))
    for key, name in names.items():
        yield f"{name}{' ' * (width - cell_len(name))}  {rows[key]}"


def save(file: Path, content: str | bytes, *, private: bool = False) -> None:
    """Write the file a command was asked for, text in UTF-8; a private one nobody else reads.

    Raises ConfigurationError where it cannot be written.
    """
    try:
        if private:
            file.unlink(missing_ok=True)
            file.touch(mode=0o600)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise ConfigurationError(say("file.unwritable", file=file, error=error.strerror)) from error


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on the terminal once the work takes longer than two seconds; told the share done, 0 to 1.

    ``what`` is being done: a text in both languages.
    """
    began, bar = time.monotonic(), Progress(console=err, transient=True)
    task = bar.add_task(what, total=1.0)

    def show_share(share: float) -> None:
        if err.is_terminal and time.monotonic() - began > SHOW_PROGRESS_AFTER_S:
            bar.start()
            bar.update(task, completed=share)

    try:
        yield show_share
    finally:
        bar.stop()
