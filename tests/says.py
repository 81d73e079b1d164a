"""Errors and pages compared with the catalogue: a test names the key and the values, not the wording."""

import re
from string import Formatter

from infra.texts import Text, template


def says(key: str, /, **values: object) -> str:
    """A pattern for ``match=``: an error that says this sentence with these values, in both languages.

    A value that is not given may be anything; a Text among the values is expected in its language.
    """
    sentence = template(key)
    return f"{_pattern(sentence.zh, 'zh', values)}。 / {_pattern(sentence.en, 'en', values)}\\."


def _pattern(sentence: str, language: str, values: dict[str, object]) -> str:
    found = []
    for words, name, form, conversion in Formatter().parse(sentence):
        found.append(re.escape(words))
        if name in values:
            value = values[name]
            value = getattr(value, language) if isinstance(value, Text) else value
            found.append(re.escape(format(repr(value) if conversion == "r" else value, form or "")))
        elif name is not None:
            found.append(r"[\s\S]*?")
    return "".join(found)


def shows(text: str, key: str, /, **values: object) -> bool:
    """Whether a page, a message or an entry holds this sentence with these values, in either language."""
    sentence = template(key)
    return any(re.search(_pattern(getattr(sentence, one), one, values), text) for one in ("zh", "en"))
