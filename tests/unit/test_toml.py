"""A TOML file of people's is refused with a reason, whatever it holds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from governance import assessment, dispatch, tomlfile
from ingest.checks import rules
from riverchief import settings
from sensors import stationfile
from sensors.errors import ConfigurationError
from sensors.parameters import catalogue
from sensors.wire import mapping


class Anything(tomlfile.Table):
    """A table with one entry."""

    x: int = 0


def settings_file(folder: Path, text: str) -> None:
    file = folder / "settings.toml"
    file.write_text(text)
    settings.load(file)


READERS: dict[str, Callable[[Path, str], object]] = {
    "mappings": lambda _, text: mapping.read(text, catalogue()),
    "rules": lambda _, text: rules.read(text, catalogue()),
    "processes": lambda _, text: dispatch.read(text),
    "formula": lambda _, text: assessment.read(text),
    "stations": lambda _, text: stationfile.read(text, catalogue()),
    "contacts": lambda _, text: tomlfile.parse(text, Anything),
    "settings": settings_file,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "text",
    ["x = " + "9" * 5000, "x = 0x" + "f" * 5000, "x = " + "[" * 5000 + "]" * 5000, "x = 18446744073709551616"],
    ids=["digits", "hexadecimal", "nested", "beyond 64 bits"],
)
def test_numbers_beyond_toml_and_endless_nesting_are_refused(tmp_path: Path, reader: str, text: str) -> None:
    with pytest.raises(ConfigurationError):
        READERS[reader](tmp_path, text)
