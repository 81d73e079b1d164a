"""A TOML file of people's is refused with a reason, whatever it holds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from governance import assessment
from governance.incidents import dispatch
from infra import toml_file
from infra.errors import ConfigurationError
from ingest.rules import model as rule_model
from riverchief import settings
from sensors import registry_toml
from sensors.parameters import catalogue
from sensors.wire import mapping


class Anything(toml_file.Table):
    """A table with one entry."""

    x: int = 0


def settings_file(folder: Path, text: str) -> None:
    file = folder / "settings.toml"
    file.write_text(text)
    settings.load(file)


READERS: dict[str, Callable[[Path, str], object]] = {
    "mappings": lambda _, text: mapping.read(text, catalogue()),
    "rules": lambda _, text: rule_model.read(text, catalogue()),
    "processes": lambda _, text: dispatch.read(text),
    "formula": lambda _, text: assessment.read(text),
    "stations": lambda _, text: registry_toml.read(text, catalogue()),
    "contacts": lambda _, text: toml_file.parse(text, Anything),
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
