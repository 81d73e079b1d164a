"""Catalogue of all sentences shown to people, Chinese first with English beside it.

The sentences stand in ``texts.toml``, those that only pages show in ``page_texts/``, those that only commands print
in ``command_texts.toml``; a test checks that both
languages use the same values.
"""

import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Text:
    """One sentence in both languages."""

    zh: str
    en: str


@lru_cache(maxsize=1)
def _sentences() -> dict[str, Text]:
    folder = files("infra")
    of_pages = sorted(folder.joinpath("page_texts").iterdir(), key=lambda file: file.name)
    return {
        f"{section}.{name}": Text(row["zh"], row["en"])
        for file in (folder.joinpath("texts.toml"), *of_pages, folder.joinpath("command_texts.toml"))
        for section, rows in tomllib.loads(file.read_text(encoding="utf-8")).items()
        for name, row in rows.items()
    }


def say(key: str, /, **values: object) -> Text:
    """The sentence ``section.name`` with its values filled in; a Text among the values is used in both languages."""
    sentence = _sentences()[key]
    return Text(
        sentence.zh.format_map({k: v.zh if isinstance(v, Text) else v for k, v in values.items()}),
        sentence.en.format_map({k: v.en if isinstance(v, Text) else v for k, v in values.items()}),
    )


def sections(*names: str) -> dict[str, Text]:
    """The sentences of whole sections by key, their values not filled in, for programs that do that elsewhere."""
    return {key: text for key, text in _sentences().items() if key.partition(".")[0] in names}


def keys() -> Collection[str]:
    """All keys."""
    return _sentences().keys()


def both(text: Text) -> str:
    """A text in both languages, as terminals, logs and the API carry it: ``中文。 / English.``, line by line.

    A place in a file before both languages (`at`) stands once; so do the words of others (`same`).
    """
    zh, en = text.zh.split("\n"), text.en.split("\n")
    if len(zh) != len(en):
        return _two_languages(text.zh, text.en)
    return "\n".join(map(_two_languages, zh, en))


def _two_languages(zh: str, en: str) -> str:
    if zh == en:
        return zh
    start = 0
    while (end := zh.find(": ", start) + 2) > 1 and en.startswith(zh[:end]):
        start = end
    return f"{zh}。 / {en[start:]}."


def ended(text: Text) -> Text:
    """A text with its full stops, as a page shows a refusal."""
    return text if text.zh == text.en else Text(f"{text.zh}。", f"{text.en}.")


def from_both(message: str) -> Text:
    """The languages of what `both` wrote into a store; what is in one language stands for both."""
    zh, both_are_there, en = message.partition("。 / ")
    return Text(zh, en.removesuffix(".")) if both_are_there else same(message)


def same(words: object) -> Text:
    """Words that are the same in both languages: those of a library, a server, a device."""
    return Text(str(words), str(words))


def at(place: object, text: Text) -> Text:
    """A text with the place in a file before it that it is about."""
    return Text(f"{place}: {text.zh}", f"{place}: {text.en}")


def joined(texts: Iterable[Text], between: str = "\n") -> Text:
    """Several texts as one, a line each."""
    found = tuple(texts)
    return Text(between.join(text.zh for text in found), between.join(text.en for text in found))


def line(key: str, /, **values: object) -> str:
    """A sentence in both languages, as commands print it on a line: ``中文 · English``."""
    return join_on_line(say(key, **values))


def join_on_line(text: Text) -> str:
    """A text in both languages, as people read it on a line."""
    return f"{text.zh} · {text.en}"


def named(text: Text) -> str:
    """A name in both languages, as tables and lists show it: ``中文 English``; once where both are the same."""
    return text.zh if text.zh == text.en else f"{text.zh} {text.en}"


def template(key: str) -> Text:
    """The sentence as it stands, placeholders unfilled."""
    return _sentences()[key]
