"""A TOML file of people's is refused with a reason, whatever it holds; what is written as TOML is read as it was."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.assessment import formula
from governance.incidents import dispatch
from infra import toml_file, toml_text
from infra.errors import ConfigurationError
from infra.times import from_ms, to_ms
from ingest.rules import rule_file
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
    "rules": lambda _, text: rule_file.read(text, catalogue()),
    "processes": lambda _, text: dispatch.read(text),
    "formula": lambda _, text: formula.read(text),
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


INSTANTS = st.integers(0, to_ms(datetime(2109, 1, 1, tzinfo=UTC))).map(from_ms)
SCALARS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",))),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    INSTANTS,
)


@given(st.recursive(SCALARS, st.lists, max_leaves=8))
def test_a_value_written_as_toml_is_read_as_it_was(value: object) -> None:
    read = toml_text.loads("\n".join(toml_text.assignments({"x": value, "y": 1})))
    assert (read, type(read["x"])) == ({"x": value, "y": 1}, type(value))
