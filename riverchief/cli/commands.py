"""Declaration of commands and layout of their help: Chinese first, English beside it, or below on a full line.

A help text is written where its command or option is declared, as ``中文 · English``; whatever else is said comes from
the catalogue (`infra.texts`).
"""

import difflib
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text as Shown
from typer.core import TyperCommand, TyperGroup

from infra.errors import ConfigurationError
from infra.texts import Text, line, say

MAX_WIDTH = 100
"""Columns of a page of help on a wide terminal."""
NAME_WIDTH = 26
"""Columns the names of options may take; a longer one stands above what it means."""

KIND_WIDTH = 12
"""Characters of an option's value type beside its name; a longer one stands in the description."""

Misused: type[Any] = typer.BadParameter.__mro__[1]
"""What Typer raises for a command line it cannot use."""


class Command(TyperCommand):
    """A command whose help is one of our pages."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        show_help(self, ctx)


class Group(TyperGroup):
    """A group of commands whose help is one of our pages."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        show_help(self, ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            suggested = difflib.get_close_matches(args[0], names) or names
            raise ConfigurationError(say("usage.no_command", name=args[0], known=", ".join(suggested)))
        return super().resolve_command(ctx, args)


class Commands(typer.Typer):
    """A group of commands; without ``help`` they are commands of the group above."""

    def __init__(self, help: str | None = None, *, cls: type[TyperGroup] = Group) -> None:
        super().__init__(help=help, cls=cls, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=Command, **options)


def misuse(error: Any) -> Text | None:
    """The fault of a command line; None where its help was shown instead."""
    words = error.format_message().strip().rstrip(".")
    param, name = getattr(error, "param", None), getattr(error, "option_name", None)
    if param is not None:
        name = param.opts[-1] if param.param_type_name == "option" else _argument(param)
    match type(error).__name__:
        case "NoSuchOption":
            suggested = ", ".join(error.possibilities or ()) or "--help"
            return say("usage.no_option", name=name, meant=suggested)
        case "MissingParameter" if name:
            return say("usage.missing", name=name)
        case "BadParameter" if name:
            return say("usage.bad_value", name=name, words=error.message.strip().rstrip("."))
    return say("usage.other", words=words) if words else None


def show_help(command: TyperCommand | TyperGroup, ctx: Any) -> None:
    """Print the page of a command or group."""
    console = Console(highlight=False)
    width = min(console.width, MAX_WIDTH)
    params = command.get_params(ctx)
    arguments = [one for one in params if one.param_type_name == "argument"]
    usage = [ctx.command_path, f"[{line('usage.options')}]", *map(_argument, arguments)]
    if isinstance(command, TyperGroup):
        usage.append(f"{line('usage.command')} …")
    console.print(Shown(f"{line('usage.usage')}: {' '.join(usage)}", style="bold"), width=width)
    for paragraph in (command.help or "").split("\n\n"):
        console.print()
        console.print(Shown("\n".join(_lines(" ".join(paragraph.split()), width))), width=width)
    options = [one for one in params if one.param_type_name == "option"]
    sections = {
        "usage.arguments": [(_argument(one), _description(one, ctx)) for one in arguments],
        "usage.options": [(_option(one, ctx), _description(one, ctx)) for one in options],
        "usage.commands": list(_commands(command, ctx)),
    }
    for key, rows in sections.items():
        if rows:
            console.print()
            console.print(Shown(line(key), style="bold"))
            _show_rows(console, rows, width)


def _show_rows(console: Console, rows: list[tuple[str, str]], width: int) -> None:
    left = max((cell_len(name) for name, _ in rows if cell_len(name) <= NAME_WIDTH), default=NAME_WIDTH)
    for name, text in rows:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=left + 2, no_wrap=True)
        table.add_column(overflow="fold")  # an ellipsis would take the place of letters: it counts wide ones as narrow
        label = Shown(f"  {name}", style="cyan")
        if cell_len(name) > left:
            console.print(label, soft_wrap=True)
            label = Shown()
        table.add_row(label, Shown("\n".join(_lines(text, width - left - 6)), overflow="fold"))
        console.print(table, width=width)


def _lines(text: str, width: int) -> list[str]:
    """Both languages on one line where it holds them, else one below the other."""
    zh, _, en = text.partition(" · ")
    return [text] if not en or cell_len(text) <= width else [zh, en]


def _argument(one: Any) -> str:
    name = str(one.metavar or one.name).upper() + ("…" if one.nargs == -1 else "")
    return name if one.required else f"[{name}]"


def _option(one: Any, ctx: Any) -> str:
    names = ", ".join([*sorted(one.opts, key=len), *one.secondary_opts])
    if one.is_flag:
        return names
    kind = one.metavar or one.display_type(ctx).strip("<>").removesuffix(" range")
    return f"{names} {kind if len(kind) <= KIND_WIDTH else '…'}"


def _description(one: Any, ctx: Any) -> str:
    """Description of an option or argument, with choices, default and range."""
    if one.name == "help":
        return line("usage.help")
    text = one.help or ""
    zh, _, en = text.partition(" · ")
    more = list[Text]()
    kind = one.display_type(ctx).strip("<>")
    if "|" in kind and (len(kind) > KIND_WIDTH or one.param_type_name == "argument"):
        more.append(say("usage.one_of", known=kind.replace("|", " | ")))
    default = one.get_default(ctx, call=False)
    if not one.required and not getattr(one, "is_flag", False) and default not in (None, "", []):
        more.append(say("usage.default", value=default.value if isinstance(default, Enum) else f"{default}"))
    if getattr(one, "min", None) is not None and one.max is not None:
        more.append(say("usage.range", least=f"{one.min:,}", most=f"{one.max:,}"))
    if more:
        zh, en = f"{zh}（{'，'.join(note.zh for note in more)}）", f"{en or zh} ({', '.join(note.en for note in more)})"
        return f"{zh} · {en}"
    return text


def _commands(command: Any, ctx: Any) -> Iterator[tuple[str, str]]:
    """The commands of a group, with the first paragraph of what each is for."""
    for name in command.list_commands(ctx) if isinstance(command, TyperGroup) else ():
        if (found := command.get_command(ctx, name)) is not None and not found.hidden:
            yield name, " ".join((found.help or "").split("\n\n")[0].split())
